//! The mesh of the measurement: a frontend that calls a catalog, rules that only Mixer can decide, and a metric.

use std::fmt::Write as _;

/// Account and address of the called workload's proxy.
pub(super) const CATALOG: (&str, &str) = ("catalog", "127.0.0.1");
/// Node id of the called workload's proxy.
pub(super) const NODE: &str = "sidecar~127.0.0.1~catalog-v1.shop~shop.svc.cluster.local";
/// The caller's identity and address.
pub(super) const FRONTEND: (&str, &str) = ("spiffe://cluster.local/ns/shop/sa/frontend", "127.0.0.2");
/// The port that the catalog serves.
pub(super) const PORT: u16 = 8080;
/// Values of the metric's label that has many, and so, with codes, its series.
pub(super) const USERS: usize = 1_000;

const MESH: &str = r#"
{apiVersion: networking.istio.io/v1, kind: WorkloadEntry, metadata: {name: catalog-v1, namespace: shop}, spec: {address: 127.0.0.1, serviceAccount: catalog, labels: {app: catalog}}}
---
{apiVersion: networking.istio.io/v1, kind: WorkloadEntry, metadata: {name: frontend-v1, namespace: shop}, spec: {address: 127.0.0.2, serviceAccount: frontend, labels: {app: frontend}}}
---
{apiVersion: v1, kind: Service, metadata: {name: catalog, namespace: shop}, spec: {selector: {app: catalog}, ports: [{name: http, port: 80, targetPort: 8080}]}}
---
{apiVersion: config.istio.io/v1alpha2, kind: handler, metadata: {name: deny, namespace: shop}, spec: {compiledAdapter: denier, params: {status: {code: 7}}}}
---
{apiVersion: config.istio.io/v1alpha2, kind: instance, metadata: {name: any, namespace: shop}, spec: {compiledTemplate: checknothing}}
---
{apiVersion: config.istio.io/v1alpha2, kind: instance, metadata: {name: calls, namespace: shop}, spec: {compiledTemplate: metric, params: {value: "1", dimensions: {source: 'source.workload.name | "unknown"', user: 'request.headers["x-user"] | "none"', code: 'response.code | 0'}}}}
---
{apiVersion: config.istio.io/v1alpha2, kind: handler, metadata: {name: prometheus, namespace: shop}, spec: {compiledAdapter: prometheus, params: {metrics: [{name: calls, instance_name: calls.instance.shop, kind: COUNTER, label_names: [source, user, code]}]}}}
---
{apiVersion: config.istio.io/v1alpha2, kind: rule, metadata: {name: count, namespace: shop}, spec: {actions: [{handler: prometheus, instances: [calls]}]}}
"#;

/// All objects, with so many rules that read the caller's labels, and a header.
pub(super) fn yaml(rules: usize) -> String {
    let mut yaml = MESH.to_owned();
    for number in 0..rules {
        // Writing to a String cannot fail.
        let _ = writeln!(
            yaml,
            "---\n{{apiVersion: config.istio.io/v1alpha2, kind: rule, metadata: {{name: rule-{number}, namespace: shop}}, spec: {{match: '(source.labels[\"app\"] | \"none\") == \"app-{number}\" || request.headers[\"x-user\"] == \"user-{number}\"', actions: [{{handler: deny, instances: [any]}}]}}}}"
        );
    }
    yaml
}
