//! What a decision, a charge and a report cost on one core: the average by criterion, and the 99th percentile of single calls.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark may fail loudly"
)]

use std::collections::BTreeMap;
use std::fmt::Write;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use config::mesh::MeshConfig;
use criterion::Criterion;
use model::Identity;
use policy::{HeaderMap, Party, Request, Response, Rules, ServiceView, Windows, WorkloadView, query_of};

/// Calls of which the percentile is taken.
const CALLS: usize = 200_000;

/// Twenty rules whose predicates read a request's labels, headers, path and identity, and whose lists are looked up; a quota;
/// a metric with Istio's labels.
fn mesh() -> String {
    let mut yaml = String::from(
        r#"
{apiVersion: config.istio.io/v1alpha2, kind: handler, metadata: {name: deny, namespace: shop}, spec: {compiledAdapter: denier, params: {status: {code: 7}}}}
---
{apiVersion: config.istio.io/v1alpha2, kind: handler, metadata: {name: versions, namespace: shop}, spec: {compiledAdapter: listchecker, params: {overrides: [v1, v2, v3]}}}
---
{apiVersion: config.istio.io/v1alpha2, kind: instance, metadata: {name: version, namespace: shop}, spec: {compiledTemplate: listentry, params: {value: 'source.labels["version"] | "v1"'}}}
---
{apiVersion: config.istio.io/v1alpha2, kind: handler, metadata: {name: quotas, namespace: shop}, spec: {compiledAdapter: memquota, params: {quotas: [{name: requests.instance.shop, maxAmount: 1000000000, validDuration: 10s}]}}}
---
{apiVersion: config.istio.io/v1alpha2, kind: instance, metadata: {name: requests, namespace: shop}, spec: {compiledTemplate: quota, params: {dimensions: {user: 'request.headers["x-user"] | "unknown"', source: 'source.labels["app"] | "unknown"'}}}}
---
{apiVersion: config.istio.io/v1alpha2, kind: QuotaSpec, metadata: {name: requests, namespace: shop}, spec: {rules: [{quotas: [{quota: requests, charge: 1}]}]}}
---
{apiVersion: config.istio.io/v1alpha2, kind: QuotaSpecBinding, metadata: {name: requests, namespace: shop}, spec: {quotaSpecs: [{name: requests, namespace: shop}], services: [{name: catalog, namespace: shop}]}}
---
{apiVersion: config.istio.io/v1alpha2, kind: rule, metadata: {name: quota, namespace: shop}, spec: {match: 'request.method == "GET"', actions: [{handler: quotas, instances: [requests]}]}}
---
{apiVersion: config.istio.io/v1alpha2, kind: handler, metadata: {name: prometheus, namespace: shop}, spec: {compiledAdapter: prometheus, params: {metrics: [{name: requests, instance_name: count.instance.shop, kind: COUNTER, label_names: [source, source_principal, destination, service, code, protocol, user]}]}}}
---
{apiVersion: config.istio.io/v1alpha2, kind: instance, metadata: {name: count, namespace: shop}, spec: {compiledTemplate: metric, params: {value: "1", dimensions: {source: 'source.workload.name | "unknown"', source_principal: 'source.principal | "unknown"', destination: 'destination.workload.name | "unknown"', service: 'destination.service.host | "unknown"', code: 'response.code | 200', protocol: 'context.protocol | "unknown"', user: 'request.headers["x-user"] | "unknown"'}}}}
---
{apiVersion: config.istio.io/v1alpha2, kind: rule, metadata: {name: count, namespace: shop}, spec: {match: 'context.protocol == "http"', actions: [{handler: prometheus, instances: [count]}]}}
"#,
    );
    let conditions = [
        r#"destination.labels["app"] == "catalog" && request.headers["x-user"] == "mallory""#,
        r#"source.labels["app"] == "frontend" && request.path.startsWith("/admin")"#,
        r#"(source.namespace | "none") != "shop" || "^/internal/.*$".matches(request.path)"#,
        r#"(request.headers["x-tier"] | "tin") == "gold" && request.method == "DELETE""#,
    ];
    for number in 0..20 {
        let condition = conditions.get(number % conditions.len()).unwrap();
        let (condition, handler, instance) = match number % 5 {
            0 => (r#"destination.labels["app"] == "catalog""#, "versions", "version"),
            _ => (*condition, "deny", "version"),
        };
        write!(
            yaml,
            "---\n{{apiVersion: config.istio.io/v1alpha2, kind: rule, metadata: {{name: rule-{number}, namespace: shop}}, spec: {{match: '{condition}', actions: [{{handler: {handler}, instances: [{instance}]}}]}}}}\n"
        )
        .unwrap();
    }
    yaml
}

fn workload(account: &str) -> WorkloadView {
    let labels = [("app", account), ("version", "v1")].map(|(k, v)| (k.to_owned(), v.to_owned()));
    let service = ServiceView {
        host: format!("{account}.shop.svc.cluster.local"),
        name: account.into(),
        namespace: "shop".into(),
        ports: vec![8080],
        labels: None,
    };
    let identity = Identity::new("cluster.local", "shop", account);
    let ip = Some([10, 0, 0, 1].into());
    WorkloadView::new(
        &format!("{account}-v1"),
        &identity,
        Arc::new(labels.into()),
        ip,
        vec![service],
    )
}

fn rules() -> Rules {
    let parsed = config::parse("bench.yaml", mesh().as_bytes(), "shop");
    assert!(
        parsed.findings.iter().all(|f| !f.is_error()),
        "{:?}",
        parsed.findings
    );
    let objects: Vec<_> = parsed.objects.into_iter().map(Arc::new).collect();
    let (rules, findings) = Rules::build(&objects, &MeshConfig::default().with_defaults());
    assert!(findings.iter().all(|f| !f.is_error()), "{findings:?}");
    rules
}

/// Measures an operation by criterion, and prints the percentiles of single calls.
fn measure(criterion: &mut Criterion, name: &str, mut operation: impl FnMut()) {
    criterion.bench_function(name, |bencher| bencher.iter(&mut operation));
    let mut times: Vec<u128> = (0..CALLS)
        .map(|_| {
            let start = Instant::now();
            operation();
            start.elapsed().as_nanos()
        })
        .collect();
    times.sort_unstable();
    let at = |part: usize| times.get(CALLS * part / 1000).copied().unwrap_or_default();
    println!(
        "{name}: p50 {} ns, p99 {} ns, p99.9 {} ns of {CALLS} calls",
        at(500),
        at(990),
        at(999)
    );
}

fn main() {
    let (rules, source, destination) = (rules(), workload("frontend"), workload("catalog"));
    let headers: BTreeMap<String, String> = [
        ("x-user", "jason"),
        ("user-agent", "curl/8.5.0"),
        ("accept", "*/*"),
        ("x-request-id", "8f3c2b7e-1d4a-4f0a-9a51-2f6a3c1f0b11"),
    ]
    .map(|(k, v)| (k.to_owned(), v.to_owned()))
    .into();
    let headers = HeaderMap(&headers);
    let path = "/items/4711?page=2";
    let query = query_of(path);
    let party = |view| Party {
        workload: Some(view),
        ip: Some([10, 0, 0, 1].into()),
        port: Some(8080),
        principal: Some(WorkloadView::principal(view)),
    };
    let request = Request {
        source: party(&source),
        destination: party(&destination),
        service: destination.service(Some(8080), Some("catalog")),
        mtls: Some(true),
        headers: Some(&headers),
        path: Some(path),
        query: Some(&query),
        method: Some("GET"),
        host: Some("catalog"),
        scheme: Some("http"),
        ..Request::default()
    };
    let finished = Request {
        response: Response {
            code: Some(200),
            ..Response::default()
        },
        ..request.clone()
    };
    assert!(rules.check(&request, None).is_ok() && rules.report(&finished).samples.len() == 1);
    let mut criterion = Criterion::default().configure_from_args();
    measure(&mut criterion, "check of 20 rules", || {
        assert!(black_box(rules.check(&request, None)).is_ok());
    });
    measure(&mut criterion, "report of a request", || {
        assert_eq!(black_box(rules.report(&finished)).failed, 0);
    });
    let (mut windows, mut now) = (Windows::default(), 0);
    measure(&mut criterion, "charge of a quota in memory", || {
        now += 100_000;
        for due in black_box(rules.due("quota.shop", &request)).unwrap() {
            due.charge(&mut windows, now).unwrap();
        }
    });
    criterion.final_summary();
}
