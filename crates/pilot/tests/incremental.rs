//! Tables that are carried from change to change are the tables made from nothing, whatever the changes were.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

use std::collections::BTreeMap;
use std::sync::Arc;

use config::Object;
use envoygen::{Proxy, Settings};
use model::Snapshot;
use pilot::tables::{ProxyTable, Tables};
use proptest::prelude::*;
use proptest::sample::Index;

const NODES: [&str; 4] = [
    "sidecar~10.0.0.1~w1.x~x.svc.cluster.local",
    "sidecar~10.0.0.2~w2.x~x.svc.cluster.local",
    "sidecar~10.0.0.3~w3.y~y.svc.cluster.local",
    "router~10.0.0.9~gateway.y~y.svc.cluster.local",
];

/// What may stand under each name; the empty text is nothing.
fn choices() -> Vec<(&'static str, Vec<String>)> {
    let entry = |name: &str, namespace: &str, host: &str, rest: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec:\n  hosts: [{host}]\n  resolution: STATIC\n{rest}"
        )
    };
    let http = "  ports: [{number: 80, name: http, protocol: HTTP}]\n";
    let tcp = "  ports: [{number: 81, name: tcp, protocol: TCP}]\n";
    let one = "  endpoints: [{address: 10.1.0.1, labels: {version: v1}}]\n";
    let two = "  endpoints: [{address: 10.1.0.1, labels: {version: v1}}, {address: 10.1.0.2, labels: {version: v2}, weight: 3}]\n";
    let mtls = "  endpoints: [{address: 10.1.0.3, labels: {security.istio.io/tlsMode: istio}, serviceAccount: other}]\n";
    let selected = "  location: MESH_INTERNAL\n  workloadSelector: {labels: {app: w}}\n";
    let here = "  exportTo: [.]\n";
    let object = |kind: &str, name: &str, namespace: &str, spec: &str| {
        let group = if kind == "PeerAuthentication" {
            "security"
        } else {
            "networking"
        };
        format!(
            "apiVersion: {group}.istio.io/v1\nkind: {kind}\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {spec}\n"
        )
    };
    let workload = |name: &str, namespace: &str, spec: &str| object("WorkloadEntry", name, namespace, spec);
    let variants = |makes: &[String]| {
        std::iter::once(String::new())
            .chain(makes.iter().cloned())
            .collect::<Vec<_>>()
    };
    vec![
        (
            "a",
            variants(&[
                entry("a", "x", "a.example", &format!("{http}{one}")),
                entry("a", "x", "a.example", &format!("{http}{two}")),
                entry("a", "x", "a.example", &format!("{http}{mtls}")),
                entry("a", "x", "a.example", &format!("{tcp}{two}")),
                entry("a", "x", "a.example", &format!("{http}{here}{one}")),
                entry("a", "x", "a.example", http),
            ]),
        ),
        (
            "shared in x",
            variants(&[
                entry("s", "x", "shared.example", &format!("{http}{one}")),
                entry("s", "x", "shared.example", &format!("{http}{here}{two}")),
            ]),
        ),
        (
            "shared in y",
            variants(&[
                entry("s", "y", "shared.example", &format!("{http}{two}")),
                entry("s", "y", "shared.example", &format!("{http}{mtls}")),
            ]),
        ),
        (
            "of workloads",
            variants(&[entry("w", "x", "w.example", &format!("{http}{selected}"))]),
        ),
        (
            "w1",
            variants(&[
                workload("w1", "x", "{address: 10.0.0.1, labels: {app: w, version: v1}}"),
                workload(
                    "w1",
                    "x",
                    "{address: 10.0.0.1, labels: {app: w, version: v2}, serviceAccount: one}",
                ),
                workload(
                    "w1",
                    "x",
                    "{address: 10.0.0.1, labels: {app: w, security.istio.io/tlsMode: istio}}",
                ),
            ]),
        ),
        (
            "w2",
            variants(&[
                workload(
                    "w2",
                    "x",
                    "{address: 10.0.0.2, labels: {app: w}, locality: r/z/s}",
                ),
                workload("w2", "x", "{address: 10.0.0.2, labels: {app: other}}"),
            ]),
        ),
        (
            "w3",
            variants(&[workload("w3", "y", "{address: 10.0.0.3, labels: {app: w}}")]),
        ),
        (
            "rule",
            variants(&[
                object(
                    "DestinationRule",
                    "a",
                    "x",
                    "{host: a.example, subsets: [{name: v1, labels: {version: v1}}]}",
                ),
                object(
                    "DestinationRule",
                    "a",
                    "x",
                    "{host: a.example, trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}}",
                ),
            ]),
        ),
        (
            "routes",
            variants(&[
                object(
                    "VirtualService",
                    "a",
                    "x",
                    "{hosts: [a.example], http: [{match: [{sourceLabels: {version: v1}}], route: [{destination: {host: shared.example}}]}, {route: [{destination: {host: a.example}}]}]}",
                ),
                object(
                    "VirtualService",
                    "a",
                    "x",
                    "{hosts: [a.example], exportTo: [.], http: [{timeout: 3s, route: [{destination: {host: a.example}}]}]}",
                ),
            ]),
        ),
        (
            "sidecar",
            variants(&[object("Sidecar", "default", "x", "{egress: [{hosts: [./*]}]}")]),
        ),
        (
            "mode",
            variants(&[
                object("PeerAuthentication", "default", "x", "{mtls: {mode: DISABLE}}"),
                object("PeerAuthentication", "default", "x", "{mtls: {mode: STRICT}}"),
            ]),
        ),
    ]
}

/// The objects of a history's moments; one that did not change is the same `Arc`.
struct World {
    choices: Vec<(&'static str, Vec<String>)>,
    now: BTreeMap<usize, Arc<Object>>,
}

impl World {
    fn change(&mut self, (which, what): (Index, Index)) {
        let at = which.index(self.choices.len());
        let texts = &self.choices[at].1;
        let text = &texts[what.index(texts.len())];
        let object = config::parse("x.yaml", text.as_bytes(), "default").objects.pop();
        match object {
            Some(object) => drop(self.now.insert(at, Arc::new(object))),
            None => drop(self.now.remove(&at)),
        }
    }

    fn objects(&self) -> BTreeMap<config::ObjectKey, Arc<Object>> {
        self.now
            .values()
            .map(|object| (object.key(), object.clone()))
            .collect()
    }
}

fn difference(kept: &ProxyTable, made: &ProxyTable) -> Option<String> {
    for (url, table) in made.table.types() {
        let diff = xds::table::diff(&kept.table.of_type(url), table);
        let changed: Vec<_> = diff.changed.iter().map(|each| each.name.clone()).collect();
        let removed: Vec<_> = diff.removed.iter().map(|each| each.name.clone()).collect();
        if !changed.is_empty() || !removed.is_empty() {
            return Some(format!("{url}: lacks {changed:?}, has {removed:?}"));
        }
        for each in table.iter() {
            if kept.origins(url, &each.name) != made.origins(url, &each.name) {
                return Some(format!("{url}: {} has other objects behind it", each.name));
            }
        }
    }
    (kept.table.version() != made.table.version()).then(|| "types that should be gone".to_owned())
}

/// A case is a whole history of meshes, each made twice.
fn config() -> ProptestConfig {
    let default = ProptestConfig::default();
    ProptestConfig {
        cases: default.cases.div_ceil(8),
        failure_persistence: None,
        ..default
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn carried_tables_are_the_tables_made_from_nothing(
        steps in proptest::collection::vec(proptest::collection::vec(any::<(Index, Index)>(), 1..4), 1..20),
    ) {
        let settings = Settings::default();
        let mut world = World { choices: choices(), now: BTreeMap::new() };
        let mut snapshot = Arc::new(Snapshot::build([]));
        let mut tables = Tables::new(snapshot.clone(), &settings, None);
        let proxies = NODES.map(|node| Proxy::parse(node, None).unwrap());
        let mut kept: Vec<_> = proxies
            .iter()
            .map(|proxy| (tables.scope(proxy, None), tables.of(proxy)))
            .collect();
        for changes in steps {
            changes.into_iter().for_each(|change| world.change(change));
            snapshot = Arc::new(snapshot.update(&world.objects()));
            tables = Tables::new(snapshot, &settings, Some(&tables));
            snapshot = tables.generator().snapshot().clone();
            let fresh = Tables::new(Arc::new(Snapshot::build(world.now.values().cloned())), &settings, None);
            for (proxy, (scope, table)) in proxies.iter().zip(&mut kept) {
                *scope = tables.scope(proxy, Some(scope));
                *table = tables.of_scope(scope, proxy, Some(table));
                prop_assert_eq!(difference(table, &fresh.of(proxy)), None, "{}", proxy.name);
            }
        }
    }
}
