//! Generation: what one scope costs in whole, what an endpoint's change costs, and what each kind of object adds.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    reason = "criterion's macros; a benchmark may fail loudly"
)]

use std::collections::BTreeSet;
use std::fmt::Write;
use std::hint::black_box;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use envoygen::{Generator, Proxy, Scope, Settings};
use model::{ServiceId, Snapshot};

const NODE: &str = "sidecar~10.200.0.1~proxy.ns~ns.svc.cluster.local";

/// `count` services in one namespace, each with the objects that `more` adds.
fn snapshot(count: u32, more: impl Fn(u32) -> String) -> Arc<Snapshot> {
    let mut text = String::new();
    for at in 0..count {
        let (high, low) = (at / 256, at % 256);
        write!(
            text,
            "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: svc-{at}, namespace: ns}}\nspec:\n  hosts: [svc-{at}.example]\n  ports: [{{number: 80, name: http, protocol: HTTP}}]\n  location: MESH_INTERNAL\n  resolution: STATIC\n  endpoints: [{{address: 10.0.{high}.{low}, labels: {{version: v1}}}}, {{address: 10.1.{high}.{low}, labels: {{version: v2}}}}]\n{}",
            more(at)
        )
        .unwrap();
    }
    let objects = config::parse("bench.yaml", text.as_bytes(), "default").objects;
    Arc::new(Snapshot::build(objects.into_iter().map(Arc::new)))
}

fn generator(snapshot: &Arc<Snapshot>) -> (Generator, Scope) {
    let generator = Generator::new(snapshot.clone(), Settings::default());
    let proxy = Proxy::parse(NODE, None).unwrap();
    let scope = Scope::of(&proxy, &generator);
    (generator, scope)
}

fn nothing(_: u32) -> String {
    String::new()
}

fn virtual_service(at: u32) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: svc-{at}, namespace: ns}}\nspec:\n  hosts: [svc-{at}.example]\n  http:\n  - match: [{{uri: {{prefix: /api}}}}]\n    timeout: 5s\n    route: [{{destination: {{host: svc-{at}.example}}}}]\n  - route: [{{destination: {{host: svc-{at}.example}}}}]\n"
    )
}

fn destination_rule(at: u32) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: svc-{at}, namespace: ns}}\nspec:\n  host: svc-{at}.example\n  trafficPolicy: {{connectionPool: {{http: {{http1MaxPendingRequests: 10}}}}}}\n  subsets: [{{name: v1, labels: {{version: v1}}}}, {{name: v2, labels: {{version: v2}}}}]\n"
    )
}

fn peer_authentication(at: u32) -> String {
    format!(
        "---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {{name: svc-{at}, namespace: ns}}\nspec:\n  selector: {{matchLabels: {{app: svc-{at}}}}}\n  mtls: {{mode: STRICT}}\n"
    )
}

/// Writes one more object for the service of that number.
type Kind = fn(u32) -> String;

/// One scope with 1000 services, and what each kind adds.
fn whole_scope(criterion: &mut Criterion) {
    let kinds: [(&str, Kind); 4] = [
        ("services", nothing),
        ("virtual services", virtual_service),
        ("destination rules", destination_rule),
        ("peer authentication", peer_authentication),
    ];
    let mut group = criterion.benchmark_group("generation of one scope, 1000 services");
    group.sample_size(10);
    for (name, more) in kinds {
        let snapshot = snapshot(1_000, more);
        let (generator, scope) = generator(&snapshot);
        group.bench_function(name, |bencher| {
            bencher.iter(|| black_box(generator.outbound(&scope.outbound)))
        });
        if let Some(inbound) = scope.inbound.as_ref().filter(|_| name == "services") {
            group.bench_function("inbound part", |bencher| {
                bencher.iter(|| black_box(generator.inbound(inbound)))
            });
        }
    }
    group.finish();
}

/// The endpoint sets of one service, however many others there are.
fn moved_endpoint(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("endpoints of one service");
    for services in [100, 1_000, 10_000] {
        let snapshot = snapshot(services, nothing);
        let (generator, scope) = generator(&snapshot);
        let moved = BTreeSet::from([ServiceId::new("svc-7.example", "ns")]);
        group.bench_function(BenchmarkId::from_parameter(services), |bencher| {
            bencher.iter(|| black_box(generator.endpoints(&scope.outbound, &moved)));
        });
    }
    group.finish();
}

fn scope_of_proxy(criterion: &mut Criterion) {
    let snapshot = snapshot(1_000, nothing);
    let (generator, _) = generator(&snapshot);
    let proxy = Proxy::parse(NODE, None).unwrap();
    criterion.bench_function("scope of a proxy", |bencher| {
        bencher.iter(|| black_box(Scope::of(&proxy, &generator)))
    });
}

criterion_group!(benches, whole_scope, moved_endpoint, scope_of_proxy);
criterion_main!(benches);
