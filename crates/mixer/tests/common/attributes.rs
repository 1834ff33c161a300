//! Attributes as callers of the Mixer API send them.
#![allow(dead_code, reason = "each test takes what it needs")]

use std::net::Ipv4Addr;

use proto::mixer::{CompressedAttributes, StringMap};

/// Attributes as a proxy compresses them: what the global dictionary lacks goes into `words`.
#[derive(Clone, Default)]
pub(crate) struct Attributes(pub(crate) CompressedAttributes);

impl Attributes {
    pub(crate) fn word(&mut self, word: &str) -> i32 {
        let words = &mut self.0.words;
        let at = words.iter().position(|known| known == word).unwrap_or_else(|| {
            words.push(word.to_owned());
            words.len() - 1
        });
        -i32::try_from(at).unwrap() - 1
    }

    pub(crate) fn text(mut self, name: &str, value: &str) -> Self {
        let (name, value) = (self.word(name), self.word(value));
        self.0.strings.insert(name, value);
        self
    }

    pub(crate) fn int(mut self, name: &str, value: i64) -> Self {
        let name = self.word(name);
        self.0.int64s.insert(name, value);
        self
    }

    pub(crate) fn ip(mut self, name: &str, value: Ipv4Addr) -> Self {
        let name = self.word(name);
        self.0.bytes.insert(name, value.octets().to_vec());
        self
    }

    /// A map of one entry.
    pub(crate) fn map(mut self, name: &str, key: &str, value: &str) -> Self {
        let (name, key, value) = (self.word(name), self.word(key), self.word(value));
        let entries = [(key, value)].into();
        self.0.string_maps.insert(name, StringMap { entries });
        self
    }
}
