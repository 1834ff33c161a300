//! What the client of one stream has of one type: the table that was last sent, and where the client differs from it.
//!
//! Streams that stand at the same table share it, so a stream costs what it differs and not what it has.

use crate::table::{Resource, TypeTable, diff};
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
}

impl Default for Held {
    fn default() -> Self {
        Self {
            base: TypeTable::empty(),
            differs: HashMap::new(),
        }
    }
}

impl Held {
    pub(super) fn get(&self, name: &str) -> Hold {
        self.differs
            .get(name)
            .cloned()
            .unwrap_or_else(|| self.in_base(name))
    }

    fn in_base(&self, name: &str) -> Hold {
        self.base.get(name).cloned().map_or(Hold::Nothing, Hold::Has)
    }

    pub(super) fn set(&mut self, name: Arc<str>, hold: Hold) {
        if hold == self.in_base(&name) {
            self.differs.remove(&name);
        } else {
            self.differs.insert(name, hold);
        }
    }

    /// Names where the client may differ from `target`, in order.
    pub(super) fn suspects(&self, target: &TypeTable) -> BTreeSet<Arc<str>> {
        let diff = diff(&self.base, target);
        let changed = diff
            .changed
            .into_iter()
            .chain(diff.removed)
            .map(|resource| resource.name);
        changed.chain(self.differs.keys().cloned()).collect()
    }

    /// Takes another table as the shared base; what the client has stays the same.
    pub(super) fn rebase(&mut self, base: Arc<TypeTable>) {
        for name in self.suspects(&base) {
            let hold = self.get(&name);
            self.differs.insert(name, hold);
        }
        self.base = base;
        let base = &self.base;
        self.differs.retain(|name, hold| match (hold, base.get(name)) {
            (Hold::Has(has), Some(is)) => has != is,
            (Hold::Nothing, None) => false,
            _ => true,
        });
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
        let kept: Vec<_> = self.names().into_iter().filter(|name| keep(name)).collect();
        let asked = self
            .differs
            .iter()
            .filter(|(name, hold)| **hold == Hold::Asked && keep(name));
        let asked: Vec<_> = asked.map(|(name, _)| name.clone()).collect();
        let holds: Vec<_> = kept
            .into_iter()
            .chain(asked)
            .map(|name| (name.clone(), self.get(&name)))
            .collect();
        *self = Self::default();
        self.differs.extend(holds);
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
