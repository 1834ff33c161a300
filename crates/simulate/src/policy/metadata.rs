//! Conditions on a verified token's claims, which Envoy's JWT filter leaves in dynamic metadata.

use envoy_types::pb::envoy::r#type::matcher::v3::{
    MetadataMatcher, ValueMatcher, double_matcher, list_matcher, metadata_matcher::path_segment::Segment,
    value_matcher::MatchPattern,
};
use serde_json::Value;

use crate::call::Call;
use crate::strings;

const JWT: &str = "envoy.filters.http.jwt_authn";

/// Whether the metadata is as a matcher wants it; none for metadata of other filters.
pub(crate) fn metadata(matcher: &MetadataMatcher, call: &Call) -> Option<bool> {
    if matcher.filter != JWT {
        return None;
    }
    // The first segment is the name under which the filter puts the payload.
    let path = matcher.path.iter().skip(1).map(|segment| match &segment.segment {
        Some(Segment::Key(key)) => key.as_str(),
        None => "",
    });
    let found = call
        .claims
        .as_ref()
        .and_then(|claims| path.into_iter().try_fold(claims, |value, key| value.get(key)));
    let matched = match (found, &matcher.value) {
        (Some(found), Some(wanted)) => value(wanted, found)?,
        _ => false,
    };
    Some(matched != matcher.invert)
}

fn value(wanted: &ValueMatcher, found: &Value) -> Option<bool> {
    Some(match wanted.match_pattern.as_ref()? {
        MatchPattern::NullMatch(_) => found.is_null(),
        MatchPattern::BoolMatch(wanted) => found.as_bool() == Some(*wanted),
        MatchPattern::PresentMatch(wanted) => found.is_null() != *wanted,
        MatchPattern::StringMatch(wanted) => match found.as_str() {
            Some(text) => strings::matches(wanted, text)?,
            None => false,
        },
        MatchPattern::DoubleMatch(wanted) => {
            let number = found.as_f64();
            match &wanted.match_pattern {
                Some(double_matcher::MatchPattern::Exact(exact)) => number == Some(*exact),
                Some(double_matcher::MatchPattern::Range(range)) => {
                    number.is_some_and(|n| n >= range.start && n < range.end)
                }
                None => false,
            }
        }
        MatchPattern::ListMatch(list) => match &list.match_pattern {
            Some(list_matcher::MatchPattern::OneOf(wanted)) => {
                let items = found.as_array().into_iter().flatten();
                return super::any(items.map(|item| value(wanted, item)));
            }
            None => false,
        },
        MatchPattern::OrMatch(either) => {
            return super::any(either.value_matchers.iter().map(|wanted| value(wanted, found)));
        }
    })
}
