//! Services and workloads that Kubernetes' objects make, with a cluster's EndpointSlices and from a folder without any.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests may fail loudly"
)]

mod support;

use model::{Endpoint, Health, Resolution, Service, Snapshot, TrafficDistribution};
use support::snapshot;

fn service<'a>(mesh: &'a Snapshot, name: &str) -> &'a Service {
    let host = format!("{name}.shop.svc.cluster.local");
    mesh.services()
        .get(&host, "shop")
        .unwrap_or_else(|| panic!("{host} is missing"))
}

/// `ADDRESS[+ADDRESS]:PORT` of the service's first port.
fn show(service: &Service) -> Vec<String> {
    let port = service.ports[0].number;
    let one = |e: &Endpoint| {
        let ips: Vec<String> = e.ips().map(|ip| ip.to_string()).collect();
        format!("{}:{}", ips.join("+"), e.port(port).unwrap_or_default())
    };
    service.endpoints.iter().map(one).collect()
}

fn pod(name: &str, ip: &str, more: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: shop, labels: {{app: a}}}}\nspec: {{nodeName: n1, containers: [{{name: c, ports: [{{name: http, containerPort: 7000}}, {{name: web, containerPort: 9000}}]}}]}}\nstatus: {{podIP: {ip}{more}}}\n"
    )
}

fn slice(name: &str, family: &str, endpoints: &str) -> String {
    format!(
        "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: {name}, namespace: shop, labels: {{kubernetes.io/service-name: a}}}}\naddressType: {family}\nports: [{{name: http, port: 8080}}]\nendpoints: [{endpoints}]\n"
    )
}

fn declared(spec: &str) -> String {
    format!("---\napiVersion: v1\nkind: Service\nmetadata: {{name: a, namespace: shop}}\nspec: {{{spec}}}\n")
}

const PORT: &str = "ports: [{name: http, port: 80, targetPort: 8080}]";

#[test]
fn without_slices_a_service_selects_pods() {
    let not_ready = ", conditions: [{type: Ready, status: 'False'}]";
    let pods = [
        pod("p1", "10.0.0.1", ""),
        pod("p2", "10.0.0.2", not_ready),
        pod("p3", "10.0.0.3", ", phase: Succeeded"),
    ]
    .concat();
    let named = "selector: {app: a}, ports: [{name: http, port: 80, targetPort: web}]";
    let mesh = snapshot(&[&declared(named), pods.as_str()].concat());
    let a = service(&mesh, "a");
    assert_eq!(show(a), ["10.0.0.1:9000", "10.0.0.2:9000"], "p3 has ended");
    assert_eq!(a.endpoints[1].health, Health::Unhealthy);
    let all = format!("publishNotReadyAddresses: true, {named}");
    let mesh = snapshot(&[&declared(&all), pods.as_str()].concat());
    assert_eq!(service(&mesh, "a").endpoints[1].health, Health::Healthy);
    // A container's port has the name of the service's port, which means nothing.
    let mesh = snapshot(&[&declared(&format!("selector: {{app: a}}, {PORT}")), pods.as_str()].concat());
    assert_eq!(show(service(&mesh, "a"))[0], "10.0.0.1:8080");
}

#[test]
fn slices_count_where_there_are_some() {
    let entry = "---\napiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {name: w, namespace: shop, labels: {app: a}}\nspec: {address: 10.0.9.9}\n";
    let text = [
        declared(&format!("selector: {{app: a}}, {PORT}")),
        pod("p1", "10.0.0.1", ""),
        pod("p2", "10.0.0.2", ""),
        slice("s1", "IPv4", "{addresses: [10.0.0.1]}"),
        entry.to_owned(),
    ]
    .concat();
    assert_eq!(
        show(service(&snapshot(&text), "a")),
        ["10.0.0.1:8080", "10.0.9.9:8080"],
        "p2 is not in a slice; WorkloadEntries are chosen in any case"
    );
    let empty = [
        declared(&format!("selector: {{app: a}}, {PORT}")),
        pod("p1", "10.0.0.1", ""),
        slice("s1", "IPv4", ""),
    ]
    .concat();
    assert!(show(service(&snapshot(&empty), "a")).is_empty());
}

#[test]
fn kinds_of_services() {
    for (spec, resolution, addresses) in [
        (
            format!("clusterIP: 10.96.0.1, {PORT}"),
            Resolution::Static,
            vec!["10.96.0.1"],
        ),
        (
            format!("clusterIP: 10.96.0.1, clusterIPs: [10.96.0.1, 'fd00::1'], {PORT}"),
            Resolution::Static,
            vec!["10.96.0.1", "fd00::1"],
        ),
        (
            format!("clusterIP: None, selector: {{app: a}}, {PORT}"),
            Resolution::Passthrough,
            vec![],
        ),
        (
            "type: ExternalName, externalName: API.example.com.".to_owned(),
            Resolution::Alias("api.example.com".to_owned()),
            vec![],
        ),
        (format!("type: NodePort, {PORT}"), Resolution::Static, vec![]),
    ] {
        let mesh = snapshot(&declared(&spec));
        let a = service(&mesh, "a");
        assert_eq!(
            (&a.resolution, &a.addresses),
            (
                &resolution,
                &addresses.iter().map(|a| (*a).to_owned()).collect::<Vec<_>>()
            ),
            "{spec}"
        );
    }
}

#[test]
fn a_dual_stack_pod_is_one_endpoint() {
    let both = ", podIPs: [{ip: 10.0.0.1}, {ip: 'fd00::1'}]";
    let text = |ips: &str| {
        [
            declared(&format!("clusterIP: 10.96.0.1, {ips} {PORT}")),
            pod("p1", "10.0.0.1", both),
            slice(
                "s4",
                "IPv4",
                "{addresses: [10.0.0.1], targetRef: {kind: Pod, name: p1}}",
            ),
            slice(
                "s6",
                "IPv6",
                "{addresses: ['fd00::1'], targetRef: {kind: Pod, name: p1}}, {addresses: ['fd00::9']}",
            ),
        ]
        .concat()
    };
    let dual = snapshot(&text(
        "clusterIPs: [10.96.0.1, 'fd00:96::1'], ipFamilies: [IPv4, IPv6],",
    ));
    assert_eq!(
        show(service(&dual, "a")),
        ["10.0.0.1+fd00::1:8080", "fd00::9:8080"],
        "the other address is of no Pod"
    );
}

#[test]
fn places_come_from_nodes_labels_and_slices() {
    let node = "---\napiVersion: v1\nkind: Node\nmetadata: {name: n1, labels: {topology.kubernetes.io/region: r, topology.kubernetes.io/zone: z, topology.istio.io/subzone: s}}\n";
    let labelled = pod("p2", "10.0.0.2", "").replace("{app: a}", "{app: a, istio-locality: q.y.t}");
    let text = [
        declared(&format!("selector: {{app: a}}, {PORT}")),
        node.to_owned(),
        pod("p1", "10.0.0.1", ""),
        labelled,
        slice(
            "s1",
            "IPv4",
            "{addresses: [10.0.0.1]}, {addresses: [10.0.0.2]}, {addresses: [10.0.0.3], nodeName: n1}, {addresses: [10.0.0.4], zone: far}",
        ),
    ]
    .concat();
    let mesh = snapshot(&text);
    let places: Vec<String> = service(&mesh, "a")
        .endpoints
        .iter()
        .map(|e| {
            format!(
                "{}/{}/{} {}",
                e.locality.region, e.locality.zone, e.locality.sub_zone, e.node
            )
        })
        .collect();
    assert_eq!(places, ["r/z/s n1", "q/y/t n1", "r/z/s n1", "/far/ "]);
}

#[test]
fn networks_of_workloads_and_their_gateways() {
    let networks = "
apiVersion: mesh.istio.io/v1alpha1
kind: MeshNetworks
metadata: {name: networks, namespace: istio-system}
spec:
  networks:
    east: {endpoints: [{fromCidr: 10.0.0.0/16}], gateways: [{address: 192.0.2.1, port: 15443}]}
    near: {endpoints: [{fromCidr: 10.0.0.0/30}], gateways: []}
";
    let gateway = "---\napiVersion: v1\nkind: Service\nmetadata: {name: gw, namespace: istio-system, labels: {topology.istio.io/network: west, networking.istio.io/gatewayPort: '443'}}\nspec: {type: LoadBalancer, ports: [{name: tls, port: 443}]}\nstatus: {loadBalancer: {ingress: [{ip: 192.0.2.9}, {hostname: x.example.com}]}}\n";
    let labelled = pod("p2", "10.0.0.2", "").replace("{app: a}", "{app: a, topology.istio.io/network: west}");
    let text = [
        networks.to_owned(),
        gateway.to_owned(),
        pod("p1", "10.0.0.1", ""),
        labelled,
        pod("p3", "10.0.9.9", ""),
        pod("p4", "10.9.9.9", ""),
    ]
    .concat();
    let mesh = snapshot(&text);
    for (name, network) in [("p1", "near"), ("p2", "west"), ("p3", "east"), ("p4", "")] {
        assert_eq!(
            mesh.workloads().get("shop", name).unwrap().network,
            network,
            "{name}"
        );
    }
    let gateways = |network: &str| {
        let all = mesh.networks().gateways(network).iter();
        all.map(|g| format!("{}:{}", g.address, g.port))
            .collect::<Vec<_>>()
    };
    assert_eq!(gateways("east"), ["192.0.2.1:15443"]);
    assert_eq!(gateways("west"), ["192.0.2.9:443"], "names are no addresses");
    assert!(gateways("near").is_empty() && mesh.networks().is_multi());
    let root = "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: istio-system, labels: {topology.istio.io/network: home}}\n";
    let mesh = snapshot(&[text.as_str(), root].concat());
    assert_eq!(mesh.workloads().get("shop", "p4").unwrap().network, "home");
}

#[test]
fn how_near_clients_stay() {
    use TrafficDistribution::{Any, PreferSameNode, PreferSameZone};
    let namespace = |value: &str| {
        format!(
            "---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: shop, annotations: {{networking.istio.io/traffic-distribution: {value}}}}}\n"
        )
    };
    let annotated = |value: &str| {
        declared(PORT).replace(
            "namespace: shop",
            &format!("namespace: shop, annotations: {{networking.istio.io/traffic-distribution: {value}}}"),
        )
    };
    for (text, expected) in [
        (declared(PORT), Any),
        (
            declared(&format!("trafficDistribution: PreferClose, {PORT}")),
            PreferSameZone,
        ),
        (
            declared(&format!("trafficDistribution: PreferSameNode, {PORT}")),
            PreferSameNode,
        ),
        (annotated("prefersamezone"), PreferSameZone),
        ([annotated("Any"), namespace("PreferClose")].concat(), Any),
        (
            [declared(PORT), namespace("PreferClose")].concat(),
            PreferSameZone,
        ),
    ] {
        assert_eq!(
            service(&snapshot(&text), "a").traffic_distribution,
            expected,
            "{text}"
        );
    }
    let local = snapshot(&declared(&format!("internalTrafficPolicy: Local, {PORT}")));
    assert!(service(&local, "a").node_local && local.reads_nodes());
    assert!(!snapshot(&declared(PORT)).reads_nodes());
}

#[test]
fn what_ends_keeps_sessions_only_if_there_are_any() {
    let conditions = |serving: bool| {
        slice(
            "s1",
            "IPv4",
            &format!(
                "{{addresses: [10.0.0.1], conditions: {{ready: false, serving: {serving}, terminating: true}}}}"
            ),
        )
    };
    let sticky = declared(PORT).replace(
        "namespace: shop",
        "namespace: shop, labels: {istio.io/persistent-session: s}",
    );
    for (declared, serving, expected) in [
        (declared(PORT), true, Health::Terminating),
        (sticky.clone(), true, Health::Draining),
        (sticky, false, Health::Terminating),
    ] {
        let mesh = snapshot(&[declared, conditions(serving)].concat());
        assert_eq!(service(&mesh, "a").endpoints[0].health, expected);
    }
}

#[test]
fn external_names_are_aliases_of_the_end_of_their_chain() {
    let alias = |name: &str, target: &str| {
        format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: edge}}\nspec: {{type: ExternalName, externalName: {target}}}\n"
        )
    };
    let text = [
        declared(PORT),
        alias("one", "two.edge.svc.cluster.local"),
        alias("two", "a.shop.svc.cluster.local"),
        alias("loop", "loop.edge.svc.cluster.local"),
    ]
    .concat();
    assert_eq!(
        service(&snapshot(&text), "a").aliases,
        ["one.edge.svc.cluster.local", "two.edge.svc.cluster.local"]
    );
}

#[test]
fn service_entries_choose_pods_and_get_addresses() {
    let entry = |name: &str, more: &str| {
        format!(
            "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}, namespace: shop}}\nspec: {{hosts: [{name}.example.com], location: MESH_INTERNAL, ports: [{{number: 80, name: web, protocol: HTTP, targetPort: 8080}}, {{number: 81, name: other, protocol: HTTP}}], {more}}}\n"
        )
    };
    let text = [
        pod("p1", "10.0.0.1", ""),
        "---\napiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {name: w1, namespace: shop}\nspec: {address: 10.0.0.2, labels: {app: a}, serviceAccount: w}\n".to_owned(),
        entry("chosen", "resolution: STATIC, workloadSelector: {labels: {app: a}}"),
        entry("none", "resolution: NONE"),
        entry("own", "resolution: STATIC, addresses: [192.0.2.1/32], endpoints: [{address: 10.0.0.3}]"),
    ]
    .concat();
    let mesh = snapshot(&text);
    let of = |name: &str| {
        mesh.services()
            .get(&format!("{name}.example.com"), "shop")
            .unwrap()
    };
    let chosen = of("chosen");
    assert_eq!(
        show(chosen),
        ["10.0.0.1:9000", "10.0.0.2:8080"],
        "the Pod has a port of that name"
    );
    assert_eq!(
        chosen.endpoints.iter().map(|e| e.mtls).collect::<Vec<_>>(),
        [false, true],
        "a WorkloadEntry with an account is in the mesh"
    );
    assert_eq!(chosen.auto_addresses.len(), 2);
    assert!(of("none").auto_addresses.is_empty() && of("own").auto_addresses.is_empty());
    assert_eq!(of("own").addresses, ["192.0.2.1"]);
    let status = "status: {addresses: [{host: chosen.example.com, value: 240.240.7.7}, {host: other, value: 240.240.7.8}]}\n";
    let given = entry(
        "chosen",
        "resolution: STATIC, workloadSelector: {labels: {app: a}}",
    ) + status;
    let given = snapshot(&given);
    let given = given.services().get("chosen.example.com", "shop").unwrap();
    assert_eq!(
        given.auto_addresses,
        ["240.240.7.7".parse::<std::net::IpAddr>().unwrap()],
        "a controller has given it that one"
    );
    let again = snapshot(&text);
    let same = again.services().get("chosen.example.com", "shop").unwrap();
    assert_eq!(same.auto_addresses, chosen.auto_addresses);
}
