//! A place in an expression.

use crate::{Fault, Problem};

#[derive(Clone, Copy)]
pub(crate) struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// What is still to be read.
    pub(crate) fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    pub(crate) fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    pub(crate) fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    /// Reads a text if it is next.
    pub(crate) fn eat(&mut self, expected: &str) -> bool {
        let is_next = self.rest().starts_with(expected);
        if is_next {
            self.at += expected.len();
        }
        is_next
    }

    /// What stands before `end`, which is read too; nothing is read if there is none.
    pub(crate) fn until(&mut self, end: &str) -> Option<&'a str> {
        let (text, _) = self.rest().split_once(end)?;
        self.at += text.len() + end.len();
        Some(text)
    }

    /// What was read since an earlier place.
    pub(crate) fn since(&self, start: Cursor<'a>) -> &'a str {
        self.text.get(start.at..self.at).unwrap_or_default()
    }

    /// Something wrong here.
    pub(crate) fn fault(&self, problem: Problem) -> Fault {
        let before = self.text.get(..self.at).unwrap_or_default();
        Fault {
            at: before.chars().count() + 1,
            problem,
        }
    }
}
