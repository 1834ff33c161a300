//! What a snapshot makes of objects: services with their endpoints, rules by precedence, policies by level.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests may fail loudly"
)]

mod support;

use std::collections::BTreeMap;

use config::security::MutualTlsMode;
use model::{Address, Health, Resolution, Service, Snapshot};
use support::snapshot;

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| (key.to_string(), value.to_string()))
        .collect()
}

/// Endpoints as `address:port` of the service's port.
fn endpoints(service: &Service, port: u16) -> Vec<String> {
    let at = |endpoint: &model::Endpoint| match (&endpoint.address, endpoint.port(port)) {
        (Address::Ip(ip), Some(port)) => Some(format!("{ip}:{port}")),
        (Address::Host(host), Some(port)) => Some(format!("{host}:{port}")),
        _ => None,
    };
    service.endpoints.iter().filter_map(at).collect()
}

fn service<'a>(snapshot: &'a Snapshot, host: &str, namespace: &str) -> &'a Service {
    snapshot
        .services()
        .get(host, namespace)
        .unwrap_or_else(|| panic!("{host} is missing"))
}

#[test]
fn a_kubernetes_service_selects_workload_entries_of_its_namespace() {
    let mesh = snapshot(
        r#"
apiVersion: v1
kind: Service
metadata: {name: a, namespace: shop}
spec:
  selector: {app: a}
  ports:
  - {name: http, port: 80, targetPort: 8080}
  - {name: named, port: 81, targetPort: admin}
  - {name: same, port: 82}
  - {name: own, port: 83, targetPort: 8083}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: a-1, namespace: shop, labels: {app: a}}
spec: {address: 10.0.0.1, ports: {admin: 9000, own: 7000}, serviceAccount: worker}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: a-2, namespace: other}
spec: {address: 10.0.0.2, labels: {app: a}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: b-1, namespace: shop}
spec: {address: 10.0.0.3, labels: {app: b}}
"#,
    );
    let a = service(&mesh, "a.shop.svc.cluster.local", "shop");
    assert_eq!(endpoints(a, 80), ["10.0.0.1:8080"]);
    assert_eq!(endpoints(a, 81), ["10.0.0.1:9000"]);
    assert_eq!(endpoints(a, 82), ["10.0.0.1:82"]);
    assert_eq!(endpoints(a, 83), ["10.0.0.1:7000"]);
    assert_eq!(a.endpoints[0].service_account.as_deref(), Some("worker"));
    let workload = mesh.workloads().get("shop", "a-1").unwrap();
    let hosts: Vec<_> = mesh
        .services()
        .of_workload(workload)
        .map(|s| s.host.as_str())
        .collect();
    assert_eq!(hosts, ["a.shop.svc.cluster.local"]);
}

#[test]
fn endpoint_slices_know_their_pods_and_conditions() {
    let mesh = snapshot(
        r#"
apiVersion: v1
kind: Service
metadata: {name: a, namespace: shop}
spec: {clusterIP: 10.96.0.1, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: a-x, namespace: shop, labels: {kubernetes.io/service-name: a}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints:
- {addresses: [10.1.0.1], conditions: {ready: true}}
- {addresses: [10.1.0.2], conditions: {ready: false}}
- {addresses: [10.1.0.3], conditions: {ready: false, serving: true, terminating: true}}
- {addresses: [10.1.0.4]}
---
apiVersion: v1
kind: Pod
metadata: {name: a-pod, namespace: shop, labels: {version: v2, security.istio.io/tlsMode: istio}}
spec: {serviceAccountName: worker}
status: {podIP: 10.1.0.1}
"#,
    );
    let a = service(&mesh, "a.shop.svc.cluster.local", "shop");
    let health: Vec<Health> = a.endpoints.iter().map(|e| e.health).collect();
    assert_eq!(
        health,
        [
            Health::Healthy,
            Health::Unhealthy,
            Health::Terminating,
            Health::Healthy
        ]
    );
    let known = &a.endpoints[0];
    assert_eq!(
        (known.service_account.as_deref(), known.mtls),
        (Some("worker"), true)
    );
    assert_eq!(known.labels.get("version").map(String::as_str), Some("v2"));
    assert_eq!(a.endpoints[3].service_account, None, "a pod that is not known");
    assert_eq!(a.addresses, ["10.96.0.1"]);
}

#[test]
fn service_entries_by_resolution() {
    let mesh = snapshot(
        r#"
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: outside, namespace: shop}
spec:
  hosts: [API.example.com, other.example.com]
  ports: [{number: 443, name: tls, protocol: TLS, targetPort: 8443}]
  resolution: DNS
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: static, namespace: shop}
spec:
  hosts: [static.example.com]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP}]
  workloadSelector: {labels: {app: s}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: s-1, namespace: shop}
spec: {address: 10.0.0.9, labels: {app: s}, ports: {http: 8000}}
"#,
    );
    let outside = service(&mesh, "api.example.com", "shop");
    assert_eq!(outside.resolution, Resolution::Dns);
    assert_eq!(
        endpoints(outside, 443),
        ["api.example.com:8443"],
        "found under its own name"
    );
    assert!(outside.mesh_external);
    assert_eq!(
        endpoints(service(&mesh, "other.example.com", "shop"), 443),
        ["other.example.com:8443"]
    );
    assert_eq!(
        endpoints(service(&mesh, "static.example.com", "shop"), 80),
        ["10.0.0.9:8000"]
    );
}

#[test]
fn an_object_that_cannot_be_used_is_named() {
    let text = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: root, namespace: shop}
spec: {hosts: [a.com], http: [{match: [{uri: {prefix: /a}}], delegate: {name: gone}}]}
";
    let mesh = snapshot(text);
    assert_eq!(mesh.rejected.len(), 1);
    let shown = mesh.rejected[0].to_string();
    assert!(
        shown.contains("VirtualService shop/root: spec.http[0].delegate: VirtualService shop/gone"),
        "{shown}"
    );
    let twice = Snapshot::build([support::objects(text), support::objects(text)].concat());
    assert!(twice.rejected.iter().any(|f| f.path == "metadata.name"));
    assert_eq!(twice.objects().len(), 1);
}

#[test]
fn delegates_give_their_routes() {
    let mesh = snapshot(
        r#"
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: root, namespace: edge}
spec:
  hosts: [a.com]
  gateways: [gw]
  http:
  - {match: [{uri: {prefix: /shop}}], delegate: {name: part, namespace: shop}}
  - {route: [{destination: {host: rest}}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: part, namespace: shop}
spec:
  http:
  - {match: [{uri: {prefix: /shop/a}}], route: [{destination: {host: a}}]}
  - {match: [{uri: {prefix: /other}}], route: [{destination: {host: b}}]}
  - {route: [{destination: {host: c}}]}
"#,
    );
    let [root] = mesh.virtual_services() else {
        panic!("one root")
    };
    let hosts: Vec<_> = root
        .spec
        .http
        .iter()
        .map(|r| r.route[0].destination.as_ref().unwrap().host.as_str())
        .collect();
    assert_eq!(
        hosts,
        [
            "a.shop.svc.cluster.local",
            "c.shop.svc.cluster.local",
            "rest.edge.svc.cluster.local"
        ]
    );
    assert_eq!(root.origins.len(), 2, "both objects are behind it");
    let told: Vec<_> = mesh.rejected.iter().map(ToString::to_string).collect();
    let [told] = told.as_slice() else {
        panic!("one finding: {told:#?}")
    };
    let what = "VirtualService edge/root: spec.http[0].delegate: route http[1] of VirtualService shop/part is left out";
    assert!(told.contains(what), "{told}");
    assert_eq!(root.spec.gateways, ["edge/gw"]);
}

const RULES: &str = r#"
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: of-client, namespace: client}
spec: {host: a.shop.svc.cluster.local, exportTo: ["."]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: of-service, namespace: shop}
spec: {host: a}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: hidden, namespace: shop}
spec: {host: b, exportTo: ["."]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: of-mesh, namespace: istio-system}
spec: {host: "*.shop.svc.cluster.local"}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: selected, namespace: client}
spec: {host: c.shop.svc.cluster.local, workloadSelector: {matchLabels: {app: x}}}
"#;

#[test]
fn destination_rules_by_precedence() {
    let mesh = snapshot(RULES);
    let find = |host: &str, namespace: &str, own: &[(&str, &str)]| {
        let host = format!("{host}.shop.svc.cluster.local");
        let found = mesh
            .destination_rules()
            .find(&host, "shop", namespace, &labels(own));
        found.map(|rule| rule.origins[0].name.clone())
    };
    assert_eq!(
        find("a", "client", &[]).as_deref(),
        Some("of-client"),
        "the client's own comes first"
    );
    assert_eq!(find("a", "other", &[]).as_deref(), Some("of-service"));
    assert_eq!(
        find("b", "other", &[]).as_deref(),
        Some("of-mesh"),
        "what is not exported is not seen"
    );
    assert_eq!(find("b", "shop", &[]).as_deref(), Some("hidden"));
    assert_eq!(find("c", "client", &[("app", "x")]).as_deref(), Some("selected"));
    assert_eq!(find("c", "client", &[("app", "y")]).as_deref(), Some("of-mesh"));
    assert_eq!(mesh.destination_rules().selector_keys(), ["app"]);
}

#[test]
fn rules_of_one_host_are_merged() {
    let mesh = snapshot(
        r#"
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: one, namespace: shop}
spec: {host: a, subsets: [{name: v1, labels: {version: v1}}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: two, namespace: shop}
spec:
  host: a.shop.svc.cluster.local
  trafficPolicy: {tls: {mode: DISABLE}}
  subsets: [{name: v1, labels: {version: other}}, {name: v2, labels: {version: v2}}]
"#,
    );
    let rule = mesh
        .destination_rules()
        .find("a.shop.svc.cluster.local", "shop", "shop", &labels(&[]))
        .unwrap();
    let names: Vec<_> = rule
        .subsets
        .iter()
        .map(|s| (s.name.as_str(), s.labels["version"].as_str()))
        .collect();
    assert_eq!(names, [("v1", "v1"), ("v2", "v2")], "the first of a name stays");
    assert!(rule.traffic_policy.is_some());
}

#[test]
fn a_rule_for_workloads_takes_over_what_it_does_not_say() {
    let mesh = snapshot(
        r#"
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: all, namespace: shop}
spec: {host: a, trafficPolicy: {tls: {mode: DISABLE}}, subsets: [{name: v1, labels: {version: v1}}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: one, namespace: shop}
spec: {host: a, workloadSelector: {matchLabels: {app: x}}, trafficPolicy: {loadBalancer: {simple: RANDOM}}}
"#,
    );
    let find = |own: &[(&str, &str)]| {
        let host = "a.shop.svc.cluster.local";
        let found = mesh.destination_rules().find(host, "shop", "shop", &labels(own));
        found.unwrap().clone()
    };
    let one = find(&[("app", "x")]);
    assert_eq!(one.subsets.len(), 1, "subsets that routes name are there");
    let policy = one.traffic_policy.as_ref().unwrap();
    assert!(policy.load_balancer.is_some() && policy.tls.is_none());
    assert_eq!(one.origins.len(), 2);
    let all = find(&[]);
    assert_eq!(all.origins.len(), 1, "others are not touched by it");
}

#[test]
fn the_sidecar_that_selects_a_workload_comes_first() {
    let sidecar = |name: &str, namespace: &str, selector: &str| {
        format!(
            "---\napiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {{{selector} egress: [{{hosts: ['./*']}}]}}\n"
        )
    };
    let text = [
        sidecar("mesh", "istio-system", ""),
        sidecar("all", "shop", ""),
        sidecar("one", "shop", "workloadSelector: {labels: {app: a}},"),
    ]
    .concat();
    let mesh = snapshot(&text);
    let of = |namespace: &str, app: &str| {
        mesh.sidecar_for(namespace, &labels(&[("app", app)]))
            .map(|s| s.key.name.clone())
            .unwrap()
    };
    assert_eq!(of("shop", "a"), "one");
    assert_eq!(of("shop", "b"), "all");
    assert_eq!(of("other", "a"), "mesh");
}

#[test]
fn mutual_tls_modes_by_level() {
    let mesh = snapshot(
        r#"
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: mesh, namespace: istio-system}
spec: {mtls: {mode: STRICT}}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: namespace, namespace: shop}
spec: {mtls: {mode: PERMISSIVE}}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: workload, namespace: shop}
spec:
  selector: {matchLabels: {app: a}}
  mtls: {mode: UNSET}
  portLevelMtls: {8080: {mode: DISABLE}, 9090: {mode: STRICT}}
"#,
    );
    let modes = |namespace: &str, app: &str| mesh.policies().peer_modes(namespace, &labels(&[("app", app)]));
    assert_eq!(modes("other", "a").default, MutualTlsMode::Strict);
    assert_eq!(modes("shop", "b").default, MutualTlsMode::Permissive);
    let own = modes("shop", "a");
    assert_eq!(
        own.default,
        MutualTlsMode::Permissive,
        "UNSET asks the next level"
    );
    assert_eq!(
        (own.of(8080), own.of(9090), own.of(1)),
        (
            MutualTlsMode::Disable,
            MutualTlsMode::Strict,
            MutualTlsMode::Permissive
        )
    );
    assert_eq!(
        snapshot("").policies().peer_modes("x", &labels(&[])).default,
        MutualTlsMode::Permissive
    );
}

#[test]
fn a_client_means_its_own_namespaces_service_first() {
    let entry = |namespace: &str, export: &str| {
        format!(
            "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: e, namespace: {namespace}}}\nspec: {{hosts: [a.example.com], exportTo: ['{export}'], ports: [{{number: 80, name: http, protocol: HTTP}}], resolution: NONE}}\n"
        )
    };
    let mesh = snapshot(&[entry("one", "*"), entry("two", "*"), entry("three", ".")].concat());
    let seen = |from: &str| {
        mesh.services()
            .seen_from("a.example.com", from)
            .map(|s| s.namespace.clone())
    };
    assert_eq!(seen("two").as_deref(), Some("two"));
    assert_eq!(seen("three").as_deref(), Some("three"));
    assert_eq!(seen("four").as_deref(), Some("one"), "the first that is exported");
}
