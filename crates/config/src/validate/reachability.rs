//! Which rules of a VirtualService can never be used, since earlier ones take all that they match. Warnings only.

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
fn repeated<T: PartialEq + Serialize>(key: &str, rules: impl Iterator<Item = Vec<T>>, at: &At<'_>) {
    let rules: Vec<Vec<T>> = rules.collect();
    let at = at.key(key);
    let mut all_taken: Option<usize> = None;
    for (index, rule) in rules.iter().enumerate() {
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
        // Where a condition stands before: in an earlier rule, or earlier in this one.
        let earlier = |number: usize, found: &T| {
            let own = rule.iter().take(number).any(|other| other == found);
            let before = rules.iter().take(index).position(|rule| rule.contains(found));
            before.or(own.then_some(index))
        };
        let repeats: Vec<(usize, usize)> = rule
            .iter()
            .enumerate()
            .filter_map(|(number, found)| Some((number, earlier(number, found)?)))
            .collect();
        for (number, rule) in &repeats {
            place
                .key("match")
                .index(*number)
                .warning(format!("never used: {key}[{rule}] has the same match"));
        }
        if repeats.len() == rule.len() {
            place.warning("never used: earlier rules have all of its matches");
        }
    }
}

/// A condition by prefix of the path, with its place.
struct Prefix<'a> {
    rule: usize,
    number: usize,
    prefix: &'a str,
    found: &'a HttpMatchRequest,
}

/// Conditions on a longer path prefix behind the same on a shorter one.
fn covered_prefixes(routes: &[HttpRoute], at: &At<'_>) {
    let mut earlier: Vec<Prefix<'_>> = Vec::new();
    for (rule, route) in routes.iter().enumerate() {
        for (number, found) in route.r#match.iter().enumerate() {
            let Some(StringMatch::Prefix(prefix)) = &found.uri else {
                continue;
            };
            let this = Prefix {
                rule,
                number,
                prefix,
                found,
            };
            if let Some(cover) = earlier.iter().find(|cover| covers(cover, &this)) {
                let (by, prefix) = (cover.rule, cover.prefix);
                let http = at.key("http");
                let place = http.index(rule);
                let matches = place.key("match");
                matches.index(number).warning(format!(
                    "never used: http[{by}].match[{}] with the shorter prefix {prefix:?} takes it",
                    cover.number
                ));
            }
            earlier.push(this);
        }
    }
}

/// Whether all that `later` matches is matched by `earlier`, which asks for a shorter prefix and nothing else beyond it.
fn covers(earlier: &Prefix<'_>, later: &Prefix<'_>) -> bool {
    let rest = |found: &HttpMatchRequest| HttpMatchRequest {
        uri: None,
        name: String::new(),
        stat_prefix: String::new(),
        ..found.clone()
    };
    later.prefix.len() > earlier.prefix.len()
        && later.prefix.starts_with(earlier.prefix)
        && rest(earlier.found) == rest(later.found)
}
