//! What Envoy's messages cost on one core, from the decoded message to the answer, or to the counted metric and the graph: the mean, and
//! percentiles of single calls. What gRPC costs beside them `bench mixer` measures.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark may fail loudly"
)]

use std::fmt::Write;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use envoy_types::pb::envoy::config::core::v3::{Address, RequestMethod, SocketAddress, address};
use envoy_types::pb::envoy::data::accesslog::v3::tls_properties::CertificateProperties;
use envoy_types::pb::envoy::data::accesslog::v3::tls_properties::certificate_properties::{
    SubjectAltName, subject_alt_name::San,
};
use envoy_types::pb::envoy::data::accesslog::v3::{
    AccessLogCommon, HttpAccessLogEntry, HttpRequestProperties, HttpResponseProperties, TlsProperties,
};
use envoy_types::pb::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use envoy_types::pb::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::Entry;
use envoy_types::pb::envoy::service::auth::v3::attribute_context::{HttpRequest, Peer, Request};
use envoy_types::pb::envoy::service::auth::v3::{AttributeContext, CheckRequest};
use envoy_types::pb::google::protobuf::UInt32Value;
use futures::executor::block_on;
use mixer::inside::Core;

/// Calls of which percentiles are taken.
const CALLS: usize = 200_000;
const CATALOG: &str = "cluster.local/ns/shop/sa/catalog";
const FRONTEND: &str = "spiffe://cluster.local/ns/shop/sa/frontend";
const NODE: &str = "sidecar~127.1.0.21~catalog-v1.shop~shop.svc.cluster.local";

/// Twenty rules that refuse nobody, a quota that nobody uses up, and a metric with Istio's labels.
fn mesh() -> String {
    let mut yaml = String::from(
        r#"
{apiVersion: networking.istio.io/v1, kind: WorkloadEntry, metadata: {name: catalog-v1, namespace: shop}, spec: {address: 127.1.0.21, serviceAccount: catalog, labels: {app: catalog, version: v1}}}
---
{apiVersion: networking.istio.io/v1, kind: WorkloadEntry, metadata: {name: frontend-v1, namespace: shop}, spec: {address: 127.1.0.10, serviceAccount: frontend, labels: {app: frontend, version: v1}}}
---
{apiVersion: v1, kind: Service, metadata: {name: catalog, namespace: shop}, spec: {selector: {app: catalog}, ports: [{name: http, port: 80, targetPort: 8080}]}}
---
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
{apiVersion: config.istio.io/v1alpha2, kind: rule, metadata: {name: limit, namespace: shop}, spec: {match: 'request.method == "GET"', actions: [{handler: quotas, instances: [requests]}]}}
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
        let (condition, handler) = match number % 5 {
            0 => (r#"destination.labels["app"] == "catalog""#, "versions"),
            _ => (*conditions.get(number % conditions.len()).unwrap(), "deny"),
        };
        write!(
            yaml,
            "---\n{{apiVersion: config.istio.io/v1alpha2, kind: rule, metadata: {{name: rule-{number}, namespace: shop}}, spec: {{match: '{condition}', actions: [{{handler: {handler}, instances: [version]}}]}}}}\n"
        )
        .unwrap();
    }
    yaml
}

fn core() -> Core {
    let parsed = config::parse("bench.yaml", mesh().as_bytes(), "shop");
    assert!(
        parsed.findings.iter().all(|f| !f.is_error()),
        "{:?}",
        parsed.findings
    );
    let objects = parsed.objects.into_iter();
    let state = feed::State {
        objects: objects.map(|object| (object.key(), Arc::new(object))).collect(),
    };
    Core::new(Arc::new(state), CATALOG, NODE)
}

fn address(ip: &str, port: u32) -> Option<Address> {
    Some(Address {
        address: Some(address::Address::SocketAddress(SocketAddress {
            address: ip.to_owned(),
            port_specifier: Some(PortSpecifier::PortValue(port)),
            ..Default::default()
        })),
    })
}

fn headers() -> impl Iterator<Item = (String, String)> {
    [
        ("x-user", "jason"),
        ("user-agent", "curl/8.5.0"),
        ("accept", "*/*"),
        ("x-request-id", "8f3c2b7e-1d4a-4f0a-9a51-2f6a3c1f0b11"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into_iter()
}

fn check() -> CheckRequest {
    let peer = |ip, port, principal: &str| {
        Some(Peer {
            address: address(ip, port),
            principal: principal.to_owned(),
            ..Default::default()
        })
    };
    let http = HttpRequest {
        headers: headers().collect(),
        path: "/items/4711?page=2".to_owned(),
        host: "catalog".to_owned(),
        method: "GET".to_owned(),
        scheme: "http".to_owned(),
        ..Default::default()
    };
    CheckRequest {
        attributes: Some(AttributeContext {
            source: peer("127.1.0.10", 40_000, FRONTEND),
            destination: peer("127.1.0.21", 8080, ""),
            request: Some(Request {
                http: Some(http),
                ..Default::default()
            }),
            ..Default::default()
        }),
    }
}

fn descriptor() -> RateLimitDescriptor {
    let entries = [
        ("rule", "limit.shop"),
        ("destination.uid", "kubernetes://catalog-v1.shop"),
        ("source.address", "127.1.0.10:40000"),
        ("source.principal", FRONTEND),
        ("destination.address", "127.1.0.21:8080"),
        ("request.host", "catalog"),
        ("request.method", "GET"),
        ("request.headers[x-user]", "jason"),
    ];
    RateLimitDescriptor {
        entries: entries
            .map(|(key, value)| Entry {
                key: key.to_owned(),
                value: value.to_owned(),
            })
            .into(),
        ..Default::default()
    }
}

fn finished() -> HttpAccessLogEntry {
    let san = SubjectAltName {
        san: Some(San::Uri(FRONTEND.to_owned())),
    };
    let peer = CertificateProperties {
        subject_alt_name: vec![san],
        ..Default::default()
    };
    HttpAccessLogEntry {
        common_properties: Some(AccessLogCommon {
            downstream_direct_remote_address: address("127.1.0.10", 40_000),
            downstream_local_address: address("127.1.0.21", 8080),
            tls_properties: Some(TlsProperties {
                peer_certificate_properties: Some(peer),
                ..Default::default()
            }),
            upstream_cluster: "inbound|8080||".to_owned(),
            ..Default::default()
        }),
        request: Some(HttpRequestProperties {
            request_method: RequestMethod::Get.into(),
            authority: "catalog".to_owned(),
            path: "/items/4711?page=2".to_owned(),
            request_headers: headers().collect(),
            ..Default::default()
        }),
        response: Some(HttpResponseProperties {
            response_code: Some(UInt32Value { value: 200 }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// Makes all calls; `ready` makes what each takes, and does not count.
fn measure<T>(name: &str, ready: impl Fn() -> T, mut operation: impl FnMut(T)) {
    let mut times: Vec<Duration> = (0..CALLS)
        .map(|_| {
            let input = ready();
            let start = Instant::now();
            operation(input);
            start.elapsed()
        })
        .collect();
    let mean = times.iter().sum::<Duration>() / u32::try_from(CALLS).unwrap();
    times.sort_unstable();
    let at = |part: usize| times.get(CALLS * part / 1000).copied().unwrap_or_default();
    println!(
        "{name}: mean {mean:?}, p50 {:?}, p99 {:?}, p99.9 {:?} of {CALLS} calls",
        at(500),
        at(990),
        at(999)
    );
}

fn main() {
    let (core, check, descriptor, finished) = (core(), check(), descriptor(), finished());
    assert_eq!(block_on(core.check(&check)), Some(200));
    assert_eq!(block_on(core.charge(&descriptor)), Some(true));
    assert!(core.report(finished.clone()));
    let counted = r#"source="frontend-v1""#;
    assert!(core.page().contains(counted), "{}", core.page());
    measure(
        "check of 20 rules",
        || (),
        |()| {
            assert_eq!(black_box(block_on(core.check(&check))), Some(200));
        },
    );
    measure(
        "charge of a quota in memory",
        || (),
        |()| {
            assert_eq!(black_box(block_on(core.charge(&descriptor))), Some(true));
        },
    );
    measure(
        "report of a request",
        || finished.clone(),
        |entry| {
            assert!(black_box(core.report(entry)));
        },
    );
}
