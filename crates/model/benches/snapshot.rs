//! What snapshots cost: a whole mesh, and one change in it. A change's cost should not grow with the mesh.

#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark may fail loudly")]

use std::hint::black_box;
use std::sync::Arc;

use config::Object;
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use model::{Change, Diff, Snapshot};

/// Sizes of the meshes, in services; each has one EndpointSlice of two Pods.
const SIZES: [usize; 3] = [100, 1_000, 10_000];

fn objects(text: &str) -> Vec<Arc<Object>> {
    let parsed = config::parse("bench.yaml", text.as_bytes(), "default");
    parsed.objects.into_iter().map(Arc::new).collect()
}

fn slice(n: usize, version: usize) -> String {
    let ns = n % 100;
    format!(
        "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: s{n}-x, namespace: n{ns}, labels: {{kubernetes.io/service-name: s{n}}}}}\naddressType: IPv4\nports: [{{name: http, port: 8080}}]\nendpoints: [{{addresses: [10.{}.{}.1]}}, {{addresses: [10.{}.{}.{}]}}]\n",
        n / 250,
        n % 250,
        n / 250,
        n % 250,
        2 + version % 2
    )
}

fn pod(n: usize, version: usize) -> String {
    let ns = n % 100;
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: p{n}, namespace: n{ns}, labels: {{app: s{n}, version: v{version}}}}}\nspec: {{serviceAccountName: s{n}, nodeName: node-{}}}\nstatus: {{podIP: 10.{}.{}.1}}\n",
        n % 50,
        n / 250,
        n % 250
    )
}

fn service(n: usize, port: usize) -> String {
    let ns = n % 100;
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: s{n}, namespace: n{ns}}}\nspec: {{selector: {{app: s{n}}}, clusterIP: 10.200.{}.{}, ports: [{{name: http, port: {port}, targetPort: 8080}}]}}\n",
        n / 250,
        n % 250
    )
}

fn rule(n: usize, simple: &str) -> String {
    let ns = n % 100;
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: s{n}, namespace: n{ns}}}\nspec: {{host: s{n}, trafficPolicy: {{loadBalancer: {{simple: {simple}}}}}}}\n"
    )
}

fn mesh(services: usize) -> Vec<Arc<Object>> {
    let mut all = Vec::new();
    for n in 0..services {
        all.extend(objects(
            &[service(n, 80), slice(n, 0), pod(n, 0), rule(n, "RANDOM")].concat(),
        ));
    }
    all
}

/// One change, there and back, each with its difference.
fn change(c: &mut Criterion, name: &str, make: impl Fn(usize) -> String) {
    let mut group = c.benchmark_group(name);
    for size in SIZES {
        let snapshot = Snapshot::build(mesh(size));
        let there = objects(&make(1)).remove(0);
        group.bench_with_input(BenchmarkId::from_parameter(size), &size, |b, _| {
            b.iter(|| {
                let next = snapshot.apply([Change::Put(Arc::clone(&there))]);
                black_box(Diff::between(&snapshot, &next))
            });
        });
    }
    group.finish();
}

fn whole(c: &mut Criterion) {
    let mut group = c.benchmark_group("build");
    group.sample_size(10);
    for size in SIZES {
        let objects = mesh(size);
        group.bench_with_input(BenchmarkId::from_parameter(size), &size, |b, _| {
            b.iter(|| black_box(Snapshot::build(objects.iter().cloned())));
        });
    }
    group.finish();
}

fn changes(c: &mut Criterion) {
    change(c, "endpoint_slice", |version| slice(7, version));
    change(c, "pod", |version| pod(7, version));
    change(c, "service", |version| service(7, 80 + version));
    change(c, "destination_rule", |_| rule(7, "ROUND_ROBIN"));
}

criterion_group!(benches, whole, changes);
criterion_main!(benches);
