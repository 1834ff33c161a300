//! The Telemetry API: what proxies log, count and trace, on a real Envoy.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests may fail loudly, and this one starts Envoys"
)]

mod support;

use envoy_types::pb::envoy::config::accesslog::v3::access_log::ConfigType as LogConfig;
use envoy_types::pb::envoy::config::bootstrap::v3::Bootstrap;
use envoy_types::pb::envoy::config::common::mutation_rules::v3::header_mutation::Action;
use envoy_types::pb::envoy::config::listener::v3::filter::ConfigType as NetworkConfig;
use envoy_types::pb::envoy::extensions::access_loggers::stats::v3::{Config as StatsConfig, config::Tag};
use envoy_types::pb::envoy::extensions::filters::http::header_mutation::v3::HeaderMutation;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_filter::ConfigType as FilterConfig;
use envoy_types::pb::google::protobuf::{Struct, UInt32Value, Value as Proto, value::Kind};
use envoy_types::util::pack_any;
use envoygen::{Output, type_url};
use prost::Message;
use serde_json::Value;
use support::envoy::{echo, request, run, validate};
use support::{SHOP, generator, tables};

const EDGE: &str = "router~127.1.0.1~ingressgateway.istio-system~istio-system.svc.cluster.local";
const FRONTEND: &str = "sidecar~127.1.0.10~frontend-v1.shop~shop.svc.cluster.local";

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
    let mut manager = support::manager(filter).unwrap();
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
        let Some(mut manager) = support::manager(filter) else {
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

const PROVIDERS: &str = r#"
apiVersion: mesh.istio.io/v1alpha1
kind: MeshConfig
metadata: {name: default, namespace: istio-system}
spec:
  extensionProviders:
  - {name: zipkin, zipkin: {service: collector.obs.svc.cluster.local, port: 9411, traceContextOption: USE_B3_WITH_W3C_PROPAGATION}}
  - {name: otel, opentelemetry: {service: obs/collector.obs.svc.cluster.local, port: 4317}}
  - {name: otel-http, opentelemetry: {service: collector.obs.svc.cluster.local, port: 9411, http: {path: /v1/traces, timeout: 3s, headers: [{name: x-key, value: secret}]}}}
  - {name: datadog, datadog: {service: collector.obs.svc.cluster.local, port: 9411}}
  - {name: sky, skywalking: {service: collector.obs.svc.cluster.local, port: 4317}}
  - {name: missing, zipkin: {service: nobody.obs.svc.cluster.local, port: 9411}}
  - {name: als, envoyHttpAls: {service: collector.obs.svc.cluster.local, port: 4317, additionalRequestHeadersToLog: [x-a]}}
  - {name: tcp-als, envoyTcpAls: {service: collector.obs.svc.cluster.local, port: 4317}}
  - {name: otel-als, envoyOtelAls: {service: collector.obs.svc.cluster.local, port: 4317, logFormat: {labels: {code: "%RESPONSE_CODE%"}}}}
  - {name: json, envoyFileAccessLog: {path: /dev/stderr, logFormat: {labels: {p: "%REQ(:PATH)%"}}}}
  defaultProviders: {accessLogging: [json]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: collector, namespace: obs}
spec:
  hosts: [collector.obs.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: 9411, name: http, protocol: HTTP}, {number: 4317, name: grpc, protocol: GRPC}]
  endpoints: [{address: 127.9.9.9}]
"#;

/// The sample mesh's tables of a node with providers and a Telemetry (its spec in flow style), which Envoy takes.
fn telemetry(node: &str, spec: &str) -> Output {
    let object = format!(
        "{{apiVersion: telemetry.istio.io/v1, kind: Telemetry, metadata: {{name: t, namespace: istio-system}}, spec: {spec}}}"
    );
    let output = tables(&generator(&[SHOP, PROVIDERS, &object]), node);
    validate(&output);
    output
}

/// The first connection manager of the edge's listener.
fn manager(output: &Output, listener: &str) -> Value {
    let found = output.get(type_url::LISTENER, listener).unwrap();
    let json = envoygen::to_json(type_url::LISTENER, &found.bytes).unwrap();
    json["filter_chains"][0]["filters"][0]["typed_config"].clone()
}

fn edge(spec: &str) -> (Output, Value) {
    let output = telemetry(EDGE, spec);
    let manager = manager(&output, "127.1.0.1_8080");
    (output, manager)
}

fn log_types(manager: &Value) -> Vec<String> {
    let logs = manager["access_log"].as_array().unwrap();
    logs.iter()
        .map(|log| {
            log["name"]
                .as_str()
                .unwrap()
                .trim_start_matches("envoy.access_loggers.")
                .to_owned()
        })
        .collect()
}

#[test]
fn logs_of_every_provider() {
    assert_eq!(log_types(&edge("{}").1), ["file", "stats"]);
    let all = "{accessLogging: [{providers: [{name: als}, {name: otel-als}, {name: envoy}, {name: tcp-als}], filter: {expression: 'response.code >= 400'}}]}";
    let (output, manager) = edge(all);
    assert_eq!(
        log_types(&manager),
        ["http_grpc", "file", "open_telemetry", "stats"]
    );
    assert_eq!(
        manager["access_log"][0]["filter"]["extension_filter"]["typed_config"]["expression"],
        "response.code >= 400"
    );
    assert!(
        output
            .get(
                type_url::CLUSTER,
                "outbound|4317||collector.obs.svc.cluster.local"
            )
            .is_some()
    );
    assert_eq!(
        log_types(&edge("{accessLogging: [{disabled: true}]}").1),
        ["stats"]
    );
    assert!(telemetry(FRONTEND, all).findings.is_empty());
}

#[test]
fn metrics_as_they_are_asked_for() {
    let tags = |spec: &str| {
        let (_, manager) = edge(spec);
        let stats = manager["access_log"]
            .as_array()
            .unwrap()
            .iter()
            .find(|log| log["name"] == "envoy.access_loggers.stats")
            .cloned();
        let counter = stats
            .map(|stats| stats["typed_config"]["counters"][0]["stat"].clone())
            .unwrap_or_default();
        let tags = counter["tags"].as_array().cloned().unwrap_or_default();
        tags.iter()
            .map(|tag| {
                format!(
                    "{}={}",
                    tag["name"].as_str().unwrap(),
                    tag["value_format"].as_str().unwrap()
                )
            })
            .collect::<Vec<_>>()
    };
    let plain = tags("{}");
    assert!(plain.iter().any(|tag| tag == "response_code=%RESPONSE_CODE%"));
    let changed = tags(
        "{metrics: [{overrides: [{match: {metric: REQUEST_COUNT}, tagOverrides: {response_code: {operation: REMOVE}, method: {value: request.method}}}]}]}",
    );
    assert_eq!(changed.len(), plain.len());
    assert!(
        changed.contains(&"method=%CEL(request.method)%".to_owned())
            && !changed.iter().any(|tag| tag.starts_with("response_code="))
    );
    assert!(tags("{metrics: [{overrides: [{match: {metric: ALL_METRICS}, disabled: true}]}]}").is_empty());
    assert!(
        tags("{metrics: [{overrides: [{match: {metric: REQUEST_COUNT, mode: CLIENT}, disabled: true}]}]}")
            .is_empty()
    );
}

/// Checks the tracer of the edge.
fn check_tracer(provider: &str, expected: &str) {
    let (_, manager) = edge(&format!(
        "{{tracing: [{{providers: [{{name: {provider}}}], randomSamplingPercentage: 12.5, customTags: {{a: {{literal: {{value: b}}}}, h: {{header: {{name: x-h, defaultValue: d}}}}, e: {{environment: {{name: E}}}}, f: {{formatter: {{value: '%REQ(x)%'}}}}}}}}]}}"
    ));
    let tracing = &manager["tracing"];
    assert_eq!(
        tracing["provider"]["name"],
        format!("envoy.tracers.{expected}"),
        "{provider}"
    );
    assert_eq!(tracing["random_sampling"]["value"], 12.5);
    assert_eq!(tracing["custom_tags"].as_array().unwrap().len(), 4 + 5);
}

#[test]
fn tracers() {
    for (provider, expected) in [
        ("zipkin", "zipkin"),
        ("otel", "opentelemetry"),
        ("otel-http", "opentelemetry"),
        ("datadog", "datadog"),
        ("sky", "skywalking"),
    ] {
        check_tracer(provider, expected);
    }
    let (_, manager) = edge("{tracing: [{providers: [{name: zipkin}]}]}");
    let zipkin = &manager["tracing"]["provider"]["typed_config"];
    assert_eq!(zipkin["trace_context_option"], "USE_B3_WITH_W3C_PROPAGATION");
    assert_eq!(zipkin["trace_id_128bit"], true);
    let (_, manager) = edge("{tracing: [{providers: [{name: zipkin}], disableSpanReporting: true}]}");
    assert_eq!(manager.get("tracing"), None);
}

#[test]
fn providers_that_cannot_be_used_are_reported() {
    for (spec, expected) in [
        (
            "{tracing: [{providers: [{name: missing}]}]}",
            "nobody.obs.svc.cluster.local",
        ),
        ("{tracing: [{providers: [{name: unheard-of}]}]}", "unheard-of"),
        (
            "{tracing: [{providers: [{name: als}]}]}",
            "none that stock Envoy can trace to",
        ),
        (
            "{accessLogging: [{providers: [{name: zipkin}]}]}",
            "makes no access logs",
        ),
        (
            "{metrics: [{providers: [{name: zipkin}]}]}",
            "no provider of metrics",
        ),
    ] {
        let said: Vec<String> = edge(spec).0.findings.iter().map(ToString::to_string).collect();
        assert!(
            said.iter()
                .any(|said| said.contains("Telemetry istio-system/t") && said.contains(expected)),
            "{spec} {said:?}"
        );
    }
}

#[test]
fn the_meshs_own_tracer() {
    let mesh = |config: &str| {
        PROVIDERS.replace(
            "  defaultProviders:",
            &format!("  enableTracing: true\n  defaultConfig: {config}\n  defaultProviders:"),
        )
    };
    let traced = |config: &str| {
        let output = tables(&generator(&[SHOP, &mesh(config)]), EDGE);
        validate(&output);
        let said: Vec<String> = output.findings.iter().map(ToString::to_string).collect();
        (manager(&output, "127.1.0.1_8080")["tracing"].clone(), said)
    };
    let (tracing, said) = traced(
        "{tracing: {sampling: 50, zipkin: {address: 'collector.obs:9411'}, customTags: {a: {literal: {value: b}}}}}",
    );
    assert!(said.is_empty(), "{said:?}");
    assert_eq!(tracing["random_sampling"]["value"], 50.0);
    assert_eq!(tracing["custom_tags"][0]["literal"]["value"], "b");
    let (tracing, said) = traced("{tracing: {zipkin: {address: 'nobody.obs:9411'}}}");
    assert!(
        tracing.is_null() && said.iter().any(|said| said.contains("nobody.obs")),
        "{said:?}"
    );
}
