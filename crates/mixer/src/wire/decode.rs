//! Istio's compressed attributes, decoded within bounds: words of the global dictionary and of the message, types as in the
//! vocabulary, each name once.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;

use expr::{STANDARD, Timestamp, Value, ValueType, Vocabulary};
use proto::mixer::CompressedAttributes;

use super::dictionary;
use super::sent::{Entries, Sent};
use crate::attributes::time;

/// Most attributes of one set.
const MAX_ATTRIBUTES: usize = 1_000;
/// Most entries of one map.
const MAX_ENTRIES: usize = 1_000;
/// Most words of one message.
const MAX_WORDS: usize = 20_000;

/// Why a set of attributes cannot be read. The caller's library is at fault, or of another release.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadAttributes {
    /// There is no such word.
    #[error(
        "word {0} is in no dictionary: the global one has {count}, the message has {1}; send words that it lacks in `words`",
        count = dictionary::len()
    )]
    NoWord(i32, usize),
    /// There is more of something than Mixer takes.
    #[error("a set of attributes has more than {limit} {what}; send fewer")]
    TooMany { what: &'static str, limit: usize },
    /// A value of another type than the vocabulary says.
    #[error("attribute {name} is {expected} in Istio's vocabulary, but was sent as {found}")]
    WrongType {
        name: String,
        expected: ValueType,
        found: &'static str,
    },
    /// One name twice in one set.
    #[error("attribute {0} was sent twice, as values of different types")]
    Twice(String),
}

/// Both dictionaries of a message.
struct Words<'m>(&'m [String]);

impl<'m> Words<'m> {
    fn word(&self, index: i32) -> Result<&'m str, BadAttributes> {
        let found = match usize::try_from(index) {
            Ok(index) => dictionary::word(index),
            // -1 is the first of the message's own.
            Err(_) => usize::try_from(-(i64::from(index) + 1))
                .ok()
                .and_then(|slot| self.0.get(slot))
                .map(String::as_str),
        };
        found.ok_or(BadAttributes::NoWord(index, self.0.len()))
    }
}

impl<'m> Sent<'m> {
    /// The attributes of one message.
    pub(crate) fn new(message: &'m CompressedAttributes) -> Result<Self, BadAttributes> {
        let mut sent = Self::default();
        sent.change(message, &[])?;
        Ok(sent)
    }

    /// Adds a message's attributes, which take the place of those of the same names. Without words of its own it uses
    /// `default_words`.
    pub(crate) fn change(
        &mut self,
        message: &'m CompressedAttributes,
        default_words: &'m [String],
    ) -> Result<(), BadAttributes> {
        bounds(message, default_words)?;
        let words = match message.words.as_slice() {
            [] => Words(default_words),
            own => Words(own),
        };
        let mut seen = BTreeMap::new();
        for (name, value) in scalars(message) {
            let name = words.word(name)?;
            let value = value.decoded(name, &words)?;
            if seen.insert(name, ()).is_some() {
                return Err(BadAttributes::Twice(name.to_owned()));
            }
            self.maps.remove(name);
            self.scalars.insert(name, value);
        }
        for (name, map) in &message.string_maps {
            let name = words.word(*name)?;
            expect(name, ValueType::StringMap, "STRING_MAP")?;
            let entry = |(key, value): (&i32, &i32)| Ok((words.word(*key)?, words.word(*value)?));
            let entries = map.entries.iter().map(entry).collect::<Result<_, _>>()?;
            if seen.insert(name, ()).is_some() {
                return Err(BadAttributes::Twice(name.to_owned()));
            }
            self.scalars.remove(name);
            self.maps.insert(name, Entries(entries));
        }
        let all = self.scalars.len() + self.maps.len();
        at_most("attributes", all, MAX_ATTRIBUTES)
    }
}

/// A value as it stands in the message.
enum Raw<'m> {
    Word(i32),
    Int(i64),
    Double(f64),
    Bool(bool),
    Time(Timestamp),
    Duration(i64),
    Bytes(&'m [u8]),
}

impl<'m> Raw<'m> {
    fn decoded(self, name: &str, words: &Words<'m>) -> Result<Value<'m>, BadAttributes> {
        Ok(match self {
            Raw::Word(index) => {
                match STANDARD.attribute(name) {
                    None
                    | Some(
                        ValueType::String | ValueType::DnsName | ValueType::EmailAddress | ValueType::Uri,
                    ) => {}
                    Some(expected) => return Err(wrong(name, expected, "STRING")),
                }
                Value::Text(Cow::Borrowed(words.word(index)?))
            }
            Raw::Int(number) => {
                expect(name, ValueType::Int64, "INT64")?;
                Value::Int(number)
            }
            Raw::Double(number) => {
                expect(name, ValueType::Double, "DOUBLE")?;
                Value::Double(number)
            }
            Raw::Bool(truth) => {
                expect(name, ValueType::Bool, "BOOL")?;
                Value::Bool(truth)
            }
            Raw::Time(at) => {
                expect(name, ValueType::Timestamp, "TIMESTAMP")?;
                Value::Timestamp(at)
            }
            Raw::Duration(length) => {
                expect(name, ValueType::Duration, "DURATION")?;
                Value::Duration(length)
            }
            Raw::Bytes(bytes) => {
                expect(name, ValueType::IpAddress, "bytes")?;
                let ip = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
                let ip = ip.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from));
                Value::Ip(
                    ip.map_err(|_| wrong(name, ValueType::IpAddress, "bytes that are neither 4 nor 16"))?,
                )
            }
        })
    }
}

fn scalars(message: &CompressedAttributes) -> impl Iterator<Item = (i32, Raw<'_>)> {
    let strings = message
        .strings
        .iter()
        .map(|(name, word)| (*name, Raw::Word(*word)));
    let ints = message
        .int64s
        .iter()
        .map(|(name, number)| (*name, Raw::Int(*number)));
    let doubles = message
        .doubles
        .iter()
        .map(|(name, number)| (*name, Raw::Double(*number)));
    let bools = message
        .bools
        .iter()
        .map(|(name, truth)| (*name, Raw::Bool(*truth)));
    let times = message
        .timestamps
        .iter()
        .map(|(name, at)| (*name, Raw::Time(Timestamp(time::nanos(at.seconds, at.nanos)))));
    let durations = message
        .durations
        .iter()
        .map(|(name, length)| (*name, Raw::Duration(time::nanos(length.seconds, length.nanos))));
    let bytes = message
        .bytes
        .iter()
        .map(|(name, bytes)| (*name, Raw::Bytes(bytes)));
    strings
        .chain(ints)
        .chain(doubles)
        .chain(bools)
        .chain(times)
        .chain(durations)
        .chain(bytes)
}

fn bounds(message: &CompressedAttributes, default_words: &[String]) -> Result<(), BadAttributes> {
    at_most("words", message.words.len().max(default_words.len()), MAX_WORDS)?;
    let scalars = message.strings.len()
        + message.int64s.len()
        + message.doubles.len()
        + message.bools.len()
        + message.timestamps.len()
        + message.durations.len()
        + message.bytes.len();
    at_most("attributes", scalars + message.string_maps.len(), MAX_ATTRIBUTES)?;
    let largest = message.string_maps.values().map(|map| map.entries.len()).max();
    at_most("entries in a map", largest.unwrap_or_default(), MAX_ENTRIES)
}

fn at_most(what: &'static str, count: usize, limit: usize) -> Result<(), BadAttributes> {
    match count <= limit {
        true => Ok(()),
        false => Err(BadAttributes::TooMany { what, limit }),
    }
}

fn expect(name: &str, ty: ValueType, found: &'static str) -> Result<(), BadAttributes> {
    match STANDARD.attribute(name) {
        Some(expected) if expected != ty => Err(wrong(name, expected, found)),
        _ => Ok(()),
    }
}

fn wrong(name: &str, expected: ValueType, found: &'static str) -> BadAttributes {
    BadAttributes::WrongType {
        name: name.to_owned(),
        expected,
        found,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(words: &[&str]) -> CompressedAttributes {
        CompressedAttributes {
            words: words.iter().map(|word| (*word).to_owned()).collect(),
            ..CompressedAttributes::default()
        }
    }

    #[test]
    fn words_come_from_both_dictionaries() {
        let mut sent = message(&["shop.tier", "gold"]);
        // request.method, GET; shop.tier, gold
        sent.strings = [(19, 90), (-1, -2)].into();
        sent.bytes = [(0, vec![10, 0, 0, 1])].into();
        let sent = Sent::new(&sent).unwrap();
        assert_eq!(sent.text("request.method"), Some("GET"));
        assert_eq!(sent.text("shop.tier"), Some("gold"));
        assert_eq!(sent.ip("source.ip"), Some([10, 0, 0, 1].into()));
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        let check = |change: fn(&mut CompressedAttributes), expected: &str| {
            let mut sent = message(&["a", "b"]);
            change(&mut sent);
            let error = Sent::new(&sent).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check(|sent| sent.strings = [(19, -3)].into(), "word -3");
        check(|sent| sent.strings = [(i32::MIN, 0)].into(), "word -2147483648");
        check(|sent| sent.strings = [(i32::MAX, 0)].into(), "word 2147483647");
        check(|sent| sent.int64s = [(19, 1)].into(), "request.method is STRING");
        check(
            |sent| sent.bytes = [(0, vec![1, 2, 3])].into(),
            "neither 4 nor 16",
        );
        check(
            |sent| {
                sent.bools = [(-1, true)].into();
                sent.int64s = [(-1, 1)].into();
            },
            "attribute a was sent twice",
        );
        check(
            |sent| sent.int64s = (0..=1_000).map(|n| (-n, 1)).collect(),
            "more than 1000 attributes",
        );
    }

    #[test]
    fn a_delta_changes_what_it_names() {
        let mut first = message(&["x"]);
        first.strings = [(19, 90), (-1, 0)].into();
        let mut second = message(&[]);
        second.strings = [(19, 91)].into();
        let mut sent = Sent::new(&first).unwrap();
        let defaults = ["unused".to_owned()];
        sent.change(&second, &defaults).unwrap();
        assert_eq!(sent.text("request.method"), Some("POST"));
        assert_eq!(sent.text("x"), Some("source.ip"));
    }
}
