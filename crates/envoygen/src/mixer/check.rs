//! Checks: ext_authz filters, one for each failure mode, with the headers that its rules read and no other.

use std::collections::BTreeSet;

use envoy_types::pb::envoy::config::core::v3::{ApiVersion, GrpcService};
use envoy_types::pb::envoy::config::listener::v3::Filter;
use envoy_types::pb::envoy::extensions::filters::http::ext_authz::v3::{ExtAuthz, ext_authz::Services};
use envoy_types::pb::envoy::extensions::filters::network::ext_authz::v3::ExtAuthz as NetworkExtAuthz;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpFilter;
use envoy_types::pb::envoy::r#type::matcher::v3::ListStringMatcher;
use envoy_types::pb::envoy::r#type::v3::{HttpStatus, StatusCode};
use policy::{Check, FAIL_CLOSED, FAIL_OPEN, FAILURE_MODE_METADATA, Headers, RULES_METADATA, SENT};

use super::{native, removal, service};
use crate::filter;
use crate::wire::{exact, plain_any};

/// Longest list of rules, in bytes: Mixer takes 64 KiB of headers.
const MAX_RULES: usize = 32 << 10;

/// The HTTP filters of some checks; with `allow` all let requests pass where Mixer cannot be asked. Which requests are asked
/// about is found out before an answer changes them.
pub(crate) fn http_filters(cluster: &str, checks: &[Check], allow: bool) -> Vec<HttpFilter> {
    let markers = checks.iter().filter_map(native::marker);
    let removed: BTreeSet<&String> = checks.iter().flat_map(|check| &check.removes).collect();
    let removals = removed
        .into_iter()
        .map(|header| removal::filter("asked", header, filter::EXT_AUTHZ, &policy::removal(header)));
    markers
        .chain(checks.iter().map(|check| http(cluster, check, allow)))
        .chain(removals)
        .collect()
}

fn http(cluster: &str, check: &Check, allow: bool) -> HttpFilter {
    let mode = mode(check);
    let claims = check.claims.then(|| filter::JWT.to_owned());
    let config = ExtAuthz {
        transport_api_version: ApiVersion::V3 as i32,
        services: Some(Services::GrpcService(asked(cluster, check, allow))),
        filter_enabled_metadata: native::marked(check),
        include_tls_session: true,
        failure_mode_allow: check.fail_open || allow,
        status_on_error: Some(HttpStatus {
            code: StatusCode::ServiceUnavailable as i32,
        }),
        metadata_context_namespaces: claims.into_iter().collect(),
        allowed_headers: allowed(&check.headers),
        // What Mixer says of headers is made of requests. It leaves out what no header may have; this holds whatever it says.
        validate_mutations: true,
        stat_prefix: format!("mixer_{mode}"),
        ..Default::default()
    };
    filter::http(&http_name(check.fail_open), plain_any(&config))
}

/// The name of the HTTP filter of a failure mode.
pub(super) fn http_name(fail_open: bool) -> String {
    format!("{}.mixer-{}", filter::EXT_AUTHZ, mode_of(fail_open))
}

/// The network filters of some checks, likewise.
pub(crate) fn network_filters(cluster: &str, checks: &[Check], allow: bool) -> Vec<Filter> {
    checks
        .iter()
        .map(|check| network(check, asked(cluster, check, allow), allow))
        .collect()
}

/// The network filter of a gateway's check; `said` is what it tells Mixer of what is sent.
pub(super) fn network_to(cluster: &str, check: &Check, said: &str, allow: bool) -> Filter {
    let metadata = [(FAILURE_MODE_METADATA, mode(check)), (SENT, said)];
    network(
        check,
        service(cluster, &metadata, check.fail_open || allow),
        allow,
    )
}

fn network(check: &Check, call: GrpcService, allow: bool) -> Filter {
    let mode = mode(check);
    let config = NetworkExtAuthz {
        stat_prefix: format!("mixer_{mode}"),
        grpc_service: Some(call),
        include_tls_session: true,
        failure_mode_allow: check.fail_open || allow,
        transport_api_version: ApiVersion::V3 as i32,
        ..Default::default()
    };
    filter::network(
        &format!("envoy.filters.network.ext_authz.mixer-{mode}"),
        plain_any(&config),
    )
}

/// The call, with which rules it asks for.
fn asked(cluster: &str, check: &Check, allow: bool) -> GrpcService {
    let rules = check.selective.then(|| check.rules.join(","));
    // Without the names Mixer decides by all rules.
    let rules = rules.filter(|rules| rules.len() <= MAX_RULES);
    let rules = rules.as_deref().map(|rules| (RULES_METADATA, rules));
    let metadata: Vec<_> = [(FAILURE_MODE_METADATA, mode(check))]
        .into_iter()
        .chain(rules)
        .collect();
    service(cluster, &metadata, check.fail_open || allow)
}

pub(super) fn mode(check: &Check) -> &'static str {
    mode_of(check.fail_open)
}

fn mode_of(fail_open: bool) -> &'static str {
    if fail_open { FAIL_OPEN } else { FAIL_CLOSED }
}

/// Envoy sends all headers where nothing is listed, so a header that each request has is always on the list.
fn allowed(headers: &Headers) -> Option<ListStringMatcher> {
    match headers {
        Headers::All => None,
        Headers::Named(names) => {
            let always = std::iter::once(":authority");
            let patterns = always
                .chain(names.iter().map(String::as_str))
                .map(exact)
                .collect();
            Some(ListStringMatcher { patterns })
        }
    }
}

#[cfg(test)]
mod tests {
    use policy::Matcher;

    use super::*;

    #[test]
    fn rules_are_named_as_long_as_mixer_takes_the_names() {
        let named = |count: usize| {
            let check = Check {
                fail_open: false,
                headers: Headers::Named(Default::default()),
                claims: false,
                rules: (0..count).map(|n| format!("rule-{n:06}.shop")).collect(),
                selective: true,
                removes: Default::default(),
                when: Matcher::Always,
            };
            let service = asked("mixer", &check, false);
            service.initial_metadata.iter().any(|m| m.key == RULES_METADATA)
        };
        assert!(named(1_500));
        assert!(!named(3_000));
    }
}
