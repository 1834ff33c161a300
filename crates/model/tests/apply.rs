//! A mesh that is carried from change to change is the mesh that its objects make at once, over random histories.

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

use config::{Object, ObjectKey};
use model::{Change, Diff, Seen, Snapshot};
use proptest::prelude::*;

/// One of few objects: its kind, name and version.
type Seed = (u8, u8, u8);

/// An object drawn from few names and values, so that changes meet.
fn object((kind, name, value): Seed) -> Arc<Object> {
    let ns = ["shop", "edge"][usize::from(name % 2)];
    let text = match kind {
        0 => format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: s{name}, namespace: {ns}, labels: {{{}}}}}\nspec: {{{} selector: {{app: a{}}}, ports: [{{name: http, port: 80, targetPort: {}}}]}}\nstatus: {{loadBalancer: {{ingress: [{{ip: 192.0.2.{value}}}]}}}}",
            ["", "topology.istio.io/network: n1"][usize::from(value % 2)],
            [
                "clusterIP: None,",
                "type: LoadBalancer,",
                "type: ExternalName, externalName: s1.edge.svc.cluster.local,",
                "trafficDistribution: PreferSameNode,"
            ][usize::from(value % 4)],
            name % 3,
            ["8080", "web"][usize::from(value % 2)],
        ),
        1 => format!(
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: e{name}, namespace: {ns}, labels: {{kubernetes.io/service-name: s{value}}}}}\naddressType: IPv4\nports: [{{name: http, port: 8080}}]\nendpoints: [{{addresses: [10.1.0.{value}], nodeName: n{}}}, {{addresses: [10.1.1.{name}], targetRef: {{kind: Pod, name: p{name}}}}}]",
            value % 2
        ),
        2 => format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: p{name}, namespace: {ns}, labels: {{app: a{}, version: v{value}}}}}\nspec: {{nodeName: n{}, containers: [{{name: c, ports: [{{name: web, containerPort: 80{name}{value}}}]}}]}}\nstatus: {{podIP: 10.1.{}.{value}}}",
            value % 3,
            value % 2,
            name % 2
        ),
        3 => format!(
            "apiVersion: v1\nkind: Node\nmetadata: {{name: n{}, labels: {{topology.kubernetes.io/zone: z{value}}}}}",
            name % 2
        ),
        4 => format!(
            "apiVersion: v1\nkind: Namespace\nmetadata: {{name: {}, annotations: {{networking.istio.io/traffic-distribution: {}}}, labels: {{topology.istio.io/network: n{}}}}}",
            ["shop", "edge", "istio-system"][usize::from(name % 3)],
            ["PreferClose", "Any"][usize::from(value % 2)],
            value % 2
        ),
        5 => format!(
            "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {{name: w{name}, namespace: {ns}}}\nspec: {{address: 10.1.{}.{value}, labels: {{app: a{}}}}}",
            name % 2,
            value % 3
        ),
        6 => format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: x{name}, namespace: {ns}}}\nspec: {{hosts: [h{value}.example.com, s{value}.{ns}.svc.cluster.local], resolution: STATIC, location: MESH_INTERNAL, workloadSelector: {{labels: {{app: a{}}}}}, ports: [{{number: 80, name: http, protocol: HTTP}}, {{number: 9{value}, name: tls, protocol: TLS}}]}}",
            name % 3
        ),
        7 => format!(
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: d{name}, namespace: {ns}}}\nspec: {{host: s{}, exportTo: ['{}'], subsets: [{{name: v{value}, labels: {{version: v{value}}}}}]}}",
            name % 2,
            ["*", "."][usize::from(value % 2)]
        ),
        8 => format!(
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: v{name}, namespace: {ns}}}\nspec: {{{} http: [{{match: [{{sourceLabels: {{l{value}: x}}}}], {}}}]}}",
            ["hosts: [a.com],", ""][usize::from(name % 2)],
            [
                "route: [{destination: {host: s1}}]",
                "delegate: {name: v1, namespace: edge}"
            ][usize::from(name % 2 == 0 && value % 2 == 1)]
        ),
        9 => format!(
            "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {{name: i{name}, namespace: {ns}, annotations: {{kubernetes.io/ingress.class: istio}}}}\nspec: {{rules: [{{host: h{value}.com, http: {{paths: [{{path: /, pathType: Prefix, backend: {{service: {{name: s{name}, port: {{name: http}}}}}}}}]}}}}]}}"
        ),
        10 => format!(
            "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {{name: m{name}, namespace: {ns}}}\nspec: {{mtls: {{mode: {}}}}}",
            ["STRICT", "DISABLE"][usize::from(value % 2)]
        ),
        _ => format!(
            "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: g{name}, namespace: {ns}}}\nspec: {{selector: {{app: a{value}}}, servers: [{{port: {{number: 80, name: http, protocol: HTTP}}, hosts: ['*']}}]}}"
        ),
    };
    support::objects(&text).remove(0)
}

fn seed() -> impl Strategy<Value = Seed> {
    (0..12u8, 0..4u8, 0..4u8)
}

/// A history: each entry is a set of changes; a seed with `true` removes its object.
fn history() -> impl Strategy<Value = Vec<Vec<(Seed, bool)>>> {
    prop::collection::vec(
        prop::collection::vec((seed(), prop::bool::weighted(0.3)), 1..6),
        1..20,
    )
}

/// Everything that a snapshot means.
fn meaning(snapshot: &Snapshot) -> Vec<String> {
    let mut out: Vec<String> = snapshot.services().iter().map(|s| format!("{s:?}")).collect();
    out.extend(snapshot.workloads().iter().map(|w| format!("{w:?}")));
    out.extend(snapshot.virtual_services().iter().map(|vs| format!("{vs:?}")));
    out.extend(snapshot.gateways().iter().map(|g| format!("{g:?}")));
    out.push(format!("{:?}", snapshot.policies()));
    out.push(format!("{:?} {}", snapshot.networks(), snapshot.reads_nodes()));
    out.push(format!("{:?}", snapshot.client_label_keys()));
    let none = BTreeMap::new();
    for host in ["s0", "s1"] {
        for ns in ["shop", "edge"] {
            let host = format!("{host}.{ns}.svc.cluster.local");
            for client in ["shop", "edge", "other"] {
                let rule = snapshot.destination_rules().find(&host, ns, client, &none);
                out.push(format!("{host} {client} {rule:?}"));
            }
        }
    }
    let mut rejected: Vec<String> = snapshot.rejected.iter().map(ToString::to_string).collect();
    rejected.sort();
    out.extend(rejected);
    out
}

fn change(seed: Seed, remove: bool) -> Change {
    let object = object(seed);
    match remove {
        true => Change::Remove(object.key()),
        false => Change::Put(object),
    }
}

/// Whether what a client in a namespace sees of services is the same.
fn services_seen(snapshot: &Snapshot, namespace: &str) -> Vec<String> {
    let all = snapshot.services().all_seen_from(namespace);
    all.map(|service| {
        let mut service = (**service).clone();
        if service.resolution == model::Resolution::Static {
            service.endpoints.clear();
        }
        format!("{service:?}")
    })
    .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn step_by_step_is_the_same_as_at_once(history in history()) {
        let mut snapshot = Snapshot::build([]);
        let mut objects: BTreeMap<ObjectKey, Arc<Object>> = BTreeMap::new();
        for batch in history {
            for &(seed, remove) in &batch {
                let object = object(seed);
                match remove {
                    true => drop(objects.remove(&object.key())),
                    false => drop(objects.insert(object.key(), object)),
                }
            }
            let next = snapshot.apply(batch.iter().map(|&(seed, remove)| change(seed, remove)));
            let whole = Snapshot::build(objects.values().cloned());
            prop_assert_eq!(meaning(&next), meaning(&whole));
            prop_assert_eq!(meaning(&snapshot.update(&objects)), meaning(&whole));
            let diff = Diff::between(&snapshot, &next);
            prop_assert_eq!(&diff, &Diff::between(&snapshot, &whole));
            if diff.is_empty() {
                prop_assert_eq!(meaning(&snapshot), meaning(&next), "{:?}", diff);
            }
            for namespace in ["shop", "edge", "other"] {
                if let Seen::Endpoints(_) = diff.seen_from(&snapshot, &next, namespace) {
                    prop_assert_eq!(services_seen(&snapshot, namespace), services_seen(&next, namespace));
                }
            }
            snapshot = next;
        }
    }
}

#[test]
fn a_moved_endpoint_is_seen_where_its_service_is() {
    let text = r#"
apiVersion: v1
kind: Service
metadata: {name: a, namespace: shop, annotations: {networking.istio.io/exportTo: "."}}
spec: {clusterIP: 10.96.0.1, ports: [{name: http, port: 80}]}
"#;
    let slice = |ip: &str| {
        support::objects(&format!(
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: a-1, namespace: shop, labels: {{kubernetes.io/service-name: a}}}}\naddressType: IPv4\nports: [{{name: http, port: 80}}]\nendpoints: [{{addresses: [{ip}]}}]\n"
        ))
        .remove(0)
    };
    let before = Snapshot::build(support::objects(text)).apply([Change::Put(slice("10.0.0.1"))]);
    let after = before.apply([Change::Put(slice("10.0.0.2"))]);
    let diff = Diff::between(&before, &after);
    let a = model::ServiceId::new("a.shop.svc.cluster.local", "shop");
    assert_eq!(diff.endpoints.iter().collect::<Vec<_>>(), [&a]);
    assert!(diff.services.is_empty());
    let seen = |namespace: &str| diff.seen_from(&before, &after, namespace);
    assert_eq!(seen("shop"), Seen::Endpoints([a].into()));
    assert_eq!(seen("other"), Seen::Endpoints([].into()), "it is not exported");
    let nothing = after.apply([Change::Put(slice("10.0.0.2"))]);
    assert!(Diff::between(&after, &nothing).is_empty());
}
