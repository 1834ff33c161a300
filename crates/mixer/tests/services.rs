//! Mixer's services on loopback over mutual TLS, called as Envoy calls them, with the sample mesh as configuration.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

#[path = "common/mod.rs"]
mod common;

use std::sync::atomic::Ordering;

use common::reports::{address, check, inbound_entry, message, send};
use common::server::{SAMPLE, Server, descriptor};
use envoy_types::pb::envoy::data::accesslog::v3::{
    AccessLogCommon, AccessLogType, ConnectionProperties, HttpAccessLogEntry, HttpResponseProperties,
    TcpAccessLogEntry,
};
use envoy_types::pb::envoy::service::accesslog::v3::StreamAccessLogsMessage;
use envoy_types::pb::envoy::service::accesslog::v3::stream_access_logs_message::{
    Identifier, LogEntries, TcpAccessLogEntries,
};
use envoy_types::pb::envoy::service::auth::v3::authorization_client::AuthorizationClient;
use envoy_types::pb::envoy::service::auth::v3::check_response::HttpResponse;
use envoy_types::pb::envoy::service::ratelimit::v3::RateLimitRequest;
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::Code as Limit;
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_service_client::RateLimitServiceClient;
use envoy_types::pb::google::protobuf::UInt32Value;

use runtime::grpc;
use tonic::Code;

#[tokio::test]
async fn a_denier_refuses_with_istios_status_and_message() {
    let server = Server::with_sample().await;
    let refused = server.check("catalog", check("mallory")).await.unwrap();
    assert_eq!(refused.status.unwrap().code, 7);
    let Some(HttpResponse::DeniedResponse(denied)) = refused.http_response else {
        panic!("let through")
    };
    assert_eq!(denied.status.unwrap().code, 403);
    assert_eq!(
        denied.body,
        "PERMISSION_DENIED:doorman.istio-system:mallory is not welcome here"
    );

    let passed = server.check("catalog", check("jason")).await.unwrap();
    assert_eq!(passed.status.unwrap().code, 0);
    assert!(matches!(passed.http_response, Some(HttpResponse::OkResponse(_))));
}

#[tokio::test]
async fn a_check_is_decided_for_the_callers_own_workload() {
    let server = Server::with_sample().await;
    // The frontend's proxy cannot ask as the catalog, whatever address it claims: the rule for the catalog does not hold.
    let asked = server.check("frontend", check("mallory")).await.unwrap();
    assert_eq!(asked.status.unwrap().code, 0);
    // An identity without a workload is not decided about.
    let unknown = server.check("stranger", check("mallory")).await.unwrap_err();
    assert_eq!(unknown.code(), Code::Unavailable);
    assert!(
        unknown.message().contains("cluster.local/ns/shop/sa/stranger"),
        "{unknown}"
    );
}

#[tokio::test]
async fn nothing_is_decided_before_there_is_configuration() {
    let server = Server::start().await;
    assert_eq!(
        server.check("catalog", check("jason")).await.unwrap_err().code(),
        Code::Unavailable
    );
    assert_eq!(
        server.limit("catalog", "jason").await.unwrap_err().code(),
        Code::Unavailable
    );
}

#[tokio::test]
async fn a_caller_without_a_certificate_is_refused() {
    let server = Server::with_sample().await;
    let plain = grpc::channel(&server.address, None).unwrap();
    assert!(
        AuthorizationClient::new(plain)
            .check(check("jason"))
            .await
            .is_err()
    );
    let stranger = common::Root::new().identity("shop", "catalog");
    assert!(
        AuthorizationClient::new(server.connect(&stranger))
            .check(check("jason"))
            .await
            .is_err()
    );
}

#[tokio::test]
async fn a_quota_runs_out_and_comes_back() {
    let server = Server::with_sample().await;
    for _ in 0..5 {
        assert_eq!(
            server.limit("catalog", "jason").await.unwrap().overall_code(),
            Limit::Ok
        );
    }
    let over = server.limit("catalog", "jason").await.unwrap();
    assert_eq!(over.overall_code(), Limit::OverLimit);
    assert_eq!(
        over.raw_body,
        b"RESOURCE_EXHAUSTED:Quota is exhausted for: catalogquota"
    );
    assert_eq!(over.statuses[0].duration_until_reset.map(|d| d.seconds), Some(3));
    // Another user has a quota of their own.
    assert_eq!(
        server.limit("catalog", "anna").await.unwrap().overall_code(),
        Limit::Ok
    );

    // A change elsewhere in the configuration gives nothing back.
    let other = "apiVersion: config.istio.io/v1alpha2\nkind: rule\nmetadata: {name: other, namespace: shop}\n\
        spec:\n  actions:\n  - handler: quotas.istio-system\n    instances: [catalogquota.istio-system]\n";
    server
        .mixer
        .configure(common::state([SAMPLE[0], SAMPLE[1], SAMPLE[2], other]));
    assert_eq!(
        server.limit("catalog", "jason").await.unwrap().overall_code(),
        Limit::OverLimit
    );

    server.now.store(3_000_000_000, Ordering::SeqCst);
    assert_eq!(
        server.limit("catalog", "jason").await.unwrap().overall_code(),
        Limit::Ok
    );
}

#[tokio::test]
async fn a_descriptor_speaks_for_its_sender_alone() {
    let server = Server::with_sample().await;
    let foreign = server.limit("frontend", "jason").await.unwrap_err();
    assert_eq!(foreign.code(), Code::Unavailable);
    let mut client = RateLimitServiceClient::new(server.proxy("catalog"));
    let request = RateLimitRequest {
        domain: "other".into(),
        ..descriptor("jason")
    };
    assert_eq!(
        client.should_rate_limit(request).await.unwrap_err().code(),
        Code::InvalidArgument
    );
}

/// An entry of frontend-v1's log about a request to catalog-v2.
fn outbound_entry() -> HttpAccessLogEntry {
    HttpAccessLogEntry {
        common_properties: Some(AccessLogCommon {
            downstream_direct_remote_address: address("127.1.0.10", 40001),
            downstream_local_address: address("127.1.0.10", 7080),
            upstream_remote_address: address("127.1.0.22", 8080),
            upstream_cluster: "outbound|7080|v2|catalog.shop.svc.cluster.local".into(),
            ..AccessLogCommon::default()
        }),
        response: Some(HttpResponseProperties {
            response_code: Some(UInt32Value { value: 200 }),
            ..HttpResponseProperties::default()
        }),
        ..HttpAccessLogEntry::default()
    }
}

fn has(page: &str, labels: &[&str], value: &str) {
    let lines = page
        .lines()
        .filter(|line| line.starts_with("istio_requests_total{"));
    let found = lines.into_iter().any(|line| {
        labels.iter().all(|label| line.contains(label)) && line.rsplit(' ').next() == Some(value)
    });
    assert!(found, "no series with {labels:?} and {value} in:\n{page}");
}

#[tokio::test]
async fn reports_of_both_sides_are_counted_with_source_and_destination() {
    let server = Server::with_sample().await;
    let catalog = "sidecar~127.1.0.21~catalog-v1.shop~shop.svc.cluster.local";
    let entries = vec![inbound_entry(), inbound_entry()];
    send(
        server.proxy("catalog"),
        vec![message("argosy.inbound", catalog, entries)],
    )
    .await;
    let frontend = "sidecar~127.1.0.10~frontend-v1.shop~shop.svc.cluster.local";
    send(
        server.proxy("frontend"),
        vec![message("argosy.outbound", frontend, vec![outbound_entry()])],
    )
    .await;

    server.page("reporter=\"source\"").await;
    let page = server.page("reporter=\"destination\"").await;
    let inbound = [
        "reporter=\"destination\"",
        "source_workload=\"frontend-v1\"",
        "source_principal=\"cluster.local/ns/shop/sa/frontend\"",
        "destination_workload=\"catalog-v1\"",
        "destination_principal=\"cluster.local/ns/shop/sa/catalog\"",
        "destination_version=\"v1\"",
        "destination_service=\"catalog.shop.svc.cluster.local\"",
        "request_protocol=\"http\"",
        "response_code=\"503\"",
        "connection_security_policy=\"mutual_tls\"",
    ];
    has(&page, &inbound, "2");
    let outbound = [
        "reporter=\"source\"",
        "source_workload=\"frontend-v1\"",
        "destination_workload=\"catalog-v2\"",
        "destination_principal=\"unknown\"",
        "destination_service_name=\"catalog\"",
        "response_code=\"200\"",
    ];
    has(&page, &outbound, "1");
}

#[tokio::test]
async fn a_report_cannot_name_another_reporter() {
    let server = Server::with_sample().await;
    // The frontend claims to be catalog-v1: the destination is what its certificate says.
    let catalog = "sidecar~127.1.0.21~catalog-v1.shop~shop.svc.cluster.local";
    send(
        server.proxy("frontend"),
        vec![message("argosy.inbound", catalog, vec![inbound_entry()])],
    )
    .await;
    let page = server.page("reporter=\"destination\"").await;
    has(&page, &["destination_workload=\"frontend-v1\""], "1");
    assert!(!page.contains("destination_workload=\"catalog-v1\""), "{page}");
}

#[tokio::test]
async fn a_bad_object_is_told_and_leaves_the_rest_in_force() {
    let server = Server::start().await;
    let bad = "apiVersion: config.istio.io/v1alpha2\nkind: rule\nmetadata: {name: bad, namespace: shop}\n\
        spec:\n  match: source.lables[\"app\"] == \"x\"\n  actions:\n  - handler: doorman.istio-system\n    instances: [visit.istio-system]\n";
    server
        .mixer
        .configure(common::state([SAMPLE[0], SAMPLE[1], SAMPLE[2], bad]));
    let findings = server.mixer.findings();
    assert_eq!(findings.len(), 1, "{findings:?}");
    let told = findings[0].to_string();
    assert!(
        told.contains("rule shop/bad") && told.contains("source.labels"),
        "{told}"
    );
    let refused = server.check("catalog", check("mallory")).await.unwrap();
    assert_eq!(refused.status.unwrap().code, 7);
}

/// TCP to port 9000 is for the frontend alone, and its bytes are counted.
const TCP: &str = r#"
apiVersion: config.istio.io/v1alpha2
kind: rule
metadata: {name: frontend-only, namespace: istio-system}
spec:
  match: context.protocol == "tcp" && destination.port == 9000 && (source.workload.name | "") != "frontend-v1"
  actions:
  - {handler: doorman, instances: [visit]}
---
apiVersion: config.istio.io/v1alpha2
kind: instance
metadata: {name: sent, namespace: istio-system}
spec:
  compiledTemplate: metric
  params:
    value: connection.sent.bytes | 0
    dimensions: {to: destination.workload.name | "unknown", event: connection.event | "none"}
---
apiVersion: config.istio.io/v1alpha2
kind: handler
metadata: {name: tcp, namespace: istio-system}
spec:
  compiledAdapter: prometheus
  params:
    metrics:
    - {name: tcp_sent_bytes_total, instance_name: sent.instance.istio-system, kind: COUNTER, label_names: [to, event]}
---
apiVersion: config.istio.io/v1alpha2
kind: rule
metadata: {name: count-tcp, namespace: istio-system}
spec:
  match: context.protocol == "tcp"
  actions:
  - {handler: tcp, instances: [sent]}
"#;

#[tokio::test]
async fn connections_are_checked_and_their_bytes_counted_once() {
    let server = Server::start().await;
    server
        .mixer
        .configure(common::state([SAMPLE[0], SAMPLE[1], SAMPLE[2], TCP]));
    assert!(
        server.mixer.findings().is_empty(),
        "{:?}",
        server.mixer.findings()
    );
    let connection = |from: &str| {
        let mut request = check("");
        let attributes = request.attributes.as_mut().unwrap();
        attributes.request = None;
        attributes.source.as_mut().unwrap().address = address(from, 40000);
        attributes.destination.as_mut().unwrap().address = address("127.1.0.21", 9000);
        request
    };
    let passed = server.check("catalog", connection("127.1.0.10")).await.unwrap();
    assert_eq!(passed.status.unwrap().code, 0);
    // The frontend's identity from another address is not the workload frontend-v1.
    let refused = server.check("catalog", connection("127.1.0.99")).await.unwrap();
    assert_eq!(refused.status.unwrap().code, 7);

    let entry = |kind: AccessLogType, sent_bytes| TcpAccessLogEntry {
        common_properties: Some(AccessLogCommon {
            stream_id: "1".into(),
            access_log_type: kind.into(),
            downstream_local_address: address("127.1.0.21", 9000),
            ..AccessLogCommon::default()
        }),
        connection_properties: Some(ConnectionProperties {
            received_bytes: 0,
            sent_bytes,
        }),
    };
    let log_entry = vec![
        entry(AccessLogType::TcpConnectionStart, 0),
        entry(AccessLogType::TcpPeriodic, 70),
        entry(AccessLogType::TcpConnectionEnd, 100),
    ];
    let message = StreamAccessLogsMessage {
        identifier: Some(Identifier {
            node: None,
            log_name: "argosy.inbound".into(),
        }),
        log_entries: Some(LogEntries::TcpLogs(TcpAccessLogEntries { log_entry })),
    };
    send(server.proxy("catalog"), vec![message]).await;
    server
        .page("istio_tcp_sent_bytes_total{to=\"catalog-v1\",event=\"continue\"} 70\n")
        .await;
    server
        .page("istio_tcp_sent_bytes_total{to=\"catalog-v1\",event=\"close\"} 30\n")
        .await;
}

#[tokio::test]
async fn reports_that_come_before_the_configuration_wait_for_it() {
    let server = Server::start().await;
    let catalog = "sidecar~127.1.0.21~catalog-v1.shop~shop.svc.cluster.local";
    send(
        server.proxy("catalog"),
        vec![message("argosy.inbound", catalog, vec![inbound_entry()])],
    )
    .await;
    server.mixer.configure(common::state(SAMPLE));
    let page = server.page("istio_requests_total{").await;
    has(
        &page,
        &[
            "source_workload=\"frontend-v1\"",
            "destination_workload=\"catalog-v1\"",
        ],
        "1",
    );
}
