//! The set of resources that a client should have: an immutable table, shared by all streams that see the same.
//!
//! A version is a hash of the resource's bytes, so what did not change is not sent again, whoever restarted.

mod chunk;
mod diff;
mod resource;
mod typed;

use crate::types::TypeUrl;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;
use xxhash_rust::xxh3::Xxh3;

pub use chunk::Chunk;
pub use diff::{Diff, diff};
pub use resource::Resource;
pub use typed::TypeTable;

/// What a client should have of all types. Immutable; shared as `Arc<Table>`.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Table {
    types: BTreeMap<TypeUrl, Arc<TypeTable>>,
    version: u64,
}

impl Table {
    /// Collects resources into a table.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// One table of several parts, e.g. a proxy's outbound and inbound resources. A type that only one part has is
    /// shared and not copied; of two resources of one name the later part's counts.
    #[must_use]
    pub fn merge<'a>(parts: impl IntoIterator<Item = &'a Arc<Self>>) -> Self {
        let mut types: BTreeMap<TypeUrl, Arc<TypeTable>> = BTreeMap::new();
        for (type_url, part) in parts.into_iter().flat_map(|table| &table.types) {
            let merged = match types.get(type_url) {
                None => part.clone(),
                Some(first) => {
                    let later = part.iter().map(|each| (each.name.clone(), Some(each.clone())));
                    Arc::new(first.edited(later))
                }
            };
            types.insert(type_url.clone(), merged);
        }
        Self::of(types)
    }

    /// The same table with some resources of a type replaced, added or removed; everything else is shared.
    #[must_use]
    pub fn with(
        &self,
        type_url: &TypeUrl,
        upserts: impl IntoIterator<Item = (Arc<str>, Bytes)>,
        removed: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Self {
        let mut edits: BTreeMap<Arc<str>, Option<Resource>> = BTreeMap::new();
        for name in removed {
            edits.insert(name.as_ref().into(), None);
        }
        for (name, bytes) in upserts {
            edits.insert(name.clone(), Some(Resource::new(type_url, name, bytes)));
        }
        let mut types = self.types.clone();
        types.insert(type_url.clone(), Arc::new(self.of_type(type_url).edited(edits)));
        Self::of(types)
    }

    fn of(mut types: BTreeMap<TypeUrl, Arc<TypeTable>>) -> Self {
        types.retain(|_, table| !table.is_empty());
        let mut hash = Xxh3::new();
        for (type_url, table) in &types {
            hash.update(type_url.as_str().as_bytes());
            hash.update(&table.version().to_le_bytes());
        }
        let version = if types.is_empty() { 0 } else { hash.digest() };
        Self { types, version }
    }

    /// The resources of a type; the empty table when there are none.
    #[must_use]
    pub fn of_type(&self, type_url: &TypeUrl) -> Arc<TypeTable> {
        self.types.get(type_url).cloned().unwrap_or_else(TypeTable::empty)
    }

    /// One resource.
    #[must_use]
    pub fn get(&self, type_url: &TypeUrl, name: &str) -> Option<&Resource> {
        self.types.get(type_url)?.get(name)
    }

    /// The types that have resources.
    pub fn types(&self) -> impl Iterator<Item = (&TypeUrl, &Arc<TypeTable>)> {
        self.types.iter()
    }

    /// A hash of all types' versions; 0 for the empty table.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }
}

/// Collects resources for a [`Table`].
#[derive(Debug, Default)]
pub struct Builder {
    types: BTreeMap<TypeUrl, BTreeMap<Arc<str>, Bytes>>,
}

impl Builder {
    /// Adds one encoded message (no `Any` around it); a second one of the same type and name replaces the first.
    #[must_use]
    pub fn add(mut self, type_url: impl Into<TypeUrl>, name: impl Into<Arc<str>>, bytes: Bytes) -> Self {
        self.insert(type_url.into(), name.into(), bytes);
        self
    }

    /// As [`Builder::add`], in place.
    pub fn insert(&mut self, type_url: TypeUrl, name: Arc<str>, bytes: Bytes) {
        self.types.entry(type_url).or_default().insert(name, bytes);
    }

    /// The table. What is in `previous` already, and equal, is shared with it, so that two tables of neighbouring
    /// snapshots cost the memory of one and compare fast.
    #[must_use]
    pub fn build(self, previous: Option<&Table>) -> Table {
        let mut types = BTreeMap::new();
        for (type_url, named) in self.types {
            let old = previous
                .map(|table| table.of_type(&type_url))
                .unwrap_or_else(TypeTable::empty);
            let resources = named
                .into_iter()
                .map(|(name, bytes)| Resource::new(&type_url, name, bytes));
            let shared = if old.is_empty() {
                Arc::new(TypeTable::of_sorted(resources))
            } else {
                match typed::edits(old.iter(), resources) {
                    edits if edits.is_empty() => old,
                    edits => Arc::new(old.edited(edits)),
                }
            };
            types.insert(type_url, shared);
        }
        Table::of(types)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{ENDPOINTS, LISTENER};
    use proptest::prelude::*;

    type Model = BTreeMap<String, u8>;

    fn table(model: &Model, previous: Option<&Table>) -> Table {
        let mut builder = Table::builder();
        for (name, content) in model {
            builder.insert(
                LISTENER,
                name.as_str().into(),
                Bytes::copy_from_slice(&[*content]),
            );
        }
        builder.build(previous)
    }

    fn models() -> impl Strategy<Value = Model> {
        proptest::collection::btree_map("[a-z]", 0..3u8, 0..20)
    }

    proptest! {
        #[test]
        fn a_diff_turns_the_old_table_into_the_new(old in models(), new in models()) {
            let (before, after) = (table(&old, None), table(&new, None));
            let diff = diff(&before.of_type(&LISTENER), &after.of_type(&LISTENER));
            let mut patched = old.clone();
            for gone in &diff.removed {
                prop_assert!(patched.remove(gone.name.as_ref()).is_some(), "removes only what was there");
            }
            for changed in diff.changed.iter() {
                let content = changed.bytes[0];
                prop_assert_ne!(patched.insert(changed.name.to_string(), content), Some(content));
            }
            prop_assert_eq!(before.version() == after.version(), old == new);
            prop_assert_eq!(patched, new);
        }

        #[test]
        fn a_patched_table_is_the_table_built_anew(old in models(), new in models()) {
            let (before, after) = (table(&old, None), table(&new, None));
            let diff = diff(&before.of_type(&LISTENER), &after.of_type(&LISTENER));
            let upserts = diff.changed.iter().map(|each| (each.name.clone(), each.bytes.clone()));
            let patched = before.with(&LISTENER, upserts, diff.removed.iter().map(|each| &each.name));
            prop_assert_eq!(&patched, &after);
            prop_assert_eq!(patched.version(), after.version());
        }

        #[test]
        fn what_did_not_change_is_shared(old in models(), new in models()) {
            let before = table(&old, None);
            let after = table(&new, Some(&before));
            for resource in after.of_type(&LISTENER).iter() {
                let Some(was) = before.get(&LISTENER, &resource.name) else { continue };
                prop_assert_eq!(was.version == resource.version, Arc::ptr_eq(&was.name, &resource.name));
            }
            let same = Arc::ptr_eq(&before.of_type(&LISTENER), &after.of_type(&LISTENER));
            prop_assert_eq!(same, old == new);
        }
    }

    #[test]
    fn a_difference_shares_the_runs_of_the_newer_table() {
        let names =
            |range: std::ops::Range<u8>| range.map(|at| (char::from(b'a' + at).to_string(), at)).collect();
        let (before, after): (Model, Model) = (names(0..3), names(0..9));
        let before = table(&before, None);
        let after = table(&after, Some(&before)).of_type(&LISTENER);
        let diff = after.difference_from(&before.of_type(&LISTENER));
        let of = |table: &TypeTable| -> Vec<_> { table.chunks().iter().map(Arc::as_ptr).collect() };
        assert_eq!(of(&diff.changed), of(&after)[1..]);
        assert!(
            Arc::ptr_eq(&diff, &after.difference_from(&before.of_type(&LISTENER))),
            "computed once"
        );
    }

    #[test]
    fn merging_keeps_all_types_and_the_later_of_two() {
        let one = Arc::new(
            Table::builder()
                .add(LISTENER, "a", "1".into())
                .add(ENDPOINTS, "e", "1".into())
                .build(None),
        );
        let two = Arc::new(
            Table::builder()
                .add(LISTENER, "a", "2".into())
                .add(LISTENER, "b", "2".into())
                .build(None),
        );
        let merged = Table::merge([&one, &two]);
        let seen: Vec<_> = merged
            .of_type(&LISTENER)
            .iter()
            .map(|each| each.bytes.clone())
            .collect();
        assert_eq!(seen, [Bytes::from("2"), Bytes::from("2")]);
        assert!(Arc::ptr_eq(&merged.of_type(&ENDPOINTS), &one.of_type(&ENDPOINTS)));
    }
}
