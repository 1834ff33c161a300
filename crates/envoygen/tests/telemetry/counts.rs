//! What proxies count of requests and connections: under Istio's names, with labels that nobody makes up.

use envoy_types::pb::envoy::config::accesslog::v3::access_log::ConfigType as LogConfig;
use envoy_types::pb::envoy::config::bootstrap::v3::Bootstrap;
use envoy_types::pb::envoy::config::common::mutation_rules::v3::header_mutation::Action;
use envoy_types::pb::envoy::config::listener::v3::filter::ConfigType as NetworkConfig;
use envoy_types::pb::envoy::extensions::access_loggers::stats::v3::{Config as StatsConfig, config::Tag};
use envoy_types::pb::envoy::extensions::filters::http::header_mutation::v3::HeaderMutation;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_filter::ConfigType as FilterConfig;
use envoy_types::pb::google::protobuf::{Struct, UInt32Value, Value as Proto, value::Kind};
use envoy_types::util::pack_any;
use prost::Message;

use crate::providers::manager;
use crate::support::envoy::{echo, request, run};
use crate::support::{generator, tables};

/// A gateway, a workload without a proxy, and one with a proxy, on addresses of one test; `N` in them is the test's number.
const MESH: &str = r#"
{apiVersion: v1, kind: Service, metadata: {name: echo, namespace: shop}, spec: {selector: {app: echo}, ports: [{name: http, port: 80, targetPort: 8080}, {name: tcp-raw, port: 81, targetPort: 8080}]}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: echo-v1, namespace: shop}
spec: {address: 127.9.N.2, labels: {app: echo, version: v1}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: gate, namespace: shop}
spec: {address: 127.9.N.1, labels: {istio: gate}}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: gate, namespace: shop}
spec:
  selector: {istio: gate}
  servers:
  - {port: {number: 8081, protocol: HTTP, name: http}, bind: 127.9.N.1, hosts: ["*"]}
  - {port: {number: 8082, protocol: TCP, name: tcp}, bind: 127.9.N.1, hosts: ["*"]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: echo, namespace: shop}
spec:
  hosts: ["*"]
  gateways: [gate]
  http: [{route: [{destination: {host: echo.shop.svc.cluster.local, port: {number: 80}}}]}]
  tcp: [{match: [{port: 8082}], route: [{destination: {host: echo.shop.svc.cluster.local, port: {number: 81}}}]}]
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: echo, namespace: shop}
spec:
  workloadSelector: {labels: {app: echo}}
  ingress:
  - {port: {number: 8080, protocol: HTTP, name: http}, bind: 127.9.N.3, captureMode: NONE, defaultEndpoint: "127.9.N.2:8080"}
  egress: [{hosts: ["~/*"]}]
"#;

fn mesh(number: u8) -> String {
    MESH.replace("127.9.N.", &format!("127.9.{number}."))
}

/// The node's metadata, as the agent gives it.
fn node(bootstrap: &mut Bootstrap, name: &str, app: &str) {
    let text = |text: &str| Proto {
        kind: Some(Kind::StringValue(text.to_owned())),
    };
    let labels = Struct {
        fields: [("app".to_owned(), text(app))].into(),
    };
    let fields = [
        ("WORKLOAD_NAME", text(name)),
        ("NAMESPACE", text("shop")),
        ("CANONICAL_NAME", text(app)),
        ("CANONICAL_REVISION", text("latest")),
        ("CLUSTER_ID", text("Kubernetes")),
        (
            "PEER",
            text(&format!("{name};shop;{app};;{app};latest;Kubernetes")),
        ),
        (
            "LABELS",
            Proto {
                kind: Some(Kind::StructValue(labels)),
            },
        ),
    ];
    let fields = fields
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect();
    bootstrap.node.as_mut().unwrap().metadata = Some(Struct { fields });
}

/// The line of a metric.
fn line<'a>(page: &'a str, metric: &str) -> &'a str {
    page.lines()
        .find(|line| line.starts_with(&format!("envoy_{metric}{{")))
        .unwrap_or_else(|| panic!("{metric} in {page}"))
}

fn has(line: &str, labels: &[(&str, &str)]) {
    for (label, value) in labels {
        assert!(
            line.contains(&format!("{label}=\"{value}\"")),
            "{label}={value} in {line}"
        );
    }
}

#[test]
fn clients_count_under_istios_names() {
    let output = tables(
        &generator(&[&mesh(1)]),
        "router~127.9.1.1~gate.shop~shop.svc.cluster.local",
    );
    echo("127.9.1.2:8080");
    let Some(envoy) = run(&output, "127.9.1.1:15000", |b| node(b, "gate", "gate")) else {
        return;
    };
    let answer = request(
        "127.9.1.1:8081",
        "GET /x HTTP/1.1",
        &["x-argosy-peer: forged;forged"],
    )
    .unwrap();
    assert!(
        answer.contains("x-argosy-peer: gate;shop;gate;;gate;latest;Kubernetes"),
        "{answer}"
    );
    assert!(!answer.contains("forged"), "{answer}");
    let page = envoy.page("/stats/prometheus?filter=istio", "envoy_istio_requests_total{");
    let expected = [
        ("reporter", "source"),
        ("source_workload", "gate"),
        ("source_app", "gate"),
        ("source_version", ""),
        ("destination_workload", "echo-v1"),
        ("destination_workload_namespace", "shop"),
        ("destination_app", "echo"),
        ("destination_version", "v1"),
        ("destination_canonical_service", "echo"),
        ("destination_canonical_revision", "v1"),
        ("destination_cluster", "Kubernetes"),
        ("destination_service", "echo.shop.svc.cluster.local"),
        ("destination_service_name", "echo"),
        ("destination_service_namespace", "shop"),
        ("request_protocol", "http"),
        ("response_code", "200"),
        ("response_flags", "-"),
        ("connection_security_policy", "unknown"),
    ];
    has(line(&page, "istio_requests_total"), &expected);
    // Histograms come with the next flush.
    let page = envoy.page(
        "/stats/prometheus?filter=istio",
        "envoy_istio_request_duration_milliseconds_count{",
    );
    assert!(page.contains("envoy_istio_response_bytes_sum{"), "{page}");

    request("127.9.1.1:8082", "GET /tcp HTTP/1.1", &[]).unwrap();
    for metric in [
        "tcp_connections_opened_total",
        "tcp_connections_closed_total",
        "tcp_sent_bytes_total",
        "tcp_received_bytes_total",
    ] {
        // Each has its own moment.
        let page = envoy.page(
            "/stats/prometheus?filter=istio",
            &format!("envoy_istio_{metric}{{"),
        );
        let line = line(&page, &format!("istio_{metric}"));
        has(
            line,
            &[
                ("request_protocol", "tcp"),
                ("destination_workload", "echo-v1"),
                ("destination_service_name", "echo"),
            ],
        );
        assert!(!line.ends_with(" 0"), "{line}");
    }
}

/// The sidecar's listener with one of its chains alone, whatever connections that was for.
fn only_chain(bootstrap: &mut Bootstrap, mtls: bool) {
    let listeners = &mut bootstrap.static_resources.as_mut().unwrap().listeners;
    listeners.retain(|listener| listener.name.ends_with("_8080"));
    let listener = listeners.first_mut().unwrap();
    listener
        .filter_chains
        .retain(|chain| chain.transport_socket.is_some() == mtls);
    listener.filter_chains.truncate(1);
    let chain = &mut listener.filter_chains[0];
    (chain.transport_socket, chain.filter_chain_match) = (None, None);
    listener.listener_filters.clear();
}

/// Has connections, which are in plaintext here, count as those of this identity where the peer's header is read.
fn identified(bootstrap: &mut Bootstrap, uri: &str) {
    let listeners = &mut bootstrap.static_resources.as_mut().unwrap().listeners;
    let filter = &mut listeners[0].filter_chains[0].filters[0];
    let mut manager = crate::support::manager(filter).unwrap();
    for filter in &mut manager.http_filters {
        let Some(FilterConfig::TypedConfig(any)) = &mut filter.config_type else {
            continue;
        };
        if filter.name == "envoy.filters.http.header_mutation.peer" {
            let mut config = HeaderMutation::decode(any.value.as_slice()).unwrap();
            let mutations = &mut config.mutations.as_mut().unwrap().request_mutations;
            let Some(Action::Append(option)) = &mut mutations[0].action else {
                panic!("{mutations:?}")
            };
            let value = &mut option.header.as_mut().unwrap().value;
            *value = value.replace("%DOWNSTREAM_PEER_URI_SAN%", uri);
            *any = pack_any(config);
        }
    }
    filter.config_type = Some(NetworkConfig::TypedConfig(pack_any(manager)));
}

/// Checks what a server counts of a client of namespace `front` that says who it is.
fn check_server(number: u8, mtls: bool, says: &str, labels: &[(&str, &str)]) {
    let text = mesh(number).replace(
        "labels: {app: echo, version: v1}",
        "labels: {app: echo, version: v1, security.istio.io/tlsMode: istio}",
    );
    let output = tables(
        &generator(&[&text]),
        &format!("sidecar~127.9.{number}.2~echo-v1.shop~shop.svc.cluster.local"),
    );
    echo(&format!("127.9.{number}.2:8080"));
    let edit = |b: &mut Bootstrap| {
        node(b, "echo-v1", "echo");
        only_chain(b, mtls);
        identified(b, "spiffe://cluster.local/ns/front/sa/web");
    };
    let Some(envoy) = run(&output, &format!("127.9.{number}.2:15000"), edit) else {
        return;
    };
    let answer = request(
        &format!("127.9.{number}.3:8080"),
        "GET /x HTTP/1.1",
        &[&format!("x-argosy-peer: {says}")],
    );
    let answer = answer.unwrap();
    assert!(
        answer.contains("200 OK") && !answer.contains("x-argosy-peer"),
        "{answer}"
    );
    let page = envoy.page("/stats/prometheus?filter=istio", "envoy_istio_requests_total{");
    let line = line(&page, "istio_requests_total");
    has(line, labels);
    has(
        line,
        &[
            ("reporter", "destination"),
            ("destination_workload", "echo-v1"),
            ("destination_service", "echo.shop.svc.cluster.local"),
        ],
    );
}

#[test]
fn servers_believe_peers_over_mutual_tls() {
    let labels = [
        ("source_workload", "web-v2"),
        ("source_workload_namespace", "front"),
        ("source_app", "web"),
        ("source_version", "v2"),
        ("source_canonical_service", "canon"),
        ("source_canonical_revision", "rev"),
        ("source_cluster", "c1"),
        ("connection_security_policy", "mutual_tls"),
    ];
    check_server(2, true, "web-v2;front;web;v2;canon;rev;c1", &labels);
}

/// Any pod may call with its own certificate and say what it likes.
#[test]
fn servers_do_not_believe_that_a_peer_is_of_another_namespace() {
    let start = "bank;admin;a b{c};v,1;canon;rev;";
    let says = format!("{start}{}", "c".repeat(2000));
    // So much is read of the header.
    let cluster = "c".repeat(1024 - start.len());
    let labels = [
        ("source_workload", "bank"),
        ("source_workload_namespace", "front"),
        ("source_app", ""),
        ("source_version", ""),
        ("source_cluster", cluster.as_str()),
    ];
    check_server(4, true, &says, &labels);
}

/// Labels that a peer makes up fill so much memory and no more.
#[test]
fn made_up_labels_are_bounded() {
    let output = tables(
        &generator(&[&mesh(5)]),
        "router~127.9.5.1~gate.shop~shop.svc.cluster.local",
    );
    let scope = manager(&output, "127.9.5.1_8081")["access_log"]
        .as_array()
        .unwrap()
        .iter()
        .find(|log| log["name"] == "envoy.access_loggers.stats")
        .unwrap()["typed_config"]["stats_scope"]
        .clone();
    assert_eq!(
        (&scope["max_counters"], &scope["max_histograms"]),
        (&50_000.into(), &100_000.into()),
        "{scope}"
    );
    // Envoy keeps to such a bound: three of ten paths.
    echo("127.9.5.2:8080");
    let edit = |b: &mut Bootstrap| {
        node(b, "gate", "gate");
        by_path(b);
    };
    let Some(envoy) = run(&output, "127.9.5.1:15000", edit) else {
        return;
    };
    for n in 0..10 {
        request("127.9.5.1:8081", &format!("GET /{n} HTTP/1.1"), &[]).unwrap();
    }
    let count = |page: &str| {
        let lines = page.lines();
        lines
            .filter(|line| line.starts_with("envoy_istio_requests_total{"))
            .count()
    };
    envoy.page("/stats?filter=http.*downstream_rq_completed", ": 10");
    let page = envoy.page("/stats/prometheus?filter=istio", "envoy_istio_requests_total{");
    assert_eq!(count(&page), 3, "{page}");
}

/// Counts requests by their paths, three at most.
fn by_path(bootstrap: &mut Bootstrap) {
    let listeners = &mut bootstrap.static_resources.as_mut().unwrap().listeners;
    let filters = listeners
        .iter_mut()
        .flat_map(|listener| &mut listener.filter_chains)
        .flat_map(|chain| &mut chain.filters);
    for filter in filters {
        let Some(mut manager) = crate::support::manager(filter) else {
            continue;
        };
        for log in &mut manager.access_log {
            let Some(LogConfig::TypedConfig(any)) = &mut log.config_type else {
                continue;
            };
            if log.name == "envoy.access_loggers.stats" {
                let mut config = StatsConfig::decode(any.value.as_slice()).unwrap();
                config.stats_scope.as_mut().unwrap().max_counters = Some(UInt32Value { value: 3 });
                for counter in &mut config.counters {
                    counter.stat.as_mut().unwrap().tags.push(Tag {
                        name: "path".into(),
                        value_format: "%REQ(:PATH)%".into(),
                        ..Default::default()
                    });
                }
                *any = pack_any(config);
            }
        }
        filter.config_type = Some(NetworkConfig::TypedConfig(pack_any(manager)));
    }
}

#[test]
fn servers_believe_nobody_in_plaintext() {
    check_server(
        3,
        false,
        "web-v2;front;web;v2;canon;rev;c1",
        &[
            ("source_workload", "unknown"),
            ("source_app", "unknown"),
            ("connection_security_policy", "none"),
        ],
    );
}
