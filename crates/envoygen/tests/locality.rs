//! Which endpoints a client prefers, by place, labels, node and network.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests may fail loudly, and this one starts Envoys"
)]

mod support;

use envoy_types::pb::envoy::config::cluster::v3::cluster::common_lb_config::LocalityConfigSpecifier;
use envoy_types::pb::envoy::config::core::v3::HealthStatus;
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoygen::{Output, type_url};
use support::envoy::validate;
use support::{addresses, cluster, generator, get, tables};

const NODE: &str = "sidecar~127.1.0.9~client.shop~shop.svc.cluster.local";
const CLUSTER: &str = "outbound|80||a.example.com";

/// A client at r1/z1/s1 and endpoints in five places; their last byte counts them.
const MESH: &str = r#"
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: client, namespace: shop}
spec: {address: 127.1.0.9, locality: r1/z1/s1, labels: {rack: x, app: client}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: a, namespace: shop}
spec:
  hosts: [a.example.com]
  resolution: STATIC
  location: MESH_INTERNAL
  ports: [{number: 80, name: http, protocol: HTTP}]
  endpoints:
  - {address: 10.0.0.1, locality: r1/z1/s1, labels: {rack: w}}
  - {address: 10.0.0.2, locality: r1/z1/s2, labels: {rack: x}, weight: 3}
  - {address: 10.0.0.3, locality: r1/z2/s1}
  - {address: 10.0.0.4, locality: r2/z1/s1, labels: {rack: x}}
  - {address: 10.0.0.5, locality: r3/z1/s1}
---
"#;

fn rule(policy: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: a, namespace: shop}}\nspec: {{host: a.example.com, trafficPolicy: {policy}}}\n---\n"
    )
}

/// `PRIORITY WEIGHT: ENDPOINTS` of each locality in the cluster's set, by the endpoints' last byte.
fn sets(output: &Output, name: &str) -> Vec<String> {
    let set: ClusterLoadAssignment = get(output, type_url::ENDPOINTS, name);
    let mut all = Vec::new();
    for locality in set.endpoints {
        let weight = locality.load_balancing_weight.map_or(0, |w| w.value);
        let one = ClusterLoadAssignment {
            endpoints: vec![locality.clone()],
            ..ClusterLoadAssignment::default()
        };
        let short = |address: &String| {
            let ip = address.split(':').next().unwrap();
            ip.rsplit('.').next().unwrap().to_owned()
        };
        let last: Vec<String> = addresses(&one).iter().map(short).collect();
        all.push(format!("{} {weight}: {}", locality.priority, last.join(" ")));
    }
    all.sort();
    all
}

fn check(policy: &str, expected: &[&str]) {
    let rule = match policy {
        "" => String::new(),
        policy => rule(policy),
    };
    let output = tables(&generator(&[MESH, &rule]), NODE);
    assert_eq!(sets(&output, CLUSTER), expected, "{policy}");
    validate(&output);
}

const OUTLIERS: &str = "outlierDetection: {consecutive5xxErrors: 3}";

#[test]
fn without_outlier_detection_there_are_no_priorities() {
    let flat = ["0 1: 1", "0 1: 3", "0 1: 4", "0 1: 5", "0 3: 2"];
    check("", &flat);
    check(
        "{loadBalancer: {localityLbSetting: {failover: [{from: r1, to: r2}]}}}",
        &flat,
    );
    check(
        "{loadBalancer: {localityLbSetting: {failoverPriority: [rack]}}}",
        &flat,
    );
}

#[test]
fn failover_by_distance() {
    check(
        &format!("{{{OUTLIERS}}}"),
        &["0 1: 1", "1 3: 2", "2 1: 3", "3 1: 4", "3 1: 5"],
    );
    check(
        &format!("{{loadBalancer: {{localityLbSetting: {{failover: [{{from: r1, to: r3}}]}}}}, {OUTLIERS}}}"),
        &["0 1: 1", "1 3: 2", "2 1: 3", "3 1: 5", "4 1: 4"],
    );
    check(
        &format!("{{loadBalancer: {{localityLbSetting: {{enabled: false}}}}, {OUTLIERS}}}"),
        &["0 1: 1", "0 1: 3", "0 1: 4", "0 1: 5", "0 3: 2"],
    );
}

#[test]
fn failover_by_labels() {
    check(
        &format!("{{loadBalancer: {{localityLbSetting: {{failoverPriority: [rack]}}}}, {OUTLIERS}}}"),
        &["0 1: 4", "0 3: 2", "1 1: 1", "1 1: 3", "1 1: 5"],
    );
    check(
        &format!("{{loadBalancer: {{localityLbSetting: {{failoverPriority: [rack=w]}}}}, {OUTLIERS}}}"),
        &["0 1: 1", "1 1: 3", "1 1: 4", "1 1: 5", "1 3: 2"],
    );
    check(
        &format!(
            "{{loadBalancer: {{localityLbSetting: {{failoverPriority: [topology.kubernetes.io/region, topology.kubernetes.io/zone]}}}}, {OUTLIERS}}}"
        ),
        &["0 1: 1", "0 3: 2", "1 1: 3", "2 1: 4", "2 1: 5"],
    );
}

#[test]
fn distribution_by_percentages() {
    check(
        "{loadBalancer: {localityLbSetting: {distribute: [{from: r1/*, to: {r1/z1/*: 70, r1/z2/*: 20, r2/*: 10}}]}}}",
        &["0 10: 4", "0 18: 1", "0 20: 3", "0 53: 2"],
    );
    check(
        "{loadBalancer: {localityLbSetting: {distribute: [{from: r9, to: {r1: 100}}]}}}",
        &["0 1: 1", "0 1: 3", "0 1: 4", "0 1: 5", "0 3: 2"],
    );
}

#[test]
fn the_meshs_setting_counts_where_no_rule_has_one() {
    let mesh = "apiVersion: mesh.istio.io/v1alpha1\nkind: MeshConfig\nmetadata: {name: mesh, namespace: istio-system}\nspec: {localityLbSetting: {distribute: [{from: '*', to: {r2: 100}}]}}\n---\n";
    let output = tables(&generator(&[MESH, mesh]), NODE);
    assert_eq!(sets(&output, CLUSTER), ["0 100: 4"]);
    let weighted = cluster(&output, CLUSTER)
        .common_lb_config
        .unwrap()
        .locality_config_specifier;
    assert!(matches!(
        weighted,
        Some(LocalityConfigSpecifier::LocalityWeightedLbConfig(_))
    ));
}

/// A Kubernetes Service with Pods on two nodes, the client on the first.
fn cluster_of(spec: &str) -> String {
    let node = |name: &str, zone: &str| {
        format!(
            "---\napiVersion: v1\nkind: Node\nmetadata: {{name: {name}, labels: {{topology.kubernetes.io/region: r, topology.kubernetes.io/zone: {zone}}}}}\n"
        )
    };
    let pod = |n: u8, node: &str, app: &str| {
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: p{n}, namespace: shop, labels: {{app: {app}}}}}\nspec: {{nodeName: {node}}}\nstatus: {{podIP: 10.0.0.{n}}}\n"
        )
    };
    [
        node("n1", "z1"),
        node("n2", "z2"),
        node("n3", "z1"),
        pod(1, "n1", "a"),
        pod(2, "n2", "a"),
        pod(3, "n3", "a"),
        pod(9, "n1", "client"),
        format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: a, namespace: shop}}\nspec: {{{spec}, ports: [{{name: http, port: 80}}]}}\n---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: a-1, namespace: shop, labels: {{kubernetes.io/service-name: a}}}}\naddressType: IPv4\nports: [{{name: http, port: 80}}]\nendpoints: [{{addresses: [10.0.0.1]}}, {{addresses: [10.0.0.2]}}, {{addresses: [10.0.0.3], conditions: {{ready: false, terminating: false}}}}]\n---\n"
        ),
    ]
    .concat()
}

#[test]
fn kubernetes_ways_to_stay_near() {
    let name = "outbound|80||a.shop.svc.cluster.local";
    let node = "sidecar~10.0.0.9~p9.shop~shop.svc.cluster.local";
    for (spec, expected) in [
        ("clusterIP: 10.96.0.1", vec!["0 1: 1", "0 1: 2"]),
        (
            "clusterIP: 10.96.0.1, trafficDistribution: PreferSameZone",
            vec!["0 2: 1 3", "1 1: 2"],
        ),
        (
            "clusterIP: 10.96.0.1, trafficDistribution: PreferSameNode",
            vec!["0 1: 1", "1 1: 3", "2 1: 2"],
        ),
        (
            "clusterIP: 10.96.0.1, internalTrafficPolicy: Local",
            vec!["0 1: 1"],
        ),
    ] {
        let output = tables(&generator(&[&cluster_of(spec)]), node);
        assert_eq!(sets(&output, name), expected, "{spec}");
        validate(&output);
        let shown = spec.contains("trafficDistribution");
        let set: ClusterLoadAssignment = get(&output, type_url::ENDPOINTS, name);
        let states = set.endpoints.iter().flat_map(|l| &l.lb_endpoints);
        let unhealthy = states.filter(|e| e.health_status == HealthStatus::Unhealthy as i32);
        assert_eq!(unhealthy.count(), usize::from(shown), "{spec}");
        let panic = cluster(&output, name)
            .common_lb_config
            .unwrap()
            .healthy_panic_threshold;
        assert_eq!(panic.map(|p| p.value), shown.then_some(0.0), "{spec}");
    }
}

#[test]
fn other_networks_are_behind_their_gateways() {
    let networks = "apiVersion: mesh.istio.io/v1alpha1\nkind: MeshNetworks\nmetadata: {name: networks, namespace: istio-system}\nspec: {networks: {west: {endpoints: [], gateways: [{address: 192.0.2.1, port: 15443}, {address: 192.0.2.2, port: 15443}]}}}\n---\n";
    let entry = r#"
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: client, namespace: shop}
spec: {address: 127.1.0.9, network: east}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: a, namespace: shop}
spec:
  hosts: [a.example.com]
  resolution: STATIC
  location: MESH_INTERNAL
  ports: [{number: 80, name: http, protocol: HTTP}]
  endpoints:
  - {address: 10.0.0.1, network: east}
  - {address: 10.0.0.2, network: west, labels: {security.istio.io/tlsMode: istio}, weight: 3}
  - {address: 10.0.0.3, network: west}
  - {address: 10.0.0.4, network: north}
---
"#;
    let output = tables(&generator(&[entry, networks]), NODE);
    let set: ClusterLoadAssignment = get(&output, type_url::ENDPOINTS, CLUSTER);
    assert_eq!(
        addresses(&set),
        ["10.0.0.1:80", "10.0.0.4:80", "192.0.2.1:15443", "192.0.2.2:15443"],
        "what takes no mutual TLS cannot be told apart behind a gateway; north has none"
    );
    let weights = set.endpoints[0].lb_endpoints.iter();
    let weights: Vec<u32> = weights.map(|e| e.load_balancing_weight.unwrap().value).collect();
    assert_eq!(weights, [2, 2, 3, 3]);
    validate(&output);
    let near = entry.replace("network: east", "network: west");
    let set: ClusterLoadAssignment = get(
        &tables(&generator(&[&near, networks]), NODE),
        type_url::ENDPOINTS,
        CLUSTER,
    );
    assert_eq!(addresses(&set).len(), 4, "the own network is reached directly");
}
