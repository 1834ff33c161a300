//! How long analysis of 10,000 objects takes: all of them at once, and after one of them has changed.
//!
//! `cargo bench -p analysis`

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a benchmark"
)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hint::black_box;
use std::sync::Arc;

use analysis::{Engine, Input};
use config::{Kind, Object, Spec};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};

const NOW: i64 = 1_767_225_600;
const SERVICES: usize = 1_150;
const NAMESPACES: usize = 50;

/// A mesh of services with three pods each: about 10,000 objects, of which some are wrong.
fn mesh() -> Vec<Arc<Object>> {
    let mut yaml = String::new();
    for i in 0..NAMESPACES {
        write!(
            yaml,
            "---\n{{apiVersion: v1, kind: Namespace, metadata: {{name: ns{i}, labels: {{istio-injection: enabled}}}}}}\n\
             ---\n{{apiVersion: networking.istio.io/v1, kind: Gateway, metadata: {{name: front, namespace: ns{i}}}, spec: {{selector: \
             {{app: app{i}}}, servers: [{{port: {{number: 80, name: http, protocol: HTTP}}, hosts: ['*.ns{i}.example']}}]}}}}\n"
        )
        .unwrap();
    }
    for i in 0..SERVICES {
        let meta = format!("name: app{i}, namespace: ns{}", i % NAMESPACES);
        let missing = if i % 100 == 0 { "-gone" } else { "" };
        write!(
            yaml,
            "---\n{{apiVersion: v1, kind: Service, metadata: {{{meta}}}, spec: {{selector: {{app: app{i}}}, ports: [{{name: http, port: 80}}]}}}}\n\
             ---\n{{apiVersion: apps/v1, kind: Deployment, metadata: {{{meta}}}, spec: {{template: {{metadata: {{labels: {{app: app{i}}}}}, \
             spec: {{containers: [{{name: app, image: app}}]}}}}}}}}\n\
             ---\n{{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {{{meta}}}, spec: {{hosts: [app{i}], http: \
             [{{route: [{{destination: {{host: app{i}{missing}, subset: v1}}}}]}}]}}}}\n\
             ---\n{{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {{{meta}}}, spec: {{host: app{i}, subsets: \
             [{{name: v1, labels: {{version: v1}}}}]}}}}\n\
             ---\n{{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {{{meta}}}, spec: {{selector: {{matchLabels: \
             {{app: app{i}}}}}, rules: [{{from: [{{source: {{namespaces: [ns1]}}}}]}}]}}}}\n"
        )
        .unwrap();
        for replica in 0..3 {
            write!(
                yaml,
                "---\n{{apiVersion: v1, kind: Pod, metadata: {{name: app{i}-{replica}, namespace: ns{}, labels: {{app: app{i}, version: \
                 v{replica}, pod-template-hash: h{i}}}}}, spec: {{containers: [{{name: app, image: app}}, {{name: istio-proxy, image: proxy}}]}}}}\n",
                i % NAMESPACES
            )
            .unwrap();
        }
        if i % 2 == 0 {
            write!(
                yaml,
                "---\n{{apiVersion: networking.istio.io/v1, kind: Sidecar, metadata: {{{meta}}}, spec: {{workloadSelector: {{labels: \
                 {{app: app{i}}}}}, egress: [{{hosts: ['./*']}}]}}}}\n"
            )
            .unwrap();
        }
    }
    // Files are bounded in their number of nodes.
    let mut objects = Vec::new();
    let documents: Vec<&str> = yaml.split("---\n").filter(|text| !text.is_empty()).collect();
    for part in documents.chunks(200) {
        let parsed = config::parse("mesh.yaml", part.join("---\n").as_bytes(), "default");
        assert!(
            parsed.invalid.is_empty() && !parsed.has_errors(),
            "{:?}",
            parsed.findings.first()
        );
        objects.extend(parsed.objects.into_iter().map(Arc::new));
    }
    objects
}

fn input(objects: &[Arc<Object>]) -> Input<'_> {
    static NONE: BTreeMap<config::ObjectKey, config::Status> = BTreeMap::new();
    Input {
        objects,
        statuses: &NONE,
        findings: &[],
        unseen: &[],
    }
}

/// The same objects, but for one of a kind.
fn changed(objects: &[Arc<Object>], kind: Kind) -> Vec<Arc<Object>> {
    let mut changed = objects.to_vec();
    let place = changed.iter().rposition(|object| object.kind == kind).unwrap();
    let mut object = (*changed[place]).clone();
    object.meta.labels.insert("changed".to_owned(), "yes".to_owned());
    if let Spec::VirtualService(service) = &mut object.spec {
        service.hosts.push("other".to_owned());
    }
    changed[place] = Arc::new(object);
    changed
}

fn engine(c: &mut Criterion) {
    let objects = mesh();
    println!("{} objects", objects.len());
    let mut group = c.benchmark_group("analysis");
    group.sample_size(20);
    group.bench_function("10,000 objects at once", |b| {
        b.iter(|| black_box(Engine::default().replace(input(&objects), NOW)));
    });
    for kind in [
        Kind::VirtualService,
        Kind::DestinationRule,
        Kind::AuthorizationPolicy,
        Kind::Sidecar,
        Kind::Gateway,
        Kind::Service,
        Kind::Deployment,
        Kind::Pod,
        Kind::Namespace,
    ] {
        let other = changed(&objects, kind);
        let mut engine = Engine::default();
        engine.replace(input(&objects), NOW);
        let mut turn = false;
        group.bench_function(format!("one {kind} of 10,000 objects"), |b| {
            b.iter_batched(
                || {
                    turn = !turn;
                    if turn { &other } else { &objects }
                },
                |objects| black_box(engine.replace(input(objects), NOW)),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, engine);
criterion_main!(benches);
