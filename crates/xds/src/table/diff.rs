//! The difference between two tables of one type. Runs that both share are passed over.

use super::chunk::{Chunk, Runs};
use super::resource::Resource;
use super::typed::TypeTable;
use std::cmp::Ordering;
use std::sync::Arc;

/// The difference between two tables of one type.
#[derive(Debug, PartialEq, Eq)]
pub struct Diff {
    /// New or with another version, as in the newer table.
    pub changed: Arc<TypeTable>,
    /// In the older table only.
    pub removed: Vec<Resource>,
}

impl Default for Diff {
    fn default() -> Self {
        Self {
            changed: TypeTable::empty(),
            removed: Vec::new(),
        }
    }
}

/// A place in a table.
struct Cursor<'a> {
    chunks: std::slice::Iter<'a, Arc<Chunk>>,
    chunk: Option<&'a Arc<Chunk>>,
    at: usize,
}

impl<'a> Cursor<'a> {
    fn new(table: &'a TypeTable) -> Self {
        let mut chunks = table.chunks().iter();
        let chunk = chunks.next();
        Self { chunks, chunk, at: 0 }
    }

    fn peek(&self) -> Option<&'a Resource> {
        self.chunk?.resources.get(self.at)
    }

    fn next(&mut self) -> Option<&'a Resource> {
        let next = self.peek();
        self.at += 1;
        if self.chunk.is_some_and(|chunk| self.at >= chunk.resources.len()) {
            self.skip();
        }
        next
    }

    /// The run that begins here.
    fn whole(&self) -> Option<&'a Arc<Chunk>> {
        self.chunk.filter(|_| self.at == 0)
    }

    fn skip(&mut self) {
        self.chunk = self.chunks.next();
        self.at = 0;
    }
}

/// What turns `old` into `new`, in order of names. Two tables of equal content cost nothing.
#[must_use]
pub fn diff(old: &TypeTable, new: &TypeTable) -> Diff {
    if old.version() == new.version() {
        return Diff::default();
    }
    let (mut left, mut right) = (Cursor::new(old), Cursor::new(new));
    let (mut changed, mut removed) = (Runs::default(), Vec::new());
    loop {
        if let (Some(one), Some(two)) = (left.whole(), right.whole())
            && Arc::ptr_eq(one, two)
        {
            left.skip();
            right.skip();
            continue;
        }
        if let Some(run) = right.whole()
            && left.peek().is_none_or(|was| *was.name > *run.last_name())
        {
            changed.push_chunk(run);
            right.skip();
            continue;
        }
        let order = match (left.peek(), right.peek()) {
            (None, None) => break,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(was), Some(is)) => was.name.cmp(&is.name),
        };
        let was = if order.is_le() { left.next() } else { None };
        let is = if order.is_ge() { right.next() } else { None };
        match (was, is) {
            (Some(was), Some(is)) if was.version == is.version => {}
            (_, Some(is)) => changed.push(is.clone()),
            (Some(gone), None) => removed.push(gone.clone()),
            (None, None) => {}
        }
    }
    Diff {
        changed: Arc::new(TypeTable::of_chunks(changed.finish())),
        removed,
    }
}
