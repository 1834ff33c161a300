//! What the client of one stream has of one type: the table that was last sent, and where the client differs from it.
//!
//! Streams that stand at the same table share it, so a stream costs what it differs and not what it has.

use super::names::Set;
use crate::table::{Resource, TypeTable};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// What the client has under one name, as far as the server can know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Hold {
    /// This version was sent (or the client said it has it; then there are no bytes).
    Has(Resource),
    /// Nothing, and the client knows that there is nothing or does not wait for it.
    Nothing,
    /// The client waits for an answer, whatever was sent before.
    Asked,
}

/// The client's resources of one type.
#[derive(Debug)]
pub(super) struct Held {
    base: Arc<TypeTable>,
    differs: HashMap<Arc<str>, Hold>,
    /// Names that were asked for together: what the base lacks of them is [`Hold::Asked`].
    asked: Option<Arc<Set>>,
}

impl Default for Held {
    fn default() -> Self {
        Self {
            base: TypeTable::empty(),
            differs: HashMap::new(),
            asked: None,
        }
    }
}

impl Held {
    pub(super) fn get(&self, name: &str) -> Hold {
        self.differs
            .get(name)
            .cloned()
            .unwrap_or_else(|| self.under(name))
    }

    /// What it has, if it does not differ.
    fn under(&self, name: &str) -> Hold {
        before(&self.base, self.asked.as_deref(), name)
    }

    pub(super) fn set(&mut self, name: Arc<str>, hold: Hold) {
        if hold == self.under(&name) {
            self.differs.remove(&name);
        } else {
            self.differs.insert(name, hold);
        }
    }

    /// The shared table, if the client differs from it in nothing.
    pub(super) fn plain(&self) -> Option<&Arc<TypeTable>> {
        self.differs.is_empty().then_some(&self.base)
    }

    /// Names that were asked for together and not all answered.
    pub(super) fn asked(&self) -> Option<&Arc<Set>> {
        self.asked.as_ref()
    }

    /// The client waits for all of these names. Says whether that could be noted without a note for each: only where
    /// nothing is known yet.
    pub(super) fn ask_all(&mut self, names: &Arc<Set>) -> bool {
        let fresh = self.base.is_empty() && self.differs.is_empty() && self.asked.is_none();
        if fresh {
            self.asked = Some(names.clone());
        }
        fresh
    }

    /// The client, which differed in nothing, has now what this table has.
    pub(super) fn advance(&mut self, base: Arc<TypeTable>, complete: bool) {
        self.base = base;
        self.asked = self.asked.take().filter(|_| !complete);
    }

    /// The client has what passes of `table` from an earlier stream. What it waits for stays as it is.
    pub(super) fn resume(&mut self, table: Arc<TypeTable>, has: impl Fn(&Resource) -> bool) {
        let asked = self.asked.take();
        let waits = asked.iter().flat_map(|set| set.iter());
        let waits = waits
            .map(|name| (name.clone(), Hold::Asked))
            .chain(self.differs.drain());
        let waits: Vec<_> = waits.collect();
        let lacks = table.iter().filter(|each| !has(each));
        self.differs = lacks.map(|each| (each.name.clone(), Hold::Nothing)).collect();
        self.differs.extend(waits);
        self.base = table;
    }

    /// Names where the client may differ from `target`, in order.
    pub(super) fn suspects(&self, target: &Arc<TypeTable>) -> BTreeSet<Arc<str>> {
        let diff = target.difference_from(&self.base);
        let changed = diff.changed.iter().chain(&diff.removed);
        let asked = self.asked.iter().flat_map(|set| set.iter());
        let names = changed.map(|resource| &resource.name);
        names.chain(self.differs.keys()).chain(asked).cloned().collect()
    }

    /// Takes another table as the shared base; what the client has stays the same.
    pub(super) fn rebase(&mut self, base: Arc<TypeTable>) {
        for name in self.suspects(&base) {
            let hold = self.get(&name);
            self.differs.insert(name, hold);
        }
        self.asked = None;
        self.base = base;
        let base = &self.base;
        self.differs.retain(|name, hold| match (hold, base.get(name)) {
            (Hold::Has(has), Some(is)) => has != is,
            (Hold::Nothing, None) => false,
            _ => true,
        });
        self.differs.shrink_to_fit();
    }

    /// Names that the client has.
    pub(super) fn names(&self) -> BTreeSet<Arc<str>> {
        self.resources()
            .into_iter()
            .map(|resource| resource.name)
            .collect()
    }

    /// All that the client has, in order of names.
    pub(super) fn resources(&self) -> Vec<Resource> {
        let unchanged = self
            .base
            .iter()
            .filter(|each| !self.differs.contains_key(&each.name));
        let others = self.differs.values().filter_map(|hold| match hold {
            Hold::Has(resource) => Some(resource),
            Hold::Nothing | Hold::Asked => None,
        });
        let mut all: Vec<_> = unchanged.chain(others).cloned().collect();
        all.sort_by(|left, right| left.name.cmp(&right.name));
        all
    }

    /// Forgets what the client has of names that do not pass.
    pub(super) fn keep_only(&mut self, keep: impl Fn(&str) -> bool) {
        let asked = self.asked.iter().flat_map(|set| set.iter());
        let mut names: BTreeSet<Arc<str>> = self.differs.keys().chain(asked).cloned().collect();
        names.extend(self.names());
        let kept = names.into_iter().filter(|name| keep(name));
        let holds = kept.map(|name| (self.get(&name), name));
        let holds = holds.filter(|(hold, _)| *hold != Hold::Nothing);
        let differs = holds.map(|(hold, name)| (name, hold)).collect();
        *self = Self {
            differs,
            ..Self::default()
        };
    }
}

/// What a client has that differs in nothing from a table and the names that it waits for.
pub(super) fn before(base: &TypeTable, asked: Option<&Set>, name: &str) -> Hold {
    match base.get(name) {
        Some(resource) => Hold::Has(resource.clone()),
        None if asked.is_some_and(|set| set.contains(name)) => Hold::Asked,
        None => Hold::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Table;
    use crate::types::LISTENER;
    use bytes::Bytes;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn table(model: &BTreeMap<String, u8>) -> Arc<TypeTable> {
        let mut builder = Table::builder();
        for (name, content) in model {
            builder.insert(
                LISTENER,
                name.as_str().into(),
                Bytes::copy_from_slice(&[*content]),
            );
        }
        builder.build(None).of_type(&LISTENER)
    }

    proptest! {
        #[test]
        fn another_base_changes_nothing_that_the_client_has(
            bases in proptest::collection::vec(proptest::collection::btree_map("[a-e]", 0..3u8, 0..5), 1..4),
            sets in proptest::collection::vec(("[a-e]", 0..5u8), 0..8),
        ) {
            let mut held = Held::default();
            let mut model: BTreeMap<String, Hold> = BTreeMap::new();
            let source = table(&["a", "b", "c", "d", "e"].map(|name| (name.to_owned(), 1)).into());
            for (at, (name, what)) in sets.iter().enumerate() {
                let hold = match what {
                    0 => Hold::Nothing,
                    1 => Hold::Asked,
                    _ => Hold::Has(source.get(name).unwrap().clone()),
                };
                held.set(name.as_str().into(), hold.clone());
                model.insert(name.clone(), hold);
                held.rebase(table(&bases[at % bases.len()]));
            }
            for name in ["a", "b", "c", "d", "e"] {
                let expected = model.get(name).cloned().unwrap_or(Hold::Nothing);
                prop_assert_eq!(held.get(name), expected, "{}", name);
            }
        }
    }
}
