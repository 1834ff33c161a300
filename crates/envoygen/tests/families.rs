//! IPv6 and both families: what listens where, and a real Envoy that serves at `::1`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests may fail loudly, and this one starts Envoys"
)]

mod support;

use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use envoy_types::pb::envoy::config::core::v3::{Address, address::Address as Kind};
use envoygen::{Interception, Output, Proxy, Scope, type_url};
use support::{cluster, envoy, generator, listener, tables};

/// A pod with these addresses, two services of both families, and one outside that DNS finds.
fn mesh(ips: &[&str]) -> String {
    let all: Vec<String> = ips.iter().map(|ip| format!("{{ip: '{ip}'}}")).collect();
    format!(
        r#"
{{apiVersion: mesh.istio.io/v1alpha1, kind: MeshConfig, metadata: {{name: istio, namespace: istio-system}}, spec: {{proxyListenPort: OUTBOUND, proxyInboundListenPort: INBOUND}}}}
---
apiVersion: v1
kind: Pod
metadata: {{name: web-1, namespace: w, labels: {{app: web, security.istio.io/tlsMode: istio}}}}
spec: {{serviceAccountName: web, containers: [{{name: web, image: web}}]}}
status: {{phase: Running, podIP: '{}', podIPs: [{}]}}
---
apiVersion: v1
kind: Service
metadata: {{name: web, namespace: w}}
spec: {{selector: {{app: web}}, clusterIP: 10.96.0.1, clusterIPs: [10.96.0.1, 'fd00:96::1'], ipFamilies: [IPv4, IPv6], ports: [{{name: http, port: 80, targetPort: 8080}}]}}
---
apiVersion: v1
kind: Service
metadata: {{name: db, namespace: w}}
spec: {{selector: {{app: db}}, clusterIP: 10.96.0.2, clusterIPs: [10.96.0.2, 'fd00:96::2'], ipFamilies: [IPv4, IPv6], ports: [{{name: tcp, port: 5000}}]}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: out, namespace: w}}
spec: {{hosts: [out.example], location: MESH_EXTERNAL, ports: [{{number: 80, name: http, protocol: HTTP}}], resolution: DNS}}
"#,
        ips[0],
        all.join(", ")
    )
}

/// The tables of the pod's sidecar, its connections redirected to these ports.
fn redirected(ips: &[&str], (outbound, inbound): (u16, u16)) -> Output {
    let text = mesh(ips)
        .replace("OUTBOUND", &outbound.to_string())
        .replace("INBOUND", &inbound.to_string());
    let generator = generator(&[&text]);
    let node = format!("sidecar~{}~web-1.w~w.svc.cluster.local", ips[0]);
    let mut proxy = Proxy::parse(&node, None).unwrap();
    proxy.interception = Some(Interception::Redirect);
    generator.generate(&Scope::of(&proxy, &generator))
}

fn shown(address: &Option<Address>) -> String {
    match address.as_ref().and_then(|address| address.address.as_ref()) {
        Some(Kind::SocketAddress(socket)) => socket.address.clone(),
        other => panic!("{other:?}"),
    }
}

/// What a listener binds.
fn bound(output: &Output, name: &str) -> Vec<String> {
    let listener = listener(output, name);
    let others = listener
        .additional_addresses
        .iter()
        .map(|one| shown(&one.address));
    std::iter::once(shown(&listener.address)).chain(others).collect()
}

/// Where connections to the application come from.
fn sources(output: &Output, name: &str) -> Vec<String> {
    let bind = cluster(output, name).upstream_bind_config.unwrap();
    let first = bind.source_address.unwrap().address;
    let others = bind.extra_source_addresses.into_iter();
    let others = others.map(|other| other.address.unwrap().address);
    std::iter::once(first).chain(others).collect()
}

fn listeners(output: &Output) -> Vec<String> {
    output
        .of_type(type_url::LISTENER)
        .map(|one| one.name.clone())
        .collect()
}

/// Addresses, what listens on all of them binds, where connections come from, and the outbound listeners.
type Case = (
    &'static [&'static str],
    &'static [&'static str],
    &'static [&'static str],
    &'static [&'static str],
);

#[test]
fn a_proxy_listens_in_its_own_families() {
    let cases: [Case; 3] = [
        (
            &["10.0.0.1"],
            &["0.0.0.0"],
            &["127.0.0.6"],
            &["10.96.0.2_5000", "0.0.0.0_80"],
        ),
        (&["fd00::1"], &["::"], &["::6"], &["fd00:96::2_5000", "::_80"]),
        (
            &["fd00::1", "10.0.0.1"],
            &["0.0.0.0", "::"],
            &["127.0.0.6", "::6"],
            &["10.96.0.2_5000", "fd00:96::2_5000", "0.0.0.0_80"],
        ),
    ];
    for (ips, everywhere, from, named) in cases {
        let output = redirected(ips, (15001, 15006));
        assert_eq!(bound(&output, "virtualInbound"), everywhere, "{ips:?}");
        assert_eq!(bound(&output, "virtualOutbound"), everywhere, "{ips:?}");
        assert_eq!(sources(&output, "inbound|8080||"), from, "{ips:?}");
        assert_eq!(sources(&output, "InboundPassthroughCluster"), from, "{ips:?}");
        let mut expected: Vec<&str> = named.to_vec();
        expected.extend(["virtualInbound", "virtualOutbound"]);
        expected.sort_unstable();
        assert_eq!(listeners(&output), expected, "{ips:?}");
        assert_eq!(
            bound(&output, named[named.len() - 1]),
            everywhere,
            "the port of all HTTP services"
        );
        envoy::validate(&output);
    }
}

#[test]
fn a_router_binds_both_families() {
    let text = r#"
apiVersion: v1
kind: Pod
metadata: {name: edge-1, namespace: istio-system, labels: {istio: ingressgateway}}
spec: {serviceAccountName: edge, containers: [{name: p, image: p}]}
status: {phase: Running, podIP: 10.0.0.9, podIPs: [{ip: 10.0.0.9}, {ip: 'fd00::9'}]}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: istio-system}
spec:
  selector: {istio: ingressgateway}
  servers:
  - {port: {number: 8080, protocol: HTTP, name: http}, hosts: ["*"]}
  - {port: {number: 8081, protocol: HTTP, name: own}, bind: 0.0.0.0, hosts: ["*"]}
"#;
    let output = tables(
        &generator(&[text]),
        "router~10.0.0.9~edge-1.istio-system~istio-system.svc.cluster.local",
    );
    assert_eq!(bound(&output, "0.0.0.0_8080"), ["0.0.0.0", "::"]);
    assert_eq!(
        bound(&output, "0.0.0.0_8081"),
        ["0.0.0.0"],
        "an address that is given counts"
    );
    envoy::validate(&output);
}

/// A port that is free now.
fn free(host: &str) -> u16 {
    TcpListener::bind((host, 0)).unwrap().local_addr().unwrap().port()
}

/// Waits until somebody listens.
fn connects(address: &str) {
    let until = Instant::now() + Duration::from_secs(30);
    while TcpStream::connect(address).is_err() {
        assert!(Instant::now() < until, "nobody listens at {address}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Whether this machine has IPv6 at all.
fn has_v6() -> bool {
    let has = TcpListener::bind("[::1]:0").is_ok();
    if !has {
        eprintln!("skipped: no IPv6 here");
    }
    has
}

#[test]
fn redirected_connections_arrive_in_both_families() {
    if !has_v6() {
        return;
    }
    let ports = (free("::"), free("::"));
    let output = redirected(&["10.0.0.1", "fd00::1"], ports);
    let admin = format!("127.0.0.1:{}", free("127.0.0.1"));
    let Some(_running) = envoy::run(&output, &admin, |_| ()) else {
        return;
    };
    for port in [ports.0, ports.1] {
        connects(&format!("127.0.0.1:{port}"));
        connects(&format!("[::1]:{port}"));
    }
}

#[test]
fn a_request_goes_its_way_over_ipv6() {
    if !has_v6() {
        return;
    }
    let (port, echo) = (free("::1"), free("::1"));
    envoy::echo(&format!("[::1]:{echo}"));
    let text = format!(
        r#"
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {{name: client, namespace: w}}
spec: {{address: '::1', serviceAccount: client, labels: {{app: client}}}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: out, namespace: w}}
spec: {{hosts: [out.example], location: MESH_EXTERNAL, resolution: STATIC, ports: [{{number: {port}, name: http, protocol: HTTP, targetPort: {echo}}}], endpoints: [{{address: '::1'}}]}}
"#
    );
    let output = tables(&generator(&[&text]), "sidecar~::1~client.w~w.svc.cluster.local");
    let admin = format!("127.0.0.1:{}", free("127.0.0.1"));
    let Some(_running) = envoy::run(&output, &admin, |_| ()) else {
        return;
    };
    let own = format!("[::1]:{port}");
    connects(&own);
    let answer = envoy::request(&own, "GET /six HTTP/1.1", &["host: out.example"]).unwrap();
    assert!(
        answer.contains("200 OK") && answer.contains("GET /six"),
        "{answer}"
    );
}
