//! Calls to Mixer: filters, descriptors, logs and the cluster, and what happens without an address.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

mod support;

use envoy_types::pb::envoy::config::accesslog::v3::access_log;
use envoy_types::pb::envoy::config::core::v3::transport_socket::ConfigType as SocketConfig;
use envoy_types::pb::envoy::config::route::v3::{rate_limit::action::ActionSpecifier, route::Action};
use envoy_types::pb::envoy::extensions::access_loggers::grpc::v3::HttpGrpcAccessLogConfig;
use envoy_types::pb::envoy::extensions::filters::http::ext_authz::v3::{ExtAuthz, ext_authz::Services};
use envoy_types::pb::envoy::extensions::filters::http::ratelimit::v3::RateLimit;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, http_connection_manager::RouteSpecifier, http_filter,
};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::UpstreamTlsContext;
use envoygen::{Generator, Output, Settings};
use prost::Message;
use support::{MIXER, SHOP, cluster, generator, listener, manager, snapshot, tables};

const FRONTEND: &str = "sidecar~127.1.0.10~frontend-v1.shop~shop.svc.cluster.local";
const CATALOG: &str = "sidecar~127.1.0.21~catalog-v1.shop~shop.svc.cluster.local";
const MIXER_CLUSTER: &str = "outbound|15004|argosy.check|mixer.argosy-system.svc.cluster.local";

fn inbound(output: &Output, name: &str) -> HttpConnectionManager {
    manager(&listener(output, name).filter_chains[0].filters[0]).unwrap()
}

fn filter<M: Message + Default>(manager: &HttpConnectionManager, name: &str) -> Option<M> {
    let found = manager.http_filters.iter().find(|f| f.name.contains(name))?;
    match &found.config_type {
        Some(http_filter::ConfigType::TypedConfig(any)) => Some(M::decode(any.value.as_slice()).unwrap()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn checks_are_retried_and_carry_only_what_rules_read() {
    let output = tables(&generator(&[SHOP, MIXER]), CATALOG);
    let manager = inbound(&output, "127.1.0.21_8080");
    let check: ExtAuthz = filter(&manager, "ext_authz").unwrap();
    assert!(!check.failure_mode_allow && check.validate_mutations);
    assert_eq!(check.status_on_error.unwrap().code, 503);
    let headers: Vec<_> = check
        .allowed_headers
        .unwrap()
        .patterns
        .into_iter()
        .map(|p| p.match_pattern.unwrap())
        .collect();
    let shown = format!("{headers:?}");
    assert!(
        shown.contains("x-forbidden") && !shown.contains("cookie"),
        "{shown}"
    );
    let Some(Services::GrpcService(service)) = check.services else {
        panic!()
    };
    assert_eq!(service.timeout.unwrap().seconds, 5);
    assert_eq!(service.retry_policy.unwrap().num_retries.unwrap().value, 10);
    assert_eq!(service.initial_metadata[0].value, "closed");
}

/// A service must not be slow while Mixer is away and does not matter.
#[test]
fn calls_that_may_fail_are_not_waited_for() {
    let open = "apiVersion: mesh.istio.io/v1alpha1\nkind: MeshConfig\nmetadata: {name: istio, namespace: istio-system}\nspec: {policyCheckFailOpen: true}\n";
    let output = tables(&generator(&[SHOP, MIXER, open]), CATALOG);
    let manager = inbound(&output, "127.1.0.21_8080");
    let check: ExtAuthz = filter(&manager, "ext_authz").unwrap();
    let limit: RateLimit = filter(&manager, "ratelimit").unwrap();
    assert!(check.failure_mode_allow && !limit.failure_mode_deny);
    let Some(Services::GrpcService(check)) = check.services else {
        panic!()
    };
    let quota = limit.rate_limit_service.unwrap().grpc_service.unwrap();
    for service in [check, quota] {
        let timeout = service.timeout.unwrap();
        assert!(
            timeout.seconds == 0 && timeout.nanos <= 500_000_000,
            "{timeout:?}"
        );
        assert_eq!(service.retry_policy.unwrap().num_retries.unwrap().value, 1);
    }
    assert_eq!(limit.timeout.unwrap().seconds, 0);
}

/// Istio 1.4's `policy.istio.io/check` counts more than MeshConfig.
#[test]
fn a_workloads_annotation_says_whether_policies_hold_at_it() {
    let off = "apiVersion: mesh.istio.io/v1alpha1\nkind: MeshConfig\nmetadata: {name: istio, namespace: istio-system}\nspec: {disablePolicyChecks: true}\n";
    let check = |mesh: &[&str], annotation: &str, expected: Option<bool>| {
        let name = "metadata: {name: catalog-v1, namespace: shop";
        assert!(SHOP.contains(name));
        let noted = format!("{name}, annotations: {{policy.istio.io/check: {annotation}}}");
        let shop = SHOP.replace(name, &noted);
        let texts: Vec<&str> = [shop.as_str(), MIXER].iter().chain(mesh).copied().collect();
        let output = tables(&generator(&texts), CATALOG);
        let manager = inbound(&output, "127.1.0.21_8080");
        let check = filter::<ExtAuthz>(&manager, "ext_authz").map(|filter| filter.failure_mode_allow);
        let limit = filter::<RateLimit>(&manager, "ratelimit").map(|filter| !filter.failure_mode_deny);
        assert_eq!((check, limit), (expected, expected), "{annotation}");
        // Reports are another matter.
        assert!(
            manager
                .access_log
                .iter()
                .any(|log| log.name.ends_with(".http_grpc"))
        );
    };
    check(&[], "enable", Some(false));
    check(&[], "disable", None);
    check(&[], "allow-on-error", Some(true));
    check(&[], "maybe", Some(false));
    check(&[off], "enable", Some(false));
    check(&[off], "allow-on-error", Some(true));
    check(&[off], "maybe", None);
}

#[test]
fn quotas_have_descriptors_on_the_route() {
    let output = tables(&generator(&[SHOP, MIXER]), CATALOG);
    let manager = inbound(&output, "127.1.0.21_8080");
    let limit: RateLimit = filter(&manager, "ratelimit").unwrap();
    assert_eq!(limit.domain, "argosy");
    assert!(limit.failure_mode_deny);
    assert_eq!(
        limit.timeout.unwrap().seconds,
        5,
        "Envoy's own 20 ms would not outlive a retry"
    );
    let Some(RouteSpecifier::RouteConfig(routes)) = &manager.route_specifier else {
        panic!()
    };
    let Some(Action::Route(action)) = &routes.virtual_hosts[0].routes[0].action else {
        panic!()
    };
    assert_eq!(action.rate_limits[0].stage.unwrap().value, limit.stage);
    let all_expressions = action.rate_limits[0].actions.iter().all(
        |a| matches!(&a.action_specifier, Some(ActionSpecifier::Extension(e)) if e.name.ends_with("expr")),
    );
    assert!(all_expressions && !action.rate_limits[0].actions.is_empty());
}

#[test]
fn both_sides_report() {
    let generator = generator(&[SHOP, MIXER]);
    let log = |output: &Output, name: &str| {
        let manager = inbound(output, name);
        let found = manager
            .access_log
            .iter()
            .find(|log| log.name.ends_with(".http_grpc"));
        let Some(access_log::ConfigType::TypedConfig(any)) = &found.unwrap().config_type else {
            panic!()
        };
        let config = HttpGrpcAccessLogConfig::decode(any.value.as_slice()).unwrap();
        let config = config.common_config.unwrap();
        let tags = config.custom_tags.into_iter().map(|tag| tag.tag);
        (config.log_name, tags.collect::<Vec<_>>())
    };
    assert_eq!(
        log(&tables(&generator, CATALOG), "127.1.0.21_8080"),
        ("argosy.inbound".to_owned(), vec![])
    );
    assert_eq!(
        log(&tables(&generator, FRONTEND), "127.1.0.10_7080"),
        (
            "argosy.outbound".to_owned(),
            vec!["destination.principal".to_owned()]
        )
    );
}

#[test]
fn only_workloads_that_rules_are_about_are_checked() {
    let output = tables(&generator(&[SHOP, MIXER]), FRONTEND);
    let manager = inbound(&output, "127.1.0.10_8080");
    assert_eq!(filter::<ExtAuthz>(&manager, "ext_authz"), None);
    assert_eq!(filter::<RateLimit>(&manager, "ratelimit"), None);
    assert!(!manager.access_log.is_empty(), "reports are for all");
}

#[test]
fn mixer_is_known_by_its_identity() {
    let output = tables(&generator(&[SHOP, MIXER]), CATALOG);
    let mixer = cluster(&output, MIXER_CLUSTER);
    let Some(SocketConfig::TypedConfig(any)) = mixer.transport_socket.unwrap().config_type else {
        panic!()
    };
    let context = UpstreamTlsContext::decode(any.value.as_slice())
        .unwrap()
        .common_tls_context
        .unwrap();
    assert_eq!(context.alpn_protocols, ["h2"]);
    assert!(format!("{context:?}").contains("spiffe://cluster.local/ns/argosy-system/sa/mixer"));
}

/// Connections that stand ask on after the last rule has gone; a Service's cluster of the same name would take the cluster's place
/// then, without mutual TLS.
#[test]
fn the_cluster_to_ask_is_not_that_of_mixers_service() {
    let of_service = "outbound|15004||mixer.argosy-system.svc.cluster.local";
    let output = tables(&generator(&[SHOP, MIXER]), CATALOG);
    cluster(&output, MIXER_CLUSTER);
    assert!(output.get(envoygen::type_url::CLUSTER, of_service).is_none());
}

#[test]
fn without_an_address_checks_meet_their_failure_mode_and_somebody_is_told() {
    let generator = Generator::new(snapshot(&[SHOP, MIXER]), Settings::default());
    let output = tables(&generator, CATALOG);
    let manager = inbound(&output, "127.1.0.21_8080");
    let reports = manager
        .access_log
        .iter()
        .any(|log| log.name.ends_with(".http_grpc"));
    assert!(manager.http_filters.iter().any(|f| f.name.contains("mixer")) && !reports);
    let nowhere = cluster(
        &output,
        "outbound|0|unreachable|mixer.argosy-system.svc.cluster.local",
    );
    assert!(nowhere.load_assignment.unwrap().endpoints.is_empty());
    let told: Vec<_> = output.findings.iter().map(ToString::to_string).collect();
    assert!(
        told.iter().any(|f| f.contains("no address of Mixer is known")),
        "{told:?}"
    );
}

#[test]
fn mesh_config_names_mixers_of_its_own() {
    let mesh = "apiVersion: mesh.istio.io/v1alpha1\nkind: MeshConfig\nmetadata: {name: istio, namespace: istio-system}\nspec: {mixerCheckServer: 'policy.example:9091', mixerReportServer: 'telemetry.example:9092'}\n";
    let output = tables(&generator(&[SHOP, MIXER, mesh]), CATALOG);
    cluster(&output, "outbound|9091|argosy.check|policy.example");
    cluster(&output, "outbound|9092|argosy.report|telemetry.example");
    assert!(output.get(envoygen::type_url::CLUSTER, MIXER_CLUSTER).is_none());
}
