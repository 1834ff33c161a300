//! A VirtualService's condition as Envoy's route match.

use config::networking::{HttpMatchRequest, StringMatch};
use envoy_types::pb::envoy::config::route::v3::{
    HeaderMatcher, QueryParameterMatcher, RouteMatch, header_matcher::HeaderMatchSpecifier,
    query_parameter_matcher::QueryParameterMatchSpecifier, route_match::PathSpecifier,
};

use super::{claims, sorted};
use crate::wire::{bool_value, regex, string_match};

/// The condition's parts that Envoy decides; `None` takes every request.
pub(super) fn route_match(condition: Option<&HttpMatchRequest>) -> RouteMatch {
    let mut out = RouteMatch {
        path_specifier: Some(PathSpecifier::Prefix("/".to_owned())),
        ..Default::default()
    };
    let Some(condition) = condition else { return out };
    if let Some(uri) = &condition.uri {
        out.path_specifier = Some(path(uri));
    }
    out.case_sensitive = bool_value(!condition.ignore_uri_case);
    for (name, value) in sorted(&condition.headers) {
        match claims::matcher(name, value, false) {
            Some(claim) => out.dynamic_metadata.push(claim),
            None => out.headers.push(header(name, value)),
        }
    }
    for (name, value) in sorted(&condition.without_headers) {
        match claims::matcher(name, value, true) {
            Some(claim) => out.dynamic_metadata.push(claim),
            None => out.headers.push(without(name, value)),
        }
    }
    out.headers.sort_by(|a, b| a.name.cmp(&b.name));
    let pseudo = [
        (":method", &condition.method),
        (":authority", &condition.authority),
        (":scheme", &condition.scheme),
    ];
    for (name, value) in pseudo {
        out.headers
            .extend(value.as_ref().map(|value| header(name, value)));
    }
    out.query_parameters
        .extend(sorted(&condition.query_params).map(|(name, value)| query(name, value)));
    out
}

fn path(uri: &StringMatch) -> PathSpecifier {
    match uri {
        StringMatch::Any => PathSpecifier::Prefix("/".to_owned()),
        StringMatch::Exact(path) => PathSpecifier::Path(path.clone()),
        StringMatch::Prefix(prefix) => PathSpecifier::Prefix(prefix.clone()),
        StringMatch::Regex(pattern) => PathSpecifier::SafeRegex(regex(pattern)),
    }
}

/// The header has the value; with no value given, it is present.
fn header(name: &str, value: &StringMatch) -> HeaderMatcher {
    let specifier = match string_match(value) {
        Some(value) => HeaderMatchSpecifier::StringMatch(value),
        None => HeaderMatchSpecifier::PresentMatch(true),
    };
    HeaderMatcher {
        name: name.to_owned(),
        header_match_specifier: Some(specifier),
        ..Default::default()
    }
}

/// The header does not have the value; one that is missing does not have it either.
fn without(name: &str, value: &StringMatch) -> HeaderMatcher {
    let mut out = header(name, value);
    out.invert_match = true;
    out.treat_missing_header_as_empty = string_match(value).is_some();
    out
}

fn query(name: &str, value: &StringMatch) -> QueryParameterMatcher {
    let specifier = match string_match(value) {
        Some(value) => QueryParameterMatchSpecifier::StringMatch(value),
        None => QueryParameterMatchSpecifier::PresentMatch(true),
    };
    QueryParameterMatcher {
        name: name.to_owned(),
        query_parameter_match_specifier: Some(specifier),
    }
}
