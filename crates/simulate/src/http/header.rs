//! Header matchers.

use envoy_types::pb::envoy::config::route::v3::{
    HeaderMatcher, header_matcher::HeaderMatchSpecifier as Match,
};

use crate::call::Call;
use crate::strings;

/// Whether a request's header is as a matcher wants it; none where that cannot be said here.
#[allow(
    deprecated,
    reason = "old forms of string matchers are still accepted by Envoy"
)]
pub(crate) fn header(matcher: &HeaderMatcher, call: &Call) -> Option<bool> {
    let value = call.header(&matcher.name.to_ascii_lowercase());
    let wanted = match &matcher.header_match_specifier {
        None => return Some(value.is_some() != matcher.invert_match),
        Some(Match::PresentMatch(wanted)) => {
            return Some((value.is_some() == *wanted) != matcher.invert_match);
        }
        Some(wanted) => wanted,
    };
    // A header that is missing matches nothing, not even inverted, unless it counts as empty.
    let value = match value {
        Some(value) => value,
        None if matcher.treat_missing_header_as_empty => String::new(),
        None => return Some(false),
    };
    let matched = match wanted {
        Match::StringMatch(wanted) => strings::matches(wanted, &value)?,
        Match::SafeRegexMatch(wanted) => strings::full_match(wanted, &value)?,
        Match::ExactMatch(wanted) => value == *wanted,
        Match::PrefixMatch(wanted) => value.starts_with(wanted.as_str()),
        Match::SuffixMatch(wanted) => value.ends_with(wanted.as_str()),
        Match::ContainsMatch(wanted) => value.contains(wanted.as_str()),
        Match::RangeMatch(range) => value
            .parse()
            .is_ok_and(|v: i64| (range.start..range.end).contains(&v)),
        Match::PresentMatch(_) => return None,
    };
    Some(matched != matcher.invert_match)
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
}
