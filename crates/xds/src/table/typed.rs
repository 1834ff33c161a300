//! All resources of one type. Two tables that differ in little share the rest, and telling what they differ in costs
//! little.

use super::chunk::{Chunk, Runs};
use super::diff::{Diff, diff};
use super::resource::Resource;
use std::cmp::Ordering;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

/// Differences that a table remembers: streams stand at few older tables at a time.
const REMEMBERED: usize = 4;

/// All resources of one type, sorted by name.
#[derive(Debug, Default)]
pub struct TypeTable {
    chunks: Vec<Arc<Chunk>>,
    len: usize,
    version: u64,
    /// By the version of the older table.
    differences: Mutex<Vec<(u64, Arc<Diff>)>>,
}

impl PartialEq for TypeTable {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for TypeTable {}

static EMPTY: LazyLock<Arc<TypeTable>> = LazyLock::new(Arc::default);

/// What becomes of one name.
pub(super) type Edit = (Arc<str>, Option<Resource>);

impl TypeTable {
    /// The table without resources, shared.
    #[must_use]
    pub fn empty() -> Arc<Self> {
        EMPTY.clone()
    }

    pub(super) fn of_chunks(chunks: Vec<Arc<Chunk>>) -> Self {
        let hash = chunks
            .iter()
            .fold(0u64, |sum, chunk| sum.wrapping_add(chunk.hash));
        Self {
            len: chunks.iter().map(|chunk| chunk.resources.len()).sum(),
            // 0 says that there is nothing.
            version: if chunks.is_empty() { 0 } else { hash.max(1) },
            chunks,
            differences: Mutex::default(),
        }
    }

    /// A table of resources in order of their names, each name once.
    pub(super) fn of_sorted(resources: impl IntoIterator<Item = Resource>) -> Self {
        let mut runs = Runs::default();
        resources.into_iter().for_each(|each| runs.push(each));
        Self::of_chunks(runs.finish())
    }

    /// The same table with some names edited, given in order, each once. All other runs are shared.
    pub(super) fn edited(&self, edits: impl IntoIterator<Item = Edit>) -> Self {
        let mut edits = edits.into_iter().peekable();
        let mut runs = Runs::default();
        for (at, chunk) in self.chunks.iter().enumerate() {
            let is_last = at + 1 == self.chunks.len();
            let within = |(name, _): &Edit| is_last || **name <= *chunk.last_name();
            if edits.peek().is_some_and(within) {
                let mut old = chunk.iter().peekable();
                while let Some((name, new)) = edits.next_if(within) {
                    while let Some(before) = old.next_if(|each| each.name < name) {
                        runs.push(before.clone());
                    }
                    old.next_if(|each| each.name == name);
                    new.into_iter().for_each(|each| runs.push(each));
                }
                old.for_each(|rest| runs.push(rest.clone()));
            } else {
                runs.push_chunk(chunk);
            }
        }
        edits.filter_map(|(_, new)| new).for_each(|each| runs.push(each));
        Self::of_chunks(runs.finish())
    }

    /// This table with the resources of runs added or replaced.
    pub(crate) fn with_chunks(&self, chunks: &[Arc<Chunk>]) -> Self {
        if self.is_empty() {
            return Self::of_chunks(chunks.to_vec());
        }
        let new = chunks.iter().flat_map(|chunk| chunk.iter());
        self.edited(new.map(|each| (each.name.clone(), Some(each.clone()))))
    }

    pub(crate) fn chunks(&self) -> &[Arc<Chunk>] {
        &self.chunks
    }

    /// What turns `old` into this table. Computed once, however many streams stand at `old`.
    pub(crate) fn difference_from(self: &Arc<Self>, old: &Self) -> Arc<Diff> {
        if old.is_empty() {
            return Arc::new(Diff {
                changed: self.clone(),
                removed: Vec::new(),
            });
        }
        if old.version == self.version {
            return Arc::default();
        }
        let mut known = self.differences.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, diff)) = known.iter().find(|(version, _)| *version == old.version) {
            return diff.clone();
        }
        let diff = Arc::new(diff(old, self));
        if known.len() >= REMEMBERED {
            known.remove(0);
        }
        known.push((old.version, diff.clone()));
        diff
    }

    /// The resource of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Resource> {
        let at = self.chunks.partition_point(|chunk| chunk.last_name() < name);
        self.chunks.get(at)?.get(name)
    }

    /// All resources in order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &Resource> {
        self.chunks.iter().flat_map(|chunk| chunk.iter())
    }

    /// How many resources there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// A hash of all names and versions, in whatever runs they are; 0 for the empty table.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }
}

/// The edits that turn `old` into `new`, both in order of names. A resource of equal version stays as it is.
pub(super) fn edits<'a>(
    old: impl Iterator<Item = &'a Resource>,
    new: impl Iterator<Item = Resource>,
) -> Vec<Edit> {
    let (mut old, mut new) = (old.peekable(), new.peekable());
    let mut edits = Vec::new();
    loop {
        let order = match (old.peek(), new.peek()) {
            (None, None) => return edits,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(was), Some(is)) => was.name.cmp(&is.name),
        };
        let was = if order.is_le() { old.next() } else { None };
        let is = if order.is_ge() { new.next() } else { None };
        match (was, is) {
            (Some(was), Some(is)) if was.version == is.version => {}
            (_, Some(is)) => edits.push((is.name.clone(), Some(is))),
            (Some(gone), None) => edits.push((gone.name.clone(), None)),
            (None, None) => {}
        }
    }
}
