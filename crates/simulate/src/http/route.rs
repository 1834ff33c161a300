//! Whether a route takes a request. What the configuration leaves to things that are not known here gives no answer.

use envoy_types::pb::envoy::config::core::v3::RuntimeFractionalPercent;
use envoy_types::pb::envoy::config::route::v3::{
    QueryParameterMatcher, Route, RouteMatch, query_parameter_matcher::QueryParameterMatchSpecifier,
    route_match::PathSpecifier,
};
use envoy_types::pb::envoy::r#type::v3::{FractionalPercent, fractional_percent::DenominatorType};

use super::header::header_by_line;
use crate::call::Call;
use crate::policy::{all, metadata};
use crate::strings;

/// Whether a route takes a request; none where that cannot be said here.
pub(crate) fn matches(condition: Option<&RouteMatch>, call: &Call) -> Option<bool> {
    let Some(condition) = condition else {
        return Some(false);
    };
    let folded = condition
        .case_sensitive
        .as_ref()
        .is_some_and(|sensitive| !sensitive.value);
    let mut parts = vec![path(condition.path_specifier.as_ref(), folded, call)];
    parts.extend(
        condition
            .headers
            .iter()
            .map(|matcher| header_by_line(matcher, call)),
    );
    parts.extend(
        condition
            .query_parameters
            .iter()
            .map(|matcher| parameter(matcher, call)),
    );
    parts.extend(
        condition
            .dynamic_metadata
            .iter()
            .map(|matcher| metadata(matcher, call)),
    );
    if condition.grpc.is_some() {
        let kind = call.header("content-type").unwrap_or_default();
        parts.push(Some(
            kind == "application/grpc" || kind.starts_with("application/grpc+"),
        ));
    }
    parts.extend(
        condition
            .runtime_fraction
            .iter()
            .map(|share| runtime(share, call)),
    );
    let unknown =
        condition.cookies.len() + condition.filter_state.len() + usize::from(condition.tls_context.is_some());
    parts.extend((0..unknown).map(|_| None));
    all(parts)
}

fn path(specifier: Option<&PathSpecifier>, folded: bool, call: &Call) -> Option<bool> {
    let fold = |text: &str| {
        if folded {
            text.to_ascii_lowercase()
        } else {
            text.to_owned()
        }
    };
    let own = fold(call.bare_path());
    Some(match specifier {
        None => false,
        Some(PathSpecifier::Prefix(prefix)) => own.starts_with(&fold(prefix)),
        Some(PathSpecifier::Path(path)) => own == fold(path),
        Some(PathSpecifier::PathSeparatedPrefix(prefix)) => {
            let rest = own.strip_prefix(&fold(prefix));
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        }
        Some(PathSpecifier::SafeRegex(regex)) => return strings::full_match(regex, call.bare_path()),
        Some(PathSpecifier::ConnectMatcher(_)) => call.method == "CONNECT",
        Some(PathSpecifier::PathMatchPolicy(policy)) => {
            let template = crate::policy::template(policy.typed_config.as_ref()?)?;
            template.is_match(call.bare_path())
        }
    })
}

fn parameter(matcher: &QueryParameterMatcher, call: &Call) -> Option<bool> {
    let value = call
        .query()
        .find(|(name, _)| *name == matcher.name)
        .map(|(_, value)| value);
    match (&matcher.query_parameter_match_specifier, value) {
        (Some(QueryParameterMatchSpecifier::PresentMatch(wanted)), value) => Some(value.is_some() == *wanted),
        (None, value) => Some(value.is_some()),
        (Some(QueryParameterMatchSpecifier::StringMatch(_)), None) => Some(false),
        (Some(QueryParameterMatchSpecifier::StringMatch(wanted)), Some(value)) => {
            strings::matches(wanted, value)
        }
    }
}

fn runtime(share: &RuntimeFractionalPercent, call: &Call) -> Option<bool> {
    share
        .default_value
        .as_ref()
        .map_or(Some(false), |share| fraction(share, call))
}

/// Whether a share of requests has this one; none where it is left to chance.
pub(crate) fn fraction(share: &FractionalPercent, call: &Call) -> Option<bool> {
    let whole = match DenominatorType::try_from(share.denominator) {
        Ok(DenominatorType::TenThousand) => 10_000,
        Ok(DenominatorType::Million) => 1_000_000,
        _ => 100,
    };
    match share.numerator {
        0 => Some(false),
        all if all >= whole => Some(true),
        some => call
            .random
            .map(|random| random % u64::from(whole) < u64::from(some)),
    }
}

/// A route for people: its name and the path that it wants.
pub(super) fn describe(route: &Route) -> String {
    let condition = route.r#match.as_ref();
    let path = match condition.and_then(|condition| condition.path_specifier.as_ref()) {
        Some(PathSpecifier::Prefix(prefix)) => format!("path {prefix}*"),
        Some(PathSpecifier::Path(path)) => format!("path {path}"),
        Some(PathSpecifier::PathSeparatedPrefix(prefix)) => format!("path {prefix} and below"),
        Some(PathSpecifier::SafeRegex(regex)) => format!("path like {}", regex.regex),
        Some(PathSpecifier::ConnectMatcher(_)) => "CONNECT".to_owned(),
        Some(PathSpecifier::PathMatchPolicy(_)) => "path by template".to_owned(),
        None => "no path".to_owned(),
    };
    let headers = condition.map(|c| c.headers.iter().map(|h| h.name.as_str()).collect::<Vec<_>>());
    let headers = headers
        .filter(|names| !names.is_empty())
        .map(|names| format!(", headers {}", names.join(" ")));
    let name = if route.name.is_empty() {
        String::new()
    } else {
        format!("{} ", route.name)
    };
    format!("{name}({path}{})", headers.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(specifier: &PathSpecifier, folded: bool, given: &str, expected: bool) {
        let call = Call {
            path: given.to_owned(),
            ..Call::default()
        };
        assert_eq!(
            path(Some(specifier), folded, &call),
            Some(expected),
            "{specifier:?} on {given}"
        );
    }

    #[test]
    fn paths() {
        check(&PathSpecifier::Prefix("/a".into()), false, "/ab?x=/c", true);
        check(&PathSpecifier::Prefix("/A".into()), false, "/ab", false);
        check(&PathSpecifier::Prefix("/A".into()), true, "/ab", true);
        check(&PathSpecifier::Path("/a".into()), false, "/a?b=c", true);
        check(&PathSpecifier::Path("/a".into()), false, "/a/", false);
        check(
            &PathSpecifier::PathSeparatedPrefix("/a".into()),
            false,
            "/a/b",
            true,
        );
        check(
            &PathSpecifier::PathSeparatedPrefix("/a".into()),
            false,
            "/ab",
            false,
        );
    }

    #[test]
    fn query_parameters() {
        use envoy_types::pb::envoy::r#type::matcher::v3::{StringMatcher, string_matcher::MatchPattern};
        let matcher = |value: Option<&str>| QueryParameterMatcher {
            name: "q".into(),
            query_parameter_match_specifier: value.map(|value| {
                QueryParameterMatchSpecifier::StringMatch(StringMatcher {
                    match_pattern: Some(MatchPattern::Exact(value.into())),
                    ignore_case: false,
                })
            }),
        };
        let call = |path: &str| Call {
            path: path.to_owned(),
            ..Call::default()
        };
        assert_eq!(parameter(&matcher(Some("1")), &call("/a?x=2&q=1")), Some(true));
        assert_eq!(parameter(&matcher(Some("1")), &call("/a?q=2&q=1")), Some(false));
        assert_eq!(parameter(&matcher(None), &call("/a?q")), Some(true));
        assert_eq!(parameter(&matcher(None), &call("/q?a")), Some(false));
    }

    #[test]
    fn shares_are_decided_by_the_number() {
        let share = FractionalPercent {
            numerator: 30,
            denominator: DenominatorType::Hundred as i32,
        };
        let with = |random| Call {
            random,
            ..Call::default()
        };
        assert_eq!(fraction(&share, &with(None)), None);
        assert_eq!(fraction(&share, &with(Some(129))), Some(true));
        assert_eq!(fraction(&share, &with(Some(130))), Some(false));
    }
}
