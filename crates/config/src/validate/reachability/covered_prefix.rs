//! Matches of a VirtualService on a longer path prefix behind one on a shorter prefix that asks for nothing else that they
//! do not ask for too, so that they are never used (Istio's IST0131 for overlapping matches). Warnings only.

use std::collections::{BTreeMap, HashMap};

use super::json;
use crate::networking::{HttpMatchRequest, HttpRoute, StringMatch};
use crate::path::At;

/// Most sets of other conditions that a match is compared with beside those that are its own. Each match costs as many
/// comparisons.
const MAX_GROUPS: usize = 32;

/// Where a match by prefix stands: its place among all, its rule and its number in the rule.
type Place = (usize, usize, usize);

/// Matches that ask for the same beside the prefix.
struct Group<'a> {
    asks: HttpMatchRequest,
    /// By the prefix' length, the first place of each.
    prefixes: BTreeMap<usize, HashMap<&'a str, Place>>,
}

impl<'a> Group<'a> {
    /// The first match whose prefix begins `prefix` and is shorter.
    fn shorter(&self, prefix: &str) -> Option<(&'a str, Place)> {
        let lengths = self.prefixes.range(..prefix.len());
        lengths
            .filter_map(|(length, places)| places.get_key_value(prefix.get(..*length)?))
            .map(|(shorter, place)| (*shorter, *place))
            .min_by_key(|(_, place)| *place)
    }
}

/// Warns of matches that an earlier one with a shorter prefix takes.
pub(super) fn check(routes: &[HttpRoute], at: &At<'_>) {
    let mut groups: Vec<Group<'_>> = Vec::new();
    let mut known: HashMap<String, usize> = HashMap::new();
    let mut order = 0;
    for (rule, route) in routes.iter().enumerate() {
        for (number, found) in route.r#match.iter().enumerate() {
            let Some(StringMatch::Prefix(prefix)) = &found.uri else {
                continue;
            };
            let asks = beside_prefix(found);
            let own = *known.entry(json(&asks)).or_insert(groups.len());
            let others = groups
                .iter()
                .take(MAX_GROUPS)
                .filter(|group| covers(&group.asks, &asks));
            let cover = others
                .chain(groups.get(own))
                .filter_map(|group| group.shorter(prefix))
                .min_by_key(|(_, place)| *place);
            if let Some((shorter, (_, by, its))) = cover {
                let http = at.key("http");
                let place = http.index(rule);
                let matches = place.key("match");
                matches.index(number).warning(format!(
                    "never used: http[{by}].match[{its}] with the shorter prefix {shorter:?} takes it"
                ));
            }
            if own == groups.len() {
                let prefixes = BTreeMap::new();
                groups.push(Group { asks, prefixes });
            }
            if let Some(group) = groups.get_mut(own) {
                let same = group.prefixes.entry(prefix.len()).or_default();
                same.entry(prefix).or_insert((order, rule, number));
            }
            order += 1;
        }
    }
}

/// All that a match asks for beside the prefix of the path.
fn beside_prefix(found: &HttpMatchRequest) -> HttpMatchRequest {
    HttpMatchRequest {
        uri: None,
        name: String::new(),
        stat_prefix: String::new(),
        ..found.clone()
    }
}

/// Whether each request that has what `narrow` asks for has what `wide` asks for. When in doubt it has not.
fn covers(wide: &HttpMatchRequest, narrow: &HttpMatchRequest) -> bool {
    let all = |wide: &BTreeMap<String, StringMatch>, narrow: &BTreeMap<String, StringMatch>| {
        wide.iter()
            .all(|(key, wide)| narrow.get(key).is_some_and(|narrow| takes(wide, narrow)))
    };
    let same =
        |narrow: &BTreeMap<String, StringMatch>, key: &str, wide: &StringMatch| narrow.get(key) == Some(wide);
    (wide.port == 0 || wide.port == narrow.port)
        && may_take(wide.scheme.as_ref(), narrow.scheme.as_ref())
        && may_take(wide.method.as_ref(), narrow.method.as_ref())
        && may_take(wide.authority.as_ref(), narrow.authority.as_ref())
        && all(&wide.headers, &narrow.headers)
        && all(&wide.query_params, &narrow.query_params)
        && wide
            .without_headers
            .iter()
            .all(|(key, value)| same(&narrow.without_headers, key, value))
        && wide
            .source_labels
            .iter()
            .all(|(key, value)| narrow.source_labels.get(key) == Some(value))
        && (wide.gateways.is_empty() || wide.gateways == narrow.gateways)
        && (wide.source_namespace.is_empty() || wide.source_namespace == narrow.source_namespace)
        && (wide.ignore_uri_case || !narrow.ignore_uri_case)
}

fn may_take(wide: Option<&StringMatch>, narrow: Option<&StringMatch>) -> bool {
    wide.is_none_or(|wide| narrow.is_some_and(|narrow| takes(wide, narrow)))
}

/// Whether what `narrow` takes is taken by `wide`.
fn takes(wide: &StringMatch, narrow: &StringMatch) -> bool {
    match (wide, narrow) {
        (StringMatch::Prefix(wide), StringMatch::Prefix(narrow) | StringMatch::Exact(narrow)) => {
            narrow.starts_with(wide.as_str())
        }
        (StringMatch::Any, _) => true,
        (wide, narrow) => wide == narrow,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::path::Report;

    #[expect(clippy::needless_pass_by_value, reason = "calls read better")]
    fn check_pair(first: Value, second: Value, covered: bool) {
        let read = |found: &Value| serde_json::from_value::<HttpRoute>(json!({"match": [found]})).unwrap();
        let report = Report::default();
        check(&[read(&first), read(&second)], &At::root(&report));
        assert_eq!(
            report.into_issues().len(),
            usize::from(covered),
            "{first} {second}"
        );
    }

    #[test]
    fn an_earlier_match_that_asks_for_less_takes_all() {
        let short = json!({"uri": {"prefix": "/a"}});
        let long = |field: &str, value: Value| json!({"uri": {"prefix": "/ab"}, field: value});
        for (field, value) in [
            ("method", json!({"exact": "GET"})),
            ("headers", json!({"x": {"exact": "1"}})),
            ("withoutHeaders", json!({"x": {}})),
            ("queryParams", json!({"x": {"regex": "1"}})),
            ("port", json!(80)),
            ("sourceLabels", json!({"app": "a"})),
        ] {
            check_pair(short.clone(), long(field, value.clone()), true);
            let mut first = long(field, value);
            first["uri"] = json!({"prefix": "/a"});
            check_pair(first, long("name", json!("n")), false);
        }
        let header = |prefix: &str, value: Value| json!({"uri": {"prefix": prefix}, "headers": {"x": value}});
        check_pair(
            header("/a", json!({"prefix": "v"})),
            header("/ab", json!({"exact": "v1"})),
            true,
        );
        check_pair(
            header("/a", json!({})),
            header("/ab", json!({"exact": "v1"})),
            true,
        );
        check_pair(
            header("/a", json!({"exact": "v"})),
            header("/ab", json!({"prefix": "v"})),
            false,
        );
    }

    #[test]
    fn an_equal_prefix_and_an_exact_path_are_no_overlap() {
        let get = |uri: Value| json!({"uri": uri, "method": {"exact": "GET"}});
        check_pair(json!({"uri": {"prefix": "/"}}), get(json!({"exact": "/"})), false);
        check_pair(
            json!({"uri": {"prefix": "/a"}}),
            get(json!({"prefix": "/a"})),
            false,
        );
        check_pair(
            get(json!({"prefix": "/ab"})),
            json!({"uri": {"prefix": "/a"}}),
            false,
        );
    }
}
