//! The listchecker adapter: whether a value is on a list, be it the configuration's or one that was fetched.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use regex::{RegexSet, RegexSetBuilder};
use serde::Deserialize;

use super::code::Code;
use super::denier::Denial;
use super::named::named;
use super::params::Problem;
use super::validity::Validity;

/// Most entries of a list.
const MAX_ENTRIES: usize = 100_000;

/// Parameters (adapter.listchecker.config).
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Params {
    pub(super) provider_url: String,
    pub(super) refresh_interval: Option<crate::Duration>,
    pub(super) ttl: Option<crate::Duration>,
    caching_interval: Option<crate::Duration>,
    caching_use_count: Option<i32>,
    pub(super) overrides: Vec<String>,
    entry_type: EntryType,
    blacklist: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum EntryType {
    #[default]
    Strings,
    CaseInsensitiveStrings,
    IpAddresses,
    Regex,
}

named!(EntryType {
    "STRINGS" = 0 => Strings,
    "CASE_INSENSITIVE_STRINGS" = 1 => CaseInsensitiveStrings,
    "IP_ADDRESSES" = 2 => IpAddresses,
    "REGEX" = 3 => Regex,
});

/// What stands on a list.
#[derive(Clone, Debug)]
pub enum Entries {
    /// These texts.
    Strings(BTreeSet<String>),
    /// These texts, in lower case, however a value is written.
    CaseInsensitive(BTreeSet<String>),
    /// Addresses in these networks.
    Addresses(Vec<IpNet>),
    /// Texts in which one of these is found.
    Regex(RegexSet),
}

/// A list.
#[derive(Clone, Debug)]
pub struct List {
    entries: Entries,
    blacklist: bool,
    validity: Validity,
}

impl Entries {
    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Strings(entries) | Self::CaseInsensitive(entries) => entries.len(),
            Self::Addresses(networks) => networks.len(),
            Self::Regex(patterns) => patterns.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What a list says of a value.
#[derive(Debug, PartialEq)]
enum Listed {
    /// It may pass.
    Pass,
    /// It is not on a list of what may pass.
    NotOnWhitelist,
    /// It is on a list of what may not pass.
    OnBlacklist,
    /// It is no address, on a list of addresses.
    NotAnAddress,
}

impl List {
    pub(super) fn new(params: &Params) -> Result<Self, Problem> {
        if params.overrides.len() > MAX_ENTRIES {
            let message = format!("has {} entries, more than {MAX_ENTRIES}", params.overrides.len());
            return Err(Problem::new("overrides", message));
        }
        let entries = match params.entry_type {
            EntryType::Strings => Entries::Strings(params.overrides.iter().cloned().collect()),
            EntryType::CaseInsensitiveStrings => {
                Entries::CaseInsensitive(params.overrides.iter().map(|s| s.to_lowercase()).collect())
            }
            EntryType::IpAddresses => Entries::Addresses(addresses(&params.overrides)?),
            EntryType::Regex => {
                let mut read = Vec::with_capacity(params.overrides.len());
                for (index, text) in params.overrides.iter().enumerate() {
                    let compiled = expr::compile_pattern(text)
                        .map_err(|why| Problem::new(format!("overrides[{index}]"), why))?;
                    read.push(compiled.as_str().to_owned());
                }
                let built = RegexSetBuilder::new(&read)
                    .size_limit(1 << 22)
                    .dfa_size_limit(1 << 22)
                    .build();
                Entries::Regex(
                    built.map_err(|e| Problem::new("overrides", e.to_string().replace('\n', " ")))?,
                )
            }
        };
        Ok(Self {
            entries,
            blacklist: params.blacklist,
            validity: validity(params)?,
        })
    }

    /// How long what it says of a value may be used again, whatever that is.
    pub fn validity(&self) -> Validity {
        self.validity
    }

    /// What the list has against a value, in Istio's words.
    pub fn denial(&self, value: &str) -> Option<Denial> {
        let (code, message) = match self.look_up(value) {
            Listed::Pass => return None,
            Listed::NotOnWhitelist => (Code::NOT_FOUND, format!("{value} is not whitelisted")),
            Listed::OnBlacklist => (Code::PERMISSION_DENIED, format!("{value} is blacklisted")),
            Listed::NotAnAddress => (
                Code::INVALID_ARGUMENT,
                format!("{value} is not a valid IP address"),
            ),
        };
        Some(Denial {
            validity: self.validity,
            ..Denial::plain(code, message)
        })
    }

    /// Its entries, and whether it names what may not pass.
    pub fn parts(&self) -> (&Entries, bool) {
        (&self.entries, self.blacklist)
    }

    fn look_up(&self, value: &str) -> Listed {
        let found = match &self.entries {
            Entries::Strings(entries) => entries.contains(value),
            Entries::CaseInsensitive(entries) => entries.contains(&value.to_lowercase()),
            Entries::Regex(patterns) => patterns.is_match(value),
            Entries::Addresses(networks) => match value.parse::<IpAddr>() {
                Ok(ip) => networks
                    .iter()
                    .any(|network| network.contains(&ip.to_canonical())),
                Err(_) => return Listed::NotAnAddress,
            },
        };
        match (found, self.blacklist) {
            (true, true) => Listed::OnBlacklist,
            (false, false) => Listed::NotOnWhitelist,
            _ => Listed::Pass,
        }
    }
}

fn validity(params: &Params) -> Result<Validity, Problem> {
    let duration = match params.caching_interval {
        None => Validity::LIST.duration,
        Some(interval) => i64::try_from(interval.0.as_nanos())
            .map_err(|_| Problem::new("cachingInterval", "longer than 292 years"))?,
    };
    let uses = params.caching_use_count.unwrap_or(Validity::LIST.uses);
    match uses {
        0.. => Ok(Validity { duration, uses }),
        _ => Err(Problem::new("cachingUseCount", format!("{uses} is negative"))),
    }
}

fn addresses(entries: &[String]) -> Result<Vec<IpNet>, Problem> {
    let read = |(i, entry): (usize, &String)| {
        let network = entry
            .parse::<IpNet>()
            .or_else(|_| entry.parse::<IpAddr>().map(IpNet::from));
        network.map_err(|_| {
            Problem::new(
                format!("overrides[{i}]"),
                format!("{entry:?} is neither an address nor a CIDR"),
            )
        })
    };
    entries.iter().enumerate().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(json: &str) -> List {
        List::new(&serde_json::from_str(json).unwrap()).unwrap()
    }

    #[test]
    fn kinds_of_entries() {
        let check = |json: &str, value: &str, expected: Listed| {
            assert_eq!(list(json).look_up(value), expected, "{json}")
        };
        check(r#"{"overrides":["v1","v2"]}"#, "v1", Listed::Pass);
        check(r#"{"overrides":["v1"]}"#, "V1", Listed::NotOnWhitelist);
        check(
            r#"{"overrides":["v1"],"blacklist":true}"#,
            "v1",
            Listed::OnBlacklist,
        );
        check(
            r#"{"overrides":["V1"],"entryType":"CASE_INSENSITIVE_STRINGS"}"#,
            "v1",
            Listed::Pass,
        );
        check(
            r#"{"overrides":["10.57.0.0/16"],"entryType":"IP_ADDRESSES"}"#,
            "10.57.1.2",
            Listed::Pass,
        );
        check(
            r#"{"overrides":["10.57.0.0/16"],"entryType":"IP_ADDRESSES"}"#,
            "::ffff:10.57.1.2",
            Listed::Pass,
        );
        check(
            r#"{"overrides":["10.0.0.1"],"entryType":"IP_ADDRESSES"}"#,
            "10.0.0.2",
            Listed::NotOnWhitelist,
        );
        check(
            r#"{"overrides":[],"entryType":"IP_ADDRESSES","blacklist":true}"#,
            "x",
            Listed::NotAnAddress,
        );
        check(
            r#"{"overrides":["^a+$"],"entryType":"REGEX"}"#,
            "aaa",
            Listed::Pass,
        );
    }

    #[test]
    fn bad_entries_are_named() {
        let problem = List::new(
            &serde_json::from_str(r#"{"overrides":["1.2.3"],"entryType":"IP_ADDRESSES"}"#).unwrap(),
        );
        assert_eq!(problem.unwrap_err().path, "overrides[0]");
    }
}
