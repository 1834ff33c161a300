//! What a thousand rules cost: one AuthorizationPolicy of 512 rules and one of 488 for a workload, compiled into its inbound
//! tables. The bound is 50 ms.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a benchmark may fail loudly, and measures time"
)]

use std::fmt::Write;
use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use envoygen::{Generator, Interception, Proxy, Scope, Settings};
use model::Snapshot;

const WORKLOAD: &str = "
{apiVersion: networking.istio.io/v1, kind: WorkloadEntry, metadata: {name: a, namespace: shop}, spec: {address: 127.1.9.1, labels: {app: a}}}
---
{apiVersion: networking.istio.io/v1, kind: Sidecar, metadata: {name: a, namespace: shop}, spec: {ingress: [{port: {number: 8080, protocol: HTTP, name: http}, bind: 127.1.9.1, captureMode: NONE, defaultEndpoint: '127.0.0.1:8081'}]}}
";

fn policy(name: &str, rules: usize) -> String {
    let mut text = format!(
        "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: {name}, namespace: shop}}\nspec:\n  rules:\n"
    );
    for index in 0..rules {
        writeln!(
            text,
            "  - {{from: [{{source: {{principals: [cluster.local/ns/n{index}/sa/a], notNamespaces: [x{index}]}}}}], to: [{{operation: {{methods: [GET, POST], paths: [/p{index}, '/q{index}/*'], hosts: [h{index}.example]}}}}], when: [{{key: 'request.headers[x-role]', values: [r{index}]}}, {{key: 'request.auth.claims[group]', values: [g{index}]}}]}}"
        )
        .unwrap();
    }
    text
}

fn policies(c: &mut Criterion) {
    let text = format!("{WORKLOAD}{}{}", policy("one", 512), policy("two", 488));
    let parsed = config::parse("bench.yaml", text.as_bytes(), "default");
    assert!(
        !parsed.findings.iter().any(config::Finding::is_error),
        "{:?}",
        parsed.findings
    );
    let snapshot = Arc::new(Snapshot::build(parsed.objects.into_iter().map(Arc::new)));
    let generator = Generator::new(snapshot, Settings::default());
    let mut proxy = Proxy::parse("sidecar~127.1.9.1~a.shop~shop.svc.cluster.local", None).unwrap();
    proxy.interception = Some(Interception::None);
    let scope = Scope::of(&proxy, &generator);
    let inbound = scope.inbound.expect("a sidecar is reached");
    let bytes: usize = generator
        .inbound(&inbound)
        .resources
        .iter()
        .map(|r| r.bytes.len())
        .sum();
    assert!(bytes > 100_000, "a thousand rules are {bytes} bytes");
    c.bench_function("policies of 1,000 rules", |b| {
        b.iter(|| black_box(generator.inbound(&inbound)))
    });
}

criterion_group!(benches, policies);
criterion_main!(benches);
