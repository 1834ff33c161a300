//! VirtualServices and DestinationRules, field by field.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

mod support;

use envoy_types::pb::envoy::config::cluster::v3::cluster::LbPolicy;
use envoy_types::pb::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use envoy_types::pb::envoy::config::route::v3::{
    Route, RouteAction,
    header_matcher::HeaderMatchSpecifier,
    redirect_action,
    route::Action,
    route_action::{ClusterSpecifier, HostRewriteSpecifier, hash_policy::PolicySpecifier},
    route_match::PathSpecifier,
};
use envoy_types::pb::envoy::extensions::filters::http::cors::v3::CorsPolicy;
use envoy_types::pb::envoy::extensions::filters::http::fault::v3::{HttpFault, fault_abort::ErrorType};
use envoygen::Output;
use prost::Message;
use support::{FEATURES, SHOP, cluster, generator, host_routes, tables};

const FRONTEND: &str = "sidecar~127.1.0.10~frontend-v1.shop~shop.svc.cluster.local";

fn output() -> Output {
    tables(&generator(&[SHOP, FEATURES]), FRONTEND)
}

/// The routes of the `frontend` VirtualService, by their order.
fn frontend() -> Vec<Route> {
    host_routes(&output(), "7080", "frontend.shop.svc.cluster.local")
}

fn forward(route: &Route) -> &RouteAction {
    match &route.action {
        Some(Action::Route(action)) => action,
        other => panic!("{other:?}"),
    }
}

#[test]
fn conditions() {
    let route = &frontend()[0];
    let condition = route.r#match.as_ref().unwrap();
    assert!(matches!(&condition.path_specifier, Some(PathSpecifier::SafeRegex(r)) if r.regex == "/a/[0-9]+"));
    assert!(!condition.case_sensitive.unwrap().value);
    let names: Vec<_> = condition
        .headers
        .iter()
        .map(|h| (h.name.as_str(), h.invert_match))
        .collect();
    assert_eq!(
        names,
        [
            ("x-a", false),
            ("x-b", false),
            ("x-c", false),
            ("x-d", false),
            ("x-e", true),
            ("x-f", true),
            (":method", false),
            (":authority", false),
            (":scheme", false)
        ]
    );
    let of = |name: &str| condition.headers.iter().find(|h| h.name == name).unwrap();
    assert_eq!(
        of("x-d").header_match_specifier,
        Some(HeaderMatchSpecifier::PresentMatch(true))
    );
    assert!(
        of("x-e").treat_missing_header_as_empty,
        "a missing header does not have the value"
    );
    assert!(!of("x-f").treat_missing_header_as_empty);
    assert_eq!(condition.query_parameters.len(), 2);
    assert_eq!(route.name, "everything.all");
}

#[test]
fn routes_that_are_for_others_are_left_out() {
    let routes = frontend();
    assert_eq!(
        routes.len(),
        5,
        "the one with sourceLabels of another workload is not there"
    );
}

#[test]
fn what_happens_on_the_way() {
    let route = &frontend()[0];
    let action = forward(route);
    assert_eq!(action.timeout.unwrap().seconds, 2);
    assert_eq!(
        action.max_stream_duration, None,
        "it would make Envoy overlook the timeout"
    );
    let rewrite = action.regex_rewrite.as_ref().unwrap();
    assert_eq!(
        (
            rewrite.pattern.as_ref().unwrap().regex.as_str(),
            rewrite.substitution.as_str()
        ),
        ("/a/(.*)", "/\\1")
    );
    assert_eq!(
        action.host_rewrite_specifier,
        Some(HostRewriteSpecifier::HostRewriteLiteral("other.example".into()))
    );
    let retry = action.retry_policy.as_ref().unwrap();
    assert_eq!(retry.num_retries.unwrap().value, 3);
    assert_eq!(retry.retry_on, "5xx,reset,retriable-status-codes");
    assert_eq!(retry.retriable_status_codes, [429]);
    assert_eq!(retry.per_try_timeout.unwrap().seconds, 1);
    assert!(retry.retry_priority.is_some());
    assert_eq!(
        retry.retry_host_predicate.len(),
        0,
        "a hash chooses the host, so the same one is tried again"
    );
    let mirror = &action.request_mirror_policies[0];
    assert_eq!(mirror.cluster, "outbound|7080|v1|catalog.shop.svc.cluster.local");
    let fraction = mirror.runtime_fraction.as_ref().unwrap().default_value.unwrap();
    assert_eq!(fraction.numerator, 250_000, "a quarter in millionths");
    let headers: Vec<_> = route
        .request_headers_to_add
        .iter()
        .map(|h| (h.header.as_ref().unwrap().key.as_str(), h.append_action))
        .collect();
    assert_eq!(
        headers,
        [
            ("x-set", HeaderAppendAction::OverwriteIfExistsOrAdd as i32),
            ("x-add", HeaderAppendAction::AppendIfExistsOrAdd as i32)
        ]
    );
    assert_eq!(route.request_headers_to_remove, ["x-gone"]);
    let Some(ClusterSpecifier::WeightedClusters(weighted)) = &action.cluster_specifier else {
        panic!()
    };
    let weights: Vec<_> = weighted
        .clusters
        .iter()
        .map(|c| c.weight.unwrap().value)
        .collect();
    assert_eq!(weights, [75, 25]);
    assert_eq!(weighted.clusters[0].response_headers_to_add.len(), 1);
}

#[test]
fn faults_and_cors() {
    let routes = frontend();
    let config = &routes[0].typed_per_filter_config;
    let fault = HttpFault::decode(config["envoy.filters.http.fault"].value.as_slice()).unwrap();
    let abort = fault.abort.unwrap();
    assert_eq!(abort.error_type, Some(ErrorType::HttpStatus(503)));
    assert_eq!(abort.percentage.unwrap().numerator, 125_000);
    assert_eq!(fault.delay.unwrap().percentage.unwrap().numerator, 500_000);
    let cors = CorsPolicy::decode(config["envoy.filters.http.cors"].value.as_slice()).unwrap();
    assert_eq!(cors.allow_origin_string_match.len(), 2);
    assert_eq!(
        (cors.allow_methods.as_str(), cors.max_age.as_str()),
        ("GET,POST", "86400")
    );
    let grpc = HttpFault::decode(
        routes[3].typed_per_filter_config["envoy.filters.http.fault"]
            .value
            .as_slice(),
    );
    assert_eq!(
        grpc.unwrap().abort.unwrap().error_type,
        Some(ErrorType::GrpcStatus(14))
    );
}

#[test]
fn answers_of_the_proxys_own() {
    let routes = frontend();
    let Some(Action::Redirect(redirect)) = &routes[1].action else {
        panic!()
    };
    assert_eq!(
        redirect.response_code,
        redirect_action::RedirectResponseCode::PermanentRedirect as i32
    );
    assert_eq!(
        (redirect.host_redirect.as_str(), redirect.port_redirect),
        ("new.example", 8443)
    );
    let Some(Action::DirectResponse(response)) = &routes[2].action else {
        panic!()
    };
    assert_eq!(response.status, 418);
    assert_eq!(forward(&routes[3]).prefix_rewrite, "/");
    assert_eq!(forward(&routes[3]).request_mirror_policies.len(), 2);
}

#[test]
fn hashes_follow_the_destination_rule() {
    let routes = frontend();
    let last = forward(routes.last().unwrap());
    let Some(PolicySpecifier::Cookie(cookie)) = &last.hash_policy[0].policy_specifier else {
        panic!()
    };
    assert_eq!((cookie.name.as_str(), cookie.ttl.unwrap().seconds), ("user", 60));
    let frontend = cluster(&output(), "outbound|7080||frontend.shop.svc.cluster.local");
    assert_eq!(frontend.lb_policy, LbPolicy::RingHash as i32);
}

#[test]
fn bounds_of_connections() {
    let frontend = cluster(&output(), "outbound|7080||frontend.shop.svc.cluster.local");
    let thresholds = &frontend.circuit_breakers.unwrap().thresholds[0];
    let bounds = [
        thresholds.max_connections,
        thresholds.max_pending_requests,
        thresholds.max_requests,
        thresholds.max_retries,
    ];
    assert_eq!(bounds.map(|bound| bound.unwrap().value), [10, 20, 30, 4]);
    assert_eq!(frontend.connect_timeout.unwrap().seconds, 2);
    let outlier = frontend.outlier_detection.unwrap();
    assert_eq!(outlier.consecutive_5xx.unwrap().value, 3);
    assert_eq!(outlier.max_ejection_percent.unwrap().value, 50);
    let stock = cluster(&output(), "outbound|7080||stock.shop.svc.cluster.local");
    assert_eq!(stock.lb_policy, LbPolicy::RoundRobin as i32);
    let open = cluster(&output(), "outbound|7080||catalog.shop.svc.cluster.local");
    let thresholds = &open.circuit_breakers.unwrap().thresholds[0];
    assert_eq!(
        thresholds.max_connections.unwrap().value,
        u32::MAX,
        "no bound that nobody asked for"
    );
}

#[test]
fn connections_leave_from_the_workloads_own_loopback_address() {
    let output = output();
    let source = |name: &str| {
        let bind = cluster(&output, name).upstream_bind_config;
        bind.map(|bind| bind.source_address.unwrap().address)
    };
    assert_eq!(
        source("outbound|7080||catalog.shop.svc.cluster.local").as_deref(),
        Some("127.1.0.10")
    );
    assert_eq!(source("inbound|8080||").as_deref(), Some("127.1.0.10"));
    assert_eq!(
        source("outbound|7080||api.outside.example"),
        None,
        "nothing outside is reached from there"
    );
}

#[test]
fn gateways_route_by_claims() {
    let edge = "router~127.1.0.1~ingressgateway.istio-system~istio-system.svc.cluster.local";
    let output = tables(&generator(&[SHOP, FEATURES]), edge);
    let routes = host_routes(
        &output,
        "https.8443.https.tls.istio-system.127.1.0.1",
        "secure.example.com",
    );
    let condition = routes[0].r#match.as_ref().unwrap();
    let kinds: Vec<_> = condition
        .dynamic_metadata
        .iter()
        .map(|m| (m.path.len(), m.invert))
        .collect();
    assert_eq!(kinds, [(2, false), (3, true)]);
    assert!(condition.headers.is_empty());
    assert_eq!(routes.len(), 2, "a condition on claims does not take everything");
}
