//! TLS that ends at gateways and at sidecars, or passes through.

use crate::support::{self, SHOP, generator, tables};

/// The chains of a sidecar's port that ends TLS of its own, under a mode of mutual TLS: those that end TLS, and what is said.
fn ingress_tls(mode: &str) -> (Vec<(bool, String)>, Vec<String>) {
    let text = format!(
        r#"
{{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {{name: m, namespace: istio-system}}, spec: {{mtls: {{mode: {mode}}}}}}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {{name: own, namespace: own}}
spec: {{address: 127.1.9.1, labels: {{app: own}}}}
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{name: own, namespace: own}}
spec:
  workloadSelector: {{labels: {{app: own}}}}
  ingress:
  - port: {{number: 8443, protocol: HTTPS, name: https}}
    bind: 127.1.9.1
    captureMode: NONE
    defaultEndpoint: 127.1.9.1:8080
    tls: {{mode: SIMPLE, serverCertificate: /c.pem, privateKey: /k.pem}}
"#
    );
    let output = tables(
        &generator(&[&text]),
        "sidecar~127.1.9.1~own.own~own.svc.cluster.local",
    );
    let found = output.get(envoygen::type_url::LISTENER, "127.1.9.1_8443");
    let chains = found.map(|_| support::listener(&output, "127.1.9.1_8443").filter_chains);
    let shown = |chain: envoy_types::pb::envoy::config::listener::v3::FilterChain| {
        let protocol = chain.filter_chain_match.unwrap_or_default().transport_protocol;
        (chain.transport_socket.is_some(), protocol)
    };
    let said = output.findings.iter().map(ToString::to_string).collect();
    (chains.unwrap_or_default().into_iter().map(shown).collect(), said)
}

#[test]
fn sidecars_end_tls_of_their_own_where_mutual_tls_is_off() {
    let (chains, said) = ingress_tls("DISABLE");
    assert_eq!(
        (chains, said.len()),
        (vec![(true, "tls".to_owned())], 0),
        "{said:?}"
    );
    let (chains, said) = ingress_tls("STRICT");
    assert!(
        chains.is_empty() && said.iter().any(|said| said.contains("PeerAuthentication")),
        "{said:?}"
    );
}

#[test]
fn istio_security_2021_006_auto_passthrough_forwards_what_the_mesh_encrypts() {
    let gateway = r#"
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: east-west, namespace: istio-system}
spec:
  selector: {istio: ingressgateway}
  servers:
  - {port: {number: 15443, protocol: TLS, name: tls}, tls: {mode: AUTO_PASSTHROUGH}, hosts: ["catalog.shop.svc.cluster.local"]}
---
{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: out, namespace: shop}, spec: {hosts: [out.example], ports: [{number: 443, name: tls, protocol: TLS}], resolution: STATIC, endpoints: [{address: 127.9.9.9}]}}
"#;
    let edge = "router~127.1.0.1~ingressgateway.istio-system~istio-system.svc.cluster.local";
    let output = tables(&generator(&[SHOP, gateway]), edge);
    support::envoy::validate(&output);
    let chains = support::listener(&output, "0.0.0.0_15443").filter_chains;
    let names: Vec<_> = chains
        .iter()
        .map(|chain| {
            let condition = chain.filter_chain_match.clone().unwrap();
            assert!(
                chain.transport_socket.is_none()
                    && condition.application_protocols.contains(&"istio".to_owned())
            );
            condition.server_names.concat()
        })
        .collect();
    let expected =
        ["", "v1", "v2"].map(|subset| format!("outbound_.7080_.{subset}_.catalog.shop.svc.cluster.local"));
    assert_eq!(names, expected, "no other host, and nothing outside the mesh");
    let cluster = support::cluster(&output, &expected[1]);
    assert!(cluster.transport_socket.is_none() && cluster.transport_socket_matches.is_empty());
    assert!(output.get(envoygen::type_url::ENDPOINTS, &expected[1]).is_some());
}

#[test]
fn gateways_check_clients_as_they_are_told() {
    let server = |tls: &str| {
        let gateway = format!(
            "{{apiVersion: networking.istio.io/v1, kind: Gateway, metadata: {{name: g, namespace: istio-system}}, spec: {{selector: {{istio: ingressgateway}}, servers: [{{port: {{number: 8443, protocol: HTTPS, name: https}}, bind: 127.1.0.1, hosts: [a.example], tls: {tls}}}]}}}}"
        );
        let edge = "router~127.1.0.1~ingressgateway.istio-system~istio-system.svc.cluster.local";
        let output = tables(&generator(&[SHOP, &gateway]), edge);
        let found = output
            .get(envoygen::type_url::LISTENER, "127.1.0.1_8443")
            .unwrap();
        let json = envoygen::to_json(envoygen::type_url::LISTENER, &found.bytes).unwrap();
        json["filter_chains"][0]["transport_socket"]["typed_config"].clone()
    };
    let files = "serverCertificate: /c, privateKey: /k, caCertificates: /ca";
    let mutual = server(&format!(
        "{{mode: MUTUAL, {files}, caCrl: /crl, subjectAltNames: [client.example, 'spiffe://a/b'], minProtocolVersion: TLSV1_3, ecdhCurves: [P-256]}}"
    ));
    assert_eq!(mutual["require_client_certificate"], true);
    let common = &mutual["common_tls_context"];
    assert_eq!(common["tls_params"]["tls_minimum_protocol_version"], "TLSv1_3");
    assert_eq!(common["tls_params"]["ecdh_curves"][0], "P-256");
    let validation = &common["validation_context"];
    let names = validation["match_typed_subject_alt_names"].as_array().unwrap();
    assert_eq!(
        (&names[0]["san_type"], &names[1]["san_type"]),
        (&"DNS".into(), &"URI".into())
    );
    assert_eq!(validation["crl"]["filename"], "/crl");
    let optional = server(&format!(
        "{{mode: OPTIONAL_MUTUAL, {files}, insecureSkipVerify: true}}"
    ));
    assert_eq!(optional["require_client_certificate"], false);
    assert_eq!(
        optional["common_tls_context"]["validation_context"]["trust_chain_verification"],
        "ACCEPT_UNTRUSTED"
    );
}
