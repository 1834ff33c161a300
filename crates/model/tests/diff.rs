//! Differences between snapshots, over random meshes and changes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests may fail loudly"
)]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;

use config::{Kind, Object, Spec};
use model::{Diff, Snapshot};
use proptest::prelude::*;

/// An object drawn from few names, so that changes meet.
#[derive(Debug, Clone, PartialEq)]
struct Seed {
    kind: u8,
    name: u8,
    value: u8,
}

fn seeds() -> impl Strategy<Value = Vec<Seed>> {
    prop::collection::vec((0..4u8, 0..4u8, 0..4u8), 0..12).prop_map(|all| {
        let by_name: BTreeMap<(u8, u8), u8> = all
            .into_iter()
            .map(|(kind, name, value)| ((kind, name), value))
            .collect();
        by_name
            .into_iter()
            .map(|((kind, name), value)| Seed { kind, name, value })
            .collect()
    })
}

fn object(seed: &Seed) -> Arc<Object> {
    let Seed { kind, name, value } = seed;
    let text = match kind {
        0 => format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: s{name}, namespace: shop}}\nspec: {{selector: {{app: a{value}}}, ports: [{{name: http, port: 80}}]}}"
        ),
        1 => format!(
            "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {{name: w{name}, namespace: shop}}\nspec: {{address: 10.0.{name}.{value}, labels: {{app: a{value}}}}}"
        ),
        2 => format!(
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: e{name}, namespace: shop, labels: {{kubernetes.io/service-name: s{name}}}}}\naddressType: IPv4\nports: [{{name: http, port: 80}}]\nendpoints: [{{addresses: [10.1.0.{value}]}}, {{addresses: [10.1.1.{value}]}}]"
        ),
        _ => format!(
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: v{name}, namespace: shop}}\nspec: {{hosts: [s{name}], http: [{{retries: {{attempts: {value}}}, route: [{{destination: {{host: s{value}}}}}]}}]}}"
        ),
    };
    support::objects(&text).remove(0)
}

/// The same object with what nobody reads changed, and lists whose order means nothing turned around.
fn disguised(object: &Arc<Object>, noise: u8) -> Arc<Object> {
    let mut out = (**object).clone();
    out.meta.resource_version = format!("{noise}");
    out.meta.generation = i64::from(noise);
    out.meta.uid = format!("uid-{noise}");
    out.meta
        .annotations
        .insert("example.com/touched".into(), format!("{noise}"));
    out.origin.line = u32::from(noise);
    if let Spec::EndpointSlice(slice) = &mut out.spec {
        slice.endpoints.reverse();
    }
    Arc::new(out)
}

fn build(seeds: &[Seed]) -> Snapshot {
    Snapshot::build(seeds.iter().map(object))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn what_means_the_same_is_no_change(seeds in seeds(), noise in 0..200u8) {
        let objects: Vec<_> = seeds.iter().map(object).collect();
        let before = Snapshot::build(objects.clone());
        let after = Snapshot::build(objects.iter().rev().map(|object| disguised(object, noise)));
        prop_assert!(Diff::between(&before, &after).is_empty());
    }

    #[test]
    fn applying_a_difference_gives_the_new_mesh(old in seeds(), new in seeds()) {
        let (before, after) = (build(&old), build(&new));
        let diff = Diff::between(&before, &after);
        let mut objects = before.objects().clone();
        for key in &diff.removed {
            prop_assert!(objects.remove(key).is_some(), "{key} was not there");
        }
        for key in diff.added.iter().chain(&diff.changed) {
            objects.insert(key.clone(), after.objects().get(key).unwrap().clone());
        }
        prop_assert!(Diff::between(&Snapshot::build(objects.values().cloned()), &after).is_empty());
    }

    #[test]
    fn a_difference_backwards_undoes_it(old in seeds(), new in seeds()) {
        let there = Diff::between(&build(&old), &build(&new));
        let back = Diff::between(&build(&new), &build(&old));
        prop_assert_eq!(&there.added, &back.removed);
        prop_assert_eq!(&there.removed, &back.added);
        prop_assert_eq!(&there.changed, &back.changed);
    }

    #[test]
    fn a_change_is_named(seeds in seeds(), at in any::<prop::sample::Index>()) {
        prop_assume!(!seeds.is_empty());
        let mut changed = seeds.clone();
        let at = at.index(changed.len());
        changed[at].value = (changed[at].value + 1) % 4;
        let diff = Diff::between(&build(&seeds), &build(&changed));
        let key = object(&changed[at]).key();
        prop_assert_eq!(diff.changed.iter().collect::<Vec<_>>(), vec![&key]);
        prop_assert!(diff.added.is_empty() && diff.removed.is_empty());
        let endpoints = matches!(key.kind, Kind::WorkloadEntry | Kind::EndpointSlice);
        prop_assert_eq!(diff.only_endpoints(), endpoints);
    }

    #[test]
    fn order_of_objects_means_nothing(seeds in seeds()) {
        let forwards = build(&seeds);
        let mut turned = seeds;
        turned.reverse();
        let backwards = build(&turned);
        let services = |snapshot: &Snapshot| snapshot.services().iter().cloned().collect::<Vec<_>>();
        prop_assert_eq!(services(&forwards), services(&backwards));
        prop_assert_eq!(forwards.virtual_services(), backwards.virtual_services());
    }
}

#[test]
fn an_annotation_of_istio_is_a_change() {
    let plain = object(&Seed {
        kind: 0,
        name: 0,
        value: 0,
    });
    let mut hidden = (*plain).clone();
    hidden
        .meta
        .annotations
        .insert("networking.istio.io/exportTo".into(), ".".into());
    let diff = Diff::between(&Snapshot::build([plain]), &Snapshot::build([Arc::new(hidden)]));
    assert_eq!(diff.changed.len(), 1);
}

/// A service of two workloads with proxies; the second is at `address`, and `mode` says whether its proxy takes mutual TLS.
fn served(address: &str, mode: &str) -> Snapshot {
    support::snapshot(&format!(
        r#"
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: db, namespace: shop}}
spec: {{hosts: [db.example], location: MESH_INTERNAL, resolution: STATIC, workloadSelector: {{labels: {{app: db}}}}, ports: [{{name: http, number: 80, protocol: HTTP}}]}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {{name: w0, namespace: shop}}
spec: {{address: 10.0.0.1, labels: {{app: db, security.istio.io/tlsMode: istio}}}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {{name: w1, namespace: shop}}
spec: {{address: {address}, labels: {{app: db, security.istio.io/tlsMode: {mode}}}}}
"#
    ))
}

#[test]
fn an_endpoint_that_loses_its_proxy_changes_more_than_endpoints() {
    let before = served("10.0.0.2", "istio");
    let host = |snapshot: &Snapshot| snapshot.services().iter().next().unwrap().is_guarded();
    let (moved, unguarded) = (served("10.0.0.3", "istio"), served("10.0.0.2", "disabled"));
    assert_eq!(
        (host(&before), host(&moved), host(&unguarded)),
        (true, true, false)
    );
    let diff = Diff::between(&before, &moved);
    assert_eq!((diff.services.len(), diff.endpoints.len()), (0, 1));
    // Clients ask Mixer themselves about what no server's proxy asks for.
    let diff = Diff::between(&before, &unguarded);
    assert_eq!((diff.services.len(), diff.endpoints.len()), (1, 0));
}
