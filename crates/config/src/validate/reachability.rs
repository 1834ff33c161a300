//! Which rules of a VirtualService can never be used, since earlier ones take all that they match. Warnings only.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use crate::networking::{HttpMatchRequest, HttpRoute, StringMatch, VirtualService};
use crate::path::At;

/// Warns of rules and conditions that have no effect.
pub(super) fn check(spec: &VirtualService, at: &At<'_>) {
    let unnamed = |found: &HttpMatchRequest| HttpMatchRequest {
        name: String::new(),
        ..found.clone()
    };
    repeated(
        "http",
        spec.http.iter().map(|r| r.r#match.iter().map(unnamed).collect()),
        at,
    );
    repeated("tls", spec.tls.iter().map(|r| r.r#match.clone()), at);
    repeated("tcp", spec.tcp.iter().map(|r| r.r#match.clone()), at);
    covered_prefixes(&spec.http, at);
}

/// Rules behind one without conditions, and conditions that an earlier rule has too.
fn repeated<T: Serialize>(key: &str, rules: impl Iterator<Item = Vec<T>>, at: &At<'_>) {
    let at = at.key(key);
    let mut all_taken: Option<usize> = None;
    // The rule that has a condition first. Two conditions are the same when their JSON is.
    let mut seen: HashMap<String, usize> = HashMap::new();
    for (index, rule) in rules.enumerate() {
        let place = at.index(index);
        if let Some(earlier) = all_taken {
            place.warning(format!(
                "never used: {key}[{earlier}] has no match, so it takes all"
            ));
            continue;
        }
        if rule.is_empty() {
            all_taken = Some(index);
            continue;
        }
        let mut repeats = 0;
        for (number, found) in rule.iter().enumerate() {
            match seen.entry(json(found)) {
                Entry::Vacant(free) => _ = free.insert(index),
                Entry::Occupied(first) => {
                    repeats += 1;
                    place
                        .key("match")
                        .index(number)
                        .warning(format!("never used: {key}[{}] has the same match", first.get()));
                }
            }
        }
        if repeats == rule.len() {
            place.warning("never used: earlier rules have all of its matches");
        }
    }
}

fn json(found: &impl Serialize) -> String {
    serde_json::to_string(found).unwrap_or_default()
}

/// Where a condition by prefix stands: its place among all, its rule and its number in the rule.
type Place = (usize, usize, usize);

/// Conditions by prefix that differ in the prefix alone: by the prefix' length, the first place of each.
type Prefixes<'a> = BTreeMap<usize, HashMap<&'a str, Place>>;

/// Conditions on a longer path prefix behind the same on a shorter one.
fn covered_prefixes(routes: &[HttpRoute], at: &At<'_>) {
    let mut earlier: HashMap<String, Prefixes<'_>> = HashMap::new();
    let mut order = 0;
    for (rule, route) in routes.iter().enumerate() {
        for (number, found) in route.r#match.iter().enumerate() {
            let Some(StringMatch::Prefix(prefix)) = &found.uri else {
                continue;
            };
            let alike = earlier.entry(json(&beside_prefix(found))).or_default();
            let shorter = alike.range(..prefix.len());
            let cover = shorter
                .filter_map(|(length, places)| places.get_key_value(prefix.get(..*length)?))
                .min_by_key(|(_, place)| **place);
            if let Some((shorter, (_, by, its))) = cover {
                let http = at.key("http");
                let place = http.index(rule);
                let matches = place.key("match");
                matches.index(number).warning(format!(
                    "never used: http[{by}].match[{its}] with the shorter prefix {shorter:?} takes it"
                ));
            }
            let same = alike.entry(prefix.len()).or_default();
            same.entry(prefix).or_insert((order, rule, number));
            order += 1;
        }
    }
}

/// All that a condition asks for beside the prefix of the path.
fn beside_prefix(found: &HttpMatchRequest) -> HttpMatchRequest {
    HttpMatchRequest {
        uri: None,
        name: String::new(),
        stat_prefix: String::new(),
        ..found.clone()
    }
}
