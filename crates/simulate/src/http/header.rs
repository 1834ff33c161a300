//! Header matchers.

use envoy_types::pb::envoy::config::route::v3::{
    HeaderMatcher, header_matcher::HeaderMatchSpecifier as Match,
};

use crate::call::Call;
use crate::policy::any;
use crate::strings;

/// Whether a request's header is as a policy's matcher wants it; none where that cannot be said here. The lines of a header
/// are one value: they are joined before policies look at them.
pub(crate) fn header(matcher: &HeaderMatcher, call: &Call) -> Option<bool> {
    let value = call.header(&matcher.name.to_ascii_lowercase());
    decide(matcher, &Vec::from_iter(value))
}

/// The same for a route's matcher, which looks at each line by itself and is content with one (Envoy,
/// `match_headers_individually`).
pub(super) fn header_by_line(matcher: &HeaderMatcher, call: &Call) -> Option<bool> {
    decide(matcher, &call.lines(&matcher.name.to_ascii_lowercase()))
}

fn decide(matcher: &HeaderMatcher, values: &[String]) -> Option<bool> {
    let wanted = match &matcher.header_match_specifier {
        None => return Some(values.is_empty() == matcher.invert_match),
        Some(Match::PresentMatch(wanted)) => {
            return Some((values.is_empty() != *wanted) != matcher.invert_match);
        }
        Some(wanted) => wanted,
    };
    // A header that is missing matches nothing, not even inverted, unless it counts as empty.
    let empty = [String::new()];
    let values = match values {
        [] if matcher.treat_missing_header_as_empty => &empty,
        [] => return Some(false),
        some => some,
    };
    let matched = any(values.iter().map(|value| one(wanted, value)))?;
    Some(matched != matcher.invert_match)
}

#[allow(
    deprecated,
    reason = "old forms of string matchers are still accepted by Envoy"
)]
fn one(wanted: &Match, value: &str) -> Option<bool> {
    Some(match wanted {
        Match::StringMatch(wanted) => strings::matches(wanted, value)?,
        Match::SafeRegexMatch(wanted) => strings::full_match(wanted, value)?,
        Match::ExactMatch(wanted) => value == *wanted,
        Match::PrefixMatch(wanted) => value.starts_with(wanted.as_str()),
        Match::SuffixMatch(wanted) => value.ends_with(wanted.as_str()),
        Match::ContainsMatch(wanted) => value.contains(wanted.as_str()),
        Match::RangeMatch(range) => value
            .parse()
            .is_ok_and(|v: i64| (range.start..range.end).contains(&v)),
        Match::PresentMatch(_) => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use envoy_types::pb::envoy::r#type::matcher::v3::{StringMatcher, string_matcher::MatchPattern};

    fn check(matcher: &HeaderMatcher, value: Option<&str>, expected: bool) {
        let call = Call {
            headers: value
                .iter()
                .map(|v| ("X-A".to_owned(), (*v).to_owned()))
                .collect(),
            ..Call::default()
        };
        assert_eq!(header(matcher, &call), Some(expected), "{matcher:?} on {value:?}");
    }

    fn matcher(specifier: Option<Match>, invert: bool, empty: bool) -> HeaderMatcher {
        HeaderMatcher {
            name: "x-a".into(),
            invert_match: invert,
            treat_missing_header_as_empty: empty,
            header_match_specifier: specifier,
        }
    }

    #[test]
    fn a_missing_header_matches_nothing_not_even_inverted() {
        let exact = || {
            Some(Match::StringMatch(StringMatcher {
                match_pattern: Some(MatchPattern::Exact("v".into())),
                ignore_case: false,
            }))
        };
        check(&matcher(exact(), false, false), Some("v"), true);
        check(&matcher(exact(), true, false), Some("v"), false);
        check(&matcher(exact(), true, false), Some("w"), true);
        check(&matcher(exact(), true, false), None, false);
        check(&matcher(exact(), true, true), None, true);
        check(&matcher(Some(Match::PresentMatch(true)), true, false), None, true);
        check(&matcher(None, false, false), Some(""), true);
    }

    #[test]
    fn routes_are_content_with_one_line() {
        let exact = matcher(
            Some(Match::StringMatch(StringMatcher {
                match_pattern: Some(MatchPattern::Exact("v".into())),
                ignore_case: false,
            })),
            false,
            false,
        );
        let call = Call {
            headers: vec![
                ("x-a".to_owned(), "v".to_owned()),
                ("X-A".to_owned(), "w".to_owned()),
            ],
            ..Call::default()
        };
        assert_eq!(header_by_line(&exact, &call), Some(true));
        assert_eq!(header(&exact, &call), Some(false), "a policy sees v,w");
    }
}
