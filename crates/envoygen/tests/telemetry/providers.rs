//! Providers: where proxies log and trace to, and what a Telemetry asks of metrics.

use envoygen::{Output, type_url};
use serde_json::Value;

use crate::support::envoy::validate;
use crate::support::{SHOP, generator, tables};

const EDGE: &str = "router~127.1.0.1~ingressgateway.istio-system~istio-system.svc.cluster.local";
const FRONTEND: &str = "sidecar~127.1.0.10~frontend-v1.shop~shop.svc.cluster.local";

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
pub(crate) fn manager(output: &Output, listener: &str) -> Value {
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
