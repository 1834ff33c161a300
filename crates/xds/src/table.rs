//! The set of resources that a client should have: an immutable table, shared by all streams that see the same.
//!
//! A version is a hash of the resource's bytes, so what did not change is not sent again, whoever restarted.

use crate::cluster;
use crate::types::{CLUSTER, TypeUrl};
use bytes::Bytes;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// One encoded resource. Cloning it shares the bytes.
#[derive(Clone, Debug)]
pub struct Resource {
    /// Unique within its type.
    pub name: Arc<str>,
    /// xxh3 of `bytes`.
    pub version: u64,
    /// The encoded message, without the `Any` around it.
    pub bytes: Bytes,
    /// For an EDS cluster: the name of the `ClusterLoadAssignment` that Envoy waits for after each change of it.
    pub endpoints: Option<Arc<str>>,
}

impl PartialEq for Resource {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.version == other.version
    }
}

impl Eq for Resource {}

impl Resource {
    pub(crate) fn new(type_url: &TypeUrl, name: Arc<str>, bytes: Bytes) -> Self {
        let version = xxh3_64(&bytes);
        let endpoints = (*type_url == CLUSTER)
            .then(|| cluster::endpoints_name(&name, &bytes))
            .flatten();
        Self {
            name,
            version,
            bytes,
            endpoints,
        }
    }
}

/// All resources of one type, sorted by name.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct TypeTable {
    resources: Vec<Resource>,
    version: u64,
}

static EMPTY: LazyLock<Arc<TypeTable>> = LazyLock::new(Arc::default);

impl TypeTable {
    /// The table without resources, shared.
    #[must_use]
    pub fn empty() -> Arc<Self> {
        EMPTY.clone()
    }

    fn new(resources: BTreeMap<Arc<str>, Resource>) -> Self {
        let mut hash = Xxh3::new();
        for resource in resources.values() {
            hash.update(resource.name.as_bytes());
            hash.update(&[0xff]);
            hash.update(&resource.version.to_le_bytes());
        }
        let version = if resources.is_empty() { 0 } else { hash.digest() };
        Self {
            resources: resources.into_values().collect(),
            version,
        }
    }

    /// The resource of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Resource> {
        let at = self
            .resources
            .binary_search_by(|resource| resource.name.as_ref().cmp(name))
            .ok()?;
        self.resources.get(at)
    }

    /// All resources in order of their names.
    pub fn iter(&self) -> std::slice::Iter<'_, Resource> {
        self.resources.iter()
    }

    /// How many resources there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.resources.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.resources.is_empty()
    }

    /// A hash of all names and versions; 0 for the empty table.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }
}

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
                    let all = first.iter().chain(part.iter());
                    Arc::new(TypeTable::new(
                        all.map(|each| (each.name.clone(), each.clone())).collect(),
                    ))
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
        let old = self.of_type(type_url);
        let mut resources: BTreeMap<_, _> =
            old.iter().map(|each| (each.name.clone(), each.clone())).collect();
        for name in removed {
            resources.remove(name.as_ref());
        }
        for (name, bytes) in upserts {
            resources.insert(name.clone(), Resource::new(type_url, name, bytes));
        }
        let mut types = self.types.clone();
        types.insert(type_url.clone(), Arc::new(TypeTable::new(resources)));
        Self::of(types)
    }

    fn of(mut types: BTreeMap<TypeUrl, Arc<TypeTable>>) -> Self {
        types.retain(|_, table| !table.is_empty());
        let mut hash = Xxh3::new();
        for (type_url, table) in &types {
            hash.update(type_url.as_str().as_bytes());
            hash.update(&table.version.to_le_bytes());
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
            let resources = named.into_iter().map(|(name, bytes)| {
                let new = Resource::new(&type_url, name, bytes);
                let kept = old.get(&new.name).filter(|kept| kept.version == new.version);
                (new.name.clone(), kept.cloned().unwrap_or(new))
            });
            let table = TypeTable::new(resources.collect());
            let shared = if table.version == old.version {
                old
            } else {
                Arc::new(table)
            };
            types.insert(type_url, shared);
        }
        Table::of(types)
    }
}

/// The difference between two tables of one type.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Diff {
    /// New or with another version, as in the newer table.
    pub changed: Vec<Resource>,
    /// In the older table only.
    pub removed: Vec<Resource>,
}

/// What turns `old` into `new`, in order of names. Two tables of equal content cost nothing.
#[must_use]
pub fn diff(old: &TypeTable, new: &TypeTable) -> Diff {
    let mut diff = Diff::default();
    if old.version == new.version {
        return diff;
    }
    let (mut left, mut right) = (old.iter().peekable(), new.iter().peekable());
    loop {
        let order = match (left.peek(), right.peek()) {
            (None, None) => return diff,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(was), Some(is)) => was.name.cmp(&is.name),
        };
        let was = if order.is_le() { left.next() } else { None };
        let is = if order.is_ge() { right.next() } else { None };
        match (was, is) {
            (Some(was), Some(is)) if was.version == is.version => {}
            (_, Some(is)) => diff.changed.push(is.clone()),
            (Some(gone), None) => diff.removed.push(gone.clone()),
            (None, None) => {}
        }
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
        proptest::collection::btree_map("[a-f]", 0..3u8, 0..6)
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
            for changed in &diff.changed {
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
