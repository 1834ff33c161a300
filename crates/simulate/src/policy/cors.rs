//! Preflight requests of browsers, which the CORS filter answers itself (Envoy, "CORS").

use envoy_types::pb::envoy::extensions::filters::http::cors::v3::CorsPolicy;

use crate::call::Call;
use crate::strings;

/// Whether the filter answers a request instead of letting it through, with 200; none where that cannot be said here.
pub(super) fn answers(policy: &CorsPolicy, call: &Call) -> Option<bool> {
    let asked = call.header("access-control-request-method").unwrap_or_default();
    let origin = call.header("origin").unwrap_or_default();
    if call.method != "OPTIONS" || asked.is_empty() || origin.is_empty() {
        return Some(false);
    }
    let allowed = policy
        .allow_origin_string_match
        .iter()
        .map(|matcher| strings::matches(matcher, &origin));
    let forwards = policy
        .forward_not_matching_preflights
        .as_ref()
        .is_none_or(|forwards| forwards.value);
    super::any(allowed).map(|allowed| allowed || !forwards)
}

#[cfg(test)]
mod tests {
    use super::*;
    use envoy_types::pb::envoy::r#type::matcher::v3::{StringMatcher, string_matcher::MatchPattern};
    use envoy_types::pb::google::protobuf::BoolValue;

    fn check(method: &str, origin: &str, forwards: bool, expected: bool) {
        let policy = CorsPolicy {
            allow_origin_string_match: vec![StringMatcher {
                match_pattern: Some(MatchPattern::Exact("https://a.example".into())),
                ignore_case: false,
            }],
            forward_not_matching_preflights: Some(BoolValue { value: forwards }),
            ..Default::default()
        };
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let call = Call {
            method: method.into(),
            headers: vec![
                header("origin", origin),
                header("access-control-request-method", "PUT"),
            ],
            ..Call::default()
        };
        assert_eq!(
            answers(&policy, &call),
            Some(expected),
            "{method} {origin} {forwards}"
        );
    }

    #[test]
    fn preflights() {
        check("OPTIONS", "https://a.example", true, true);
        check("OPTIONS", "https://b.example", true, false);
        check("OPTIONS", "https://b.example", false, true);
        check("GET", "https://a.example", true, false);
        check("OPTIONS", "", false, false);
    }
}
