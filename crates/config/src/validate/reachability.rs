//! Which rules of a VirtualService can never be used, since earlier ones take all that they match. Warnings only.

mod covered_prefix;

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use serde::Serialize;

use crate::networking::{HttpMatchRequest, VirtualService};
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
    covered_prefix::check(&spec.http, at);
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
