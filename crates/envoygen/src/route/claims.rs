//! Routing by a verified token's claims: "headers" named `@request.auth.claims…` (Istio, "JWT claim based routing").

use config::networking::StringMatch;
use envoy_types::pb::envoy::r#type::matcher::v3::{
    ListMatcher, MetadataMatcher, OrMatcher, ValueMatcher, list_matcher,
    metadata_matcher::{PathSegment, path_segment::Segment},
    value_matcher::MatchPattern,
};

use crate::authz::PAYLOAD;
use crate::filter;
use crate::wire::{regex_match, string_match};

/// What such names begin with.
const CLAIMS: &str = "@request.auth.claims";

/// The comparison of a claim, if the name is one: a text, or a list that holds it. Without a value, that it is there.
pub(super) fn matcher(name: &str, value: &StringMatch, invert: bool) -> Option<MetadataMatcher> {
    let path = path(name)?;
    let text = string_match(value).unwrap_or_else(|| regex_match(".+"));
    let one = || ValueMatcher {
        match_pattern: Some(MatchPattern::StringMatch(text.clone())),
    };
    let item = list_matcher::MatchPattern::OneOf(Box::new(one()));
    let list = MatchPattern::ListMatch(Box::new(ListMatcher {
        match_pattern: Some(item),
    }));
    let either = OrMatcher {
        value_matchers: vec![
            one(),
            ValueMatcher {
                match_pattern: Some(list),
            },
        ],
    };
    let segment = |key: &str| PathSegment {
        segment: Some(Segment::Key(key.to_owned())),
    };
    Some(MetadataMatcher {
        filter: filter::JWT.to_owned(),
        path: std::iter::once(PAYLOAD).chain(path).map(segment).collect(),
        value: Some(ValueMatcher {
            match_pattern: Some(MatchPattern::OrMatch(either)),
        }),
        invert,
    })
}

/// `@request.auth.claims.a.b` or `@request.auth.claims[a][b]`.
fn path(name: &str) -> Option<Vec<&str>> {
    let start = name
        .get(..CLAIMS.len())
        .filter(|start| start.eq_ignore_ascii_case(CLAIMS))?;
    let rest = name.get(start.len()..)?;
    let names: Vec<&str> = match rest.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(inner) => inner.split("][").collect(),
        None => rest.strip_prefix('.')?.split('.').collect(),
    };
    (!names.iter().any(|name| name.is_empty())).then_some(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_claims() {
        assert_eq!(path("@request.auth.claims.a.b"), Some(vec!["a", "b"]));
        assert_eq!(path("@request.auth.claims[a.b][c]"), Some(vec!["a.b", "c"]));
        for other in [
            "x-a",
            "@request.auth.claims",
            "@request.auth.claims[]",
            "@request.auth.claimsx",
        ] {
            assert_eq!(path(other), None, "{other}");
        }
    }
}
