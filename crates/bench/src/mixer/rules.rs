//! The mesh of the measurement: a frontend that calls a catalog, and the rules that are compared.

use std::fmt::Write as _;

/// Account and address of the called workload's proxy.
pub(super) const CATALOG: (&str, &str) = ("catalog", "127.0.0.3");
/// Node id of the called workload's proxy.
pub(super) const NODE: &str = "sidecar~127.0.0.3~catalog-v1.shop~shop.svc.cluster.local";
/// Address of the caller.
pub(super) const FRONTEND: &str = "127.0.0.2";
/// Values of the metric's label that has many, and so its series.
pub(super) const USERS: usize = 1_000;

const WORKLOADS: &str = r"
{apiVersion: networking.istio.io/v1, kind: WorkloadEntry, metadata: {name: catalog-v1, namespace: shop}, spec: {address: 127.0.0.3, serviceAccount: catalog, labels: {app: catalog}}}
---
{apiVersion: networking.istio.io/v1, kind: WorkloadEntry, metadata: {name: frontend-v1, namespace: shop}, spec: {address: 127.0.0.2, serviceAccount: frontend, labels: {app: frontend}}}
---
{apiVersion: config.istio.io/v1alpha2, kind: handler, metadata: {name: deny, namespace: shop}, spec: {compiledAdapter: denier, params: {status: {code: 7}}}}
---
{apiVersion: config.istio.io/v1alpha2, kind: instance, metadata: {name: any, namespace: shop}, spec: {compiledTemplate: checknothing}}
";

/// A rule that the proxy decides by itself.
pub(super) const COMPILED: &str = r#"
---
{apiVersion: config.istio.io/v1alpha2, kind: rule, metadata: {name: own, namespace: shop}, spec: {match: 'request.headers["x-user"] == "mallory"', actions: [{handler: deny, instances: [any]}]}}
"#;

/// A quota that Mixer counts for all proxies together; nobody uses it up.
pub(super) const QUOTA: &str = r#"
---
{apiVersion: config.istio.io/v1alpha2, kind: handler, metadata: {name: counter, namespace: shop}, spec: {compiledAdapter: memquota, params: {quotas: [{name: calls-of.instance.shop, maxAmount: 1000000000, validDuration: 1s}]}}}
---
{apiVersion: config.istio.io/v1alpha2, kind: instance, metadata: {name: calls-of, namespace: shop}, spec: {compiledTemplate: quota, params: {dimensions: {user: 'request.headers["x-user"] | "none"'}}}}
---
{apiVersion: config.istio.io/v1alpha2, kind: QuotaSpec, metadata: {name: calls-of, namespace: shop}, spec: {rules: [{quotas: [{quota: calls-of, charge: 1}]}]}}
---
{apiVersion: config.istio.io/v1alpha2, kind: QuotaSpecBinding, metadata: {name: calls-of, namespace: shop}, spec: {quotaSpecs: [{name: calls-of}], services: [{name: catalog}]}}
---
{apiVersion: config.istio.io/v1alpha2, kind: rule, metadata: {name: limit, namespace: shop}, spec: {actions: [{handler: counter, instances: [calls-of]}]}}
"#;

/// A metric that reads what Mixer alone knows.
pub(super) const METRIC: &str = r#"
---
{apiVersion: config.istio.io/v1alpha2, kind: instance, metadata: {name: calls, namespace: shop}, spec: {compiledTemplate: metric, params: {value: "1", dimensions: {source: 'source.workload.name | "unknown"', user: 'request.headers["x-user"] | "none"', code: 'response.code | 0'}}}}
---
{apiVersion: config.istio.io/v1alpha2, kind: handler, metadata: {name: prometheus, namespace: shop}, spec: {compiledAdapter: prometheus, params: {metrics: [{name: calls, instance_name: calls.instance.shop, kind: COUNTER, label_names: [source, user, code]}]}}}
---
{apiVersion: config.istio.io/v1alpha2, kind: rule, metadata: {name: count, namespace: shop}, spec: {actions: [{handler: prometheus, instances: [calls]}]}}
"#;

/// The workloads, a service that is reached at these ports of the catalog's proxy, and an application at `application` behind it.
pub(super) fn mesh(ports: &[u16], application: u16) -> String {
    let mut mesh = WORKLOADS.to_owned();
    let served: Vec<String> = ports
        .iter()
        .map(|port| format!("{{name: http-{port}, port: {port}}}"))
        .collect();
    let ingress: Vec<String> = ports
        .iter()
        .map(|port| {
            format!(
                "{{port: {{number: {port}, protocol: HTTP, name: http-{port}}}, bind: {}, captureMode: NONE, defaultEndpoint: \"127.0.0.1:{application}\"}}",
                CATALOG.1
            )
        })
        .collect();
    // Writing to a String cannot fail.
    let _ = writeln!(
        mesh,
        "---\n{{apiVersion: v1, kind: Service, metadata: {{name: catalog, namespace: shop}}, spec: {{selector: {{app: catalog}}, ports: [{}]}}}}",
        served.join(", ")
    );
    let _ = writeln!(
        mesh,
        "---\n{{apiVersion: networking.istio.io/v1, kind: Sidecar, metadata: {{name: catalog, namespace: shop}}, spec: {{workloadSelector: {{labels: {{app: catalog}}}}, egress: [{{hosts: [\"~/*\"]}}], ingress: [{}]}}}}",
        ingress.join(", ")
    );
    mesh
}

/// So many rules that only Mixer can decide: they read the caller's labels.
pub(super) fn checks(rules: usize) -> String {
    let mut yaml = String::new();
    for number in 0..rules {
        let _ = writeln!(
            yaml,
            "---\n{{apiVersion: config.istio.io/v1alpha2, kind: rule, metadata: {{name: rule-{number}, namespace: shop}}, spec: {{match: '(source.labels[\"app\"] | \"none\") == \"app-{number}\" || request.headers[\"x-user\"] == \"nobody-{number}\"', actions: [{{handler: deny, instances: [any]}}]}}}}"
        );
    }
    yaml
}
