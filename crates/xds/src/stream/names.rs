//! Sets of names that streams share. Proxies of one scope subscribe to the same names; a thousand names are kept once and
//! not once for each of them.

use crate::table::TypeTable;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Names that some stream subscribed to in one request. Immutable.
#[derive(Debug, Default)]
pub(super) struct Set {
    /// In the order of the request; another client's is often the same.
    order: Vec<Arc<str>>,
    index: HashSet<Arc<str>>,
    /// Length of all names.
    bytes: usize,
    covers: Mutex<Option<(u64, Arc<Coverage>)>>,
}

/// What of a table a set of names asks for.
#[derive(Debug)]
pub(super) struct Coverage {
    /// The set has all names of the table.
    pub(super) all: bool,
    /// Names that the table lacks.
    pub(super) missing: Vec<Arc<str>>,
}

impl Set {
    fn new(names: Vec<String>) -> Self {
        let mut set = Self::default();
        for name in names {
            let name: Arc<str> = name.into();
            if set.index.insert(name.clone()) {
                set.bytes += name.len();
                set.order.push(name);
            }
        }
        set
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.index.contains(name)
    }

    pub(super) fn iter(&self) -> std::slice::Iter<'_, Arc<str>> {
        self.order.iter()
    }

    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    /// How it stands to a table; found once for each table, however many streams share the set.
    pub(super) fn coverage(&self, table: &TypeTable) -> Arc<Coverage> {
        let mut known = self.covers.lock().unwrap_or_else(PoisonError::into_inner);
        match &*known {
            Some((version, coverage)) if *version == table.version() => coverage.clone(),
            _ => {
                let lacks = |name: &&Arc<str>| table.get(name).is_none();
                let missing: Vec<_> = self.order.iter().filter(lacks).cloned().collect();
                let coverage = Arc::new(Coverage {
                    all: self.order.len() - missing.len() == table.len(),
                    missing,
                });
                *known = Some((table.version(), coverage.clone()));
                coverage
            }
        }
    }

    /// Whether it is the set of these names.
    fn is(&self, names: &[String]) -> bool {
        if self.order.len() != names.len() {
            return false;
        }
        let same_order = self.order.iter().zip(names).all(|(own, name)| **own == **name);
        same_order || {
            let known: HashSet<&str> = names.iter().map(String::as_str).collect();
            known.len() == names.len() && known.iter().all(|name| self.contains(name))
        }
    }
}

/// The sets in use. Streams of one server share it.
#[derive(Debug, Default)]
pub struct Pool {
    state: Mutex<Known>,
    hasher: RandomState,
}

#[derive(Debug, Default)]
struct Known {
    /// By a hash of the names in whatever order.
    sets: HashMap<u64, Weak<Set>>,
    /// Sets that nobody uses are dropped when there are this many.
    swept_at: usize,
}

/// Fewer sets than this are not swept.
const FEW_SETS: usize = 64;

impl Pool {
    /// The shared set of these names.
    pub(super) fn set(&self, names: Vec<String>) -> Arc<Set> {
        let hash = names
            .iter()
            .fold(0u64, |sum, name| sum.wrapping_add(self.hasher.hash_one(name)));
        let mut known = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let found = known.sets.get(&hash).and_then(Weak::upgrade);
        if let Some(set) = found.filter(|set| set.is(&names)) {
            return set;
        }
        let set = Arc::new(Set::new(names));
        if known.sets.len() >= known.swept_at.max(FEW_SETS) {
            known.sets.retain(|_, set| set.strong_count() > 0);
            known.swept_at = 2 * known.sets.len();
        }
        known.sets.insert(hash, Arc::downgrade(&set));
        set
    }
}

/// A changing set of names on top of a shared one.
#[derive(Debug, Default)]
pub(super) struct Names {
    shared: Arc<Set>,
    added: HashSet<Arc<str>>,
    /// Length of the names in `added`.
    added_bytes: usize,
    removed: HashSet<Arc<str>>,
}

impl Names {
    pub(super) fn contains(&self, name: &str) -> bool {
        self.added.contains(name) || (self.shared.contains(name) && !self.removed.contains(name))
    }

    pub(super) fn len(&self) -> usize {
        self.shared.len() + self.added.len() - self.removed.len()
    }

    /// Length of all names that are kept for it, those of the shared set that were taken out among them.
    pub(super) fn bytes(&self) -> usize {
        self.shared.bytes + self.added_bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn insert(&mut self, name: Arc<str>) {
        if !self.removed.remove(&name) && !self.shared.contains(&name) {
            let bytes = name.len();
            self.added_bytes += if self.added.insert(name) { bytes } else { 0 };
        }
    }

    /// Takes a name out; gives it if it was in.
    pub(super) fn take(&mut self, name: &str) -> Option<Arc<str>> {
        if let Some(own) = self.added.take(name) {
            self.added_bytes -= own.len();
            return Some(own);
        }
        let shared = self.shared.index.get(name).cloned()?;
        self.removed.insert(shared.clone()).then_some(shared)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<str>> {
        let shared = self.shared.iter().filter(|name| !self.removed.contains(*name));
        shared.chain(&self.added)
    }

    /// Begins with a shared set; must be empty before.
    pub(super) fn begin(&mut self, set: Arc<Set>) {
        *self = Self {
            shared: set,
            ..Self::default()
        };
    }

    /// The shared set, if that is all.
    pub(super) fn only_shared(&self) -> Option<&Arc<Set>> {
        (self.added.is_empty() && self.removed.is_empty()).then_some(&self.shared)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn list(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn equal_sets_are_shared_in_whatever_order() {
        let pool = Pool::default();
        let one = pool.set(list("a b c"));
        assert!(Arc::ptr_eq(&one, &pool.set(list("a b c"))));
        assert!(Arc::ptr_eq(&one, &pool.set(list("c a b"))));
        assert!(!Arc::ptr_eq(&one, &pool.set(list("a b"))));
        assert_eq!(pool.set(list("a a b")).len(), 2);
    }

    #[test]
    fn sets_that_nobody_uses_are_dropped() {
        let pool = Pool::default();
        for number in 0..10 * FEW_SETS {
            pool.set(vec![number.to_string()]);
        }
        assert!(pool.state.lock().unwrap().sets.len() <= FEW_SETS + 1);
    }

    proptest! {
        #[test]
        fn a_set_over_a_shared_one_is_a_set(shared in "[a-f ]{0,9}", steps in proptest::collection::vec((any::<bool>(), "[a-f]"), 0..12)) {
            let mut names = Names::default();
            let first: Vec<String> = list(&shared.chars().flat_map(|c| [c, ' ']).collect::<String>());
            let mut model: BTreeSet<String> = first.iter().cloned().collect();
            names.begin(Pool::default().set(first));
            for (add, name) in steps {
                if add {
                    names.insert(name.as_str().into());
                    model.insert(name);
                } else {
                    prop_assert_eq!(names.take(&name).is_some(), model.remove(&name));
                }
                prop_assert_eq!(names.len(), model.len());
                let seen: BTreeSet<String> = names.iter().map(ToString::to_string).collect();
                prop_assert_eq!(&seen, &model);
                prop_assert!("abcdef".chars().map(String::from).all(|name| names.contains(&name) == model.contains(&name)));
            }
        }
    }
}
