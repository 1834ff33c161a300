//! MeshConfig's `tlsDefaults`: TLS that is not the mesh's own, towards clients and towards servers; and connections that
//! gateways tell apart by the networks that they want to reach.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests may fail loudly, and this one starts Envoys"
)]

mod support;

use envoygen::{Output, type_url};
use serde_json::Value;
use support::{envoy, generator, listener, tables};

const EDGE: &str = "router~127.1.0.1~edge.istio-system~istio-system.svc.cluster.local";

/// A gateway of one server that gets by its own settings what is asked for, and a server outside.
fn output(server: &str, defaults: &str) -> Output {
    let text = format!(
        r#"
{{apiVersion: mesh.istio.io/v1alpha1, kind: MeshConfig, metadata: {{name: istio, namespace: istio-system}}, spec: {{{defaults}}}}}
---
{{apiVersion: networking.istio.io/v1, kind: WorkloadEntry, metadata: {{name: edge, namespace: istio-system}}, spec: {{address: 127.1.0.1, serviceAccount: edge, labels: {{istio: edge}}}}}}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: edge, namespace: istio-system}}
spec:
  selector: {{istio: edge}}
  servers:
  - {{port: {{number: 8443, protocol: HTTPS, name: https}}, bind: 127.1.0.1, hosts: [a.example], tls: {{mode: SIMPLE, credentialName: c{server}}}}}
---
{{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {{name: out, namespace: w}}, spec: {{hosts: [out.example], location: MESH_EXTERNAL, resolution: STATIC, ports: [{{number: 443, name: http, protocol: HTTP}}], endpoints: [{{address: 127.1.0.9}}]}}}}
---
{{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {{name: out, namespace: w}}, spec: {{host: out.example, trafficPolicy: {{tls: {{mode: SIMPLE}}}}}}}}
"#
    );
    tables(&generator(&[&text]), EDGE)
}

fn json(output: &Output, url: &str, name: &str) -> Value {
    let found = output.get(url, name).unwrap();
    envoygen::to_json(url, &found.bytes).unwrap()
}

/// The parameters of the gateway's TLS, and of TLS to the server outside.
fn params(output: &Output) -> [Value; 2] {
    let gateway = json(output, type_url::LISTENER, "127.1.0.1_8443");
    let outside = json(output, type_url::CLUSTER, "outbound|443||out.example");
    let of = |socket: &Value| socket["typed_config"]["common_tls_context"]["tls_params"].clone();
    [
        of(&gateway["filter_chains"][0]["transport_socket"]),
        of(&outside["transport_socket"]),
    ]
}

#[test]
fn what_servers_and_clients_leave_open_the_mesh_says() {
    let defaults = "tlsDefaults: {minProtocolVersion: TLSV1_3, cipherSuites: [ECDHE-RSA-AES256-GCM-SHA384], ecdhCurves: [P-256]}";
    let with = output("", defaults);
    for params in params(&with) {
        assert_eq!(params["tls_minimum_protocol_version"], "TLSv1_3");
        assert_eq!(params["cipher_suites"][0], "ECDHE-RSA-AES256-GCM-SHA384");
        assert_eq!(params["ecdh_curves"][0], "P-256");
    }
    envoy::validate(&with);
    let own =
        ", minProtocolVersion: TLSV1_2, cipherSuites: [ECDHE-RSA-AES128-GCM-SHA256], ecdhCurves: [X25519]";
    let [gateway, _] = params(&output(own, defaults));
    assert_eq!(gateway["tls_minimum_protocol_version"], "TLSv1_2");
    assert_eq!(gateway["cipher_suites"][0], "ECDHE-RSA-AES128-GCM-SHA256");
    assert_eq!(gateway["ecdh_curves"][0], "X25519");
    let [gateway, _] = params(&output("", ""));
    assert_eq!(gateway["tls_minimum_protocol_version"], "TLSv1_2");
    assert_eq!(gateway["cipher_suites"], Value::Null);
}

#[test]
fn gateways_tell_connections_apart_by_where_they_go() {
    let text = r#"
{apiVersion: networking.istio.io/v1, kind: WorkloadEntry, metadata: {name: edge, namespace: istio-system}, spec: {address: 127.1.0.1, serviceAccount: edge, labels: {istio: edge}}}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: istio-system}
spec:
  selector: {istio: edge}
  servers:
  - {port: {number: 9000, protocol: TCP, name: tcp}, bind: 127.1.0.1, hosts: ["*"]}
  - {port: {number: 9443, protocol: TLS, name: tls}, bind: 127.1.0.1, hosts: [a.example], tls: {mode: PASSTHROUGH}}
---
{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: one, namespace: w}, spec: {hosts: [one.example], resolution: STATIC, ports: [{number: 9000, name: tcp, protocol: TCP}], endpoints: [{address: 127.1.0.8}]}}
---
{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: two, namespace: w}, spec: {hosts: [two.example], resolution: STATIC, ports: [{number: 9000, name: tcp, protocol: TCP}], endpoints: [{address: 127.1.0.9}]}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: v, namespace: w}
spec:
  hosts: [a.example]
  gateways: [istio-system/edge]
  tcp:
  - {match: [{port: 9000, destinationSubnets: [127.1.0.0/24]}], route: [{destination: {host: one.example}}]}
  - {match: [{port: 9000}], route: [{destination: {host: two.example}}]}
  tls:
  - {match: [{port: 9443, sniHosts: [a.example], destinationSubnets: [127.1.0.1/32]}], route: [{destination: {host: one.example}}]}
  - {match: [{port: 9443, sniHosts: [a.example]}], route: [{destination: {host: two.example}}]}
"#;
    let output = tables(&generator(&[text]), EDGE);
    for (name, expected) in [
        ("127.1.0.1_9000", [("127.1.0.0", "one"), ("", "two")]),
        ("127.1.0.1_9443", [("127.1.0.1", "one"), ("", "two")]),
    ] {
        let chains = listener(&output, name).filter_chains;
        let shown: Vec<(String, String)> = chains
            .iter()
            .map(|chain| {
                let condition = chain.filter_chain_match.clone().unwrap_or_default();
                let range = condition.prefix_ranges.first();
                let filter = format!("{:?}", chain.filters.last());
                let to = if filter.contains(&bytes("one.example")) {
                    "one"
                } else {
                    "two"
                };
                (
                    range.map_or(String::new(), |range| range.address_prefix.clone()),
                    to.to_owned(),
                )
            })
            .collect();
        let expected = expected.map(|(range, to)| (range.to_owned(), to.to_owned()));
        assert_eq!(shown, expected, "{name}");
    }
    envoy::validate(&output);
}

/// A text as bytes are shown inside a message that is packed.
fn bytes(text: &str) -> String {
    let shown: Vec<String> = text.bytes().map(|byte| byte.to_string()).collect();
    shown.join(", ")
}
