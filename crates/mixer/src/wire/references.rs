//! What an answer depends on, in the caller's terms, so that it can use the answer again.
//!
//! Mixer names what its rules may read of a request, not only what they did read: an answer is then used again less often than
//! it could be, and never wrongly. Attributes that Mixer finds by itself depend on those by which it finds them.

use std::collections::{BTreeMap, BTreeSet};

use expr::Use;
use proto::mixer::ReferencedAttributes;
use proto::mixer::referenced_attributes::{AttributeMatch, Condition};

use super::described::decided;
use super::dictionary;
use super::sent::Sent;

/// By which attributes Mixer finds out who calls whom.
const ENDS: [&str; 14] = [
    "context.reporter.kind",
    "context.reporter.local",
    "context.reporter.uid",
    "destination.ip",
    "destination.port",
    "destination.principal",
    "destination.service",
    "destination.service.host",
    "destination.uid",
    "request.host",
    "source.ip",
    "source.principal",
    "source.uid",
    "source.user",
];

/// An attribute, or an entry of one.
type Place = (String, Option<String>);

/// The places of a message that decide what an attribute is.
fn places(used: &Use) -> Vec<Place> {
    let whole = |name: &str| (name.to_owned(), None);
    let entry = |name: &str, key: &str| (name.to_owned(), Some(key.to_owned()));
    let name = used.name();
    if decided(name) {
        return ENDS.map(whole).into();
    }
    let mut places = match used {
        Use::Entry(name, key) => vec![entry(name, key)],
        _ => vec![whole(name)],
    };
    match name {
        "request.url_path" => places.push(whole("request.path")),
        // Without parameters of its own a message's path is taken apart.
        "request.query_params" => places.extend([whole("request.query_params"), whole("request.path")]),
        "request.useragent" => places.push(entry("request.headers", "user-agent")),
        "request.referer" => places.push(entry("request.headers", "referer")),
        "request.id" => places.push(entry("request.headers", "x-request-id")),
        "request.api_key" => places.extend([
            whole("request.query_params"),
            whole("request.path"),
            entry("request.headers", "x-api-key"),
        ]),
        "request.auth.principal" | "request.auth.audiences" | "request.auth.presenter" => {
            places.push(whole("request.auth.claims"));
        }
        "context.protocol" | "api.protocol" => {
            places.extend([
                whole("context.protocol"),
                whole("request.method"),
                whole("request.path"),
            ]);
        }
        "request.time" | "context.time" | "context.timestamp" => {
            places.extend(["request.time", "context.time", "context.timestamp"].map(whole));
        }
        _ => {}
    }
    places
}

/// What an answer to `sent` depends on, when it was found by reading `uses`. `known` is how many words of the global
/// dictionary the caller knows.
pub(crate) fn referenced(uses: &BTreeSet<Use>, sent: &Sent<'_>, known: u32) -> ReferencedAttributes {
    // Which rules hold depends on who is called, too.
    let ends = ENDS.iter().map(|name| ((*name).to_owned(), None));
    let places: BTreeSet<Place> = uses.iter().flat_map(places).chain(ends).collect();
    let mut words = Words {
        known,
        own: Vec::new(),
        indexes: BTreeMap::new(),
    };
    let attribute_matches = places
        .into_iter()
        .map(|(name, key)| AttributeMatch {
            condition: match sent.has(&name, key.as_deref()) {
                true => Condition::Exact.into(),
                false => Condition::Absence.into(),
            },
            name: words.index(&name),
            map_key: key.map_or(0, |key| words.index(&key)),
            regex: String::new(),
        })
        .collect();
    ReferencedAttributes {
        attribute_matches,
        words: words.own,
    }
}

/// The dictionary of an answer.
struct Words {
    known: u32,
    own: Vec<String>,
    indexes: BTreeMap<String, i32>,
}

impl Words {
    fn index(&mut self, word: &str) -> i32 {
        if let Some(index) = dictionary::index(word, self.known) {
            return index;
        }
        if let Some(index) = self.indexes.get(word) {
            return *index;
        }
        self.own.push(word.to_owned());
        // An answer has far fewer words than that.
        let index = i32::try_from(self.own.len()).map_or(i32::MIN, |count| -count);
        self.indexes.insert(word.to_owned(), index);
        index
    }
}

#[cfg(test)]
mod tests {
    use proto::mixer::{CompressedAttributes, StringMap};

    use super::*;

    fn shown(uses: &[Use], message: &CompressedAttributes, known: u32) -> Vec<String> {
        let sent = Sent::new(message).unwrap();
        let found = referenced(&uses.iter().cloned().collect(), &sent, known);
        let word = |index: i32| match usize::try_from(index) {
            Ok(index) => dictionary::word(index).unwrap().to_owned(),
            Err(_) => found.words[usize::try_from(-index - 1).unwrap()].clone(),
        };
        let shown = found
            .attribute_matches
            .iter()
            .filter(|one| !ENDS.contains(&word(one.name).as_str()))
            .map(|one| {
                let sign = if one.condition() == Condition::Absence {
                    "-"
                } else {
                    ""
                };
                match one.map_key {
                    0 => format!("{sign}{}", word(one.name)),
                    key => format!("{sign}{}[{}]", word(one.name), word(key)),
                }
            });
        shown.collect()
    }

    #[test]
    fn attributes_are_named_as_present_or_absent() {
        let mut message = CompressedAttributes {
            words: vec!["x-user".into(), "jason".into()],
            ..CompressedAttributes::default()
        };
        let entries = [(-1, -2)].into();
        message.string_maps = [(15, StringMap { entries })].into();
        message.int64s = [(23, 7)].into();
        let uses = [
            Use::Entry("request.headers".into(), "x-user".into()),
            Use::Entry("request.headers".into(), "cookie".into()),
            Use::Attribute("request.size".into()),
            Use::Attribute("request.method".into()),
            Use::Attribute("source.namespace".into()),
        ];
        let expected = [
            "-request.headers[cookie]",
            "request.headers[x-user]",
            "-request.method",
            "request.size",
        ];
        assert_eq!(shown(&uses, &message, 200), expected);
        // A caller that knows no words is sent all of them.
        assert_eq!(shown(&uses, &message, 0), expected);
    }
}
