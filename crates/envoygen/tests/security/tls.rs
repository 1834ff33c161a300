//! Mutual TLS between workloads.

use envoy_types::pb::envoy::config::core::v3::{TransportSocket, transport_socket::ConfigType};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, http_connection_manager::ForwardClientCertDetails,
};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
    CommonTlsContext, DownstreamTlsContext, UpstreamTlsContext, common_tls_context::ValidationContextType,
};
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoygen::Output;
use prost::Message;

use crate::support::{self, FEATURES, SHOP, cluster, generator, listener, tables};
use crate::{EDGE, FRONTEND, http, inbound};

fn decode<M: Message + Default>(socket: &TransportSocket) -> M {
    match &socket.config_type {
        Some(ConfigType::TypedConfig(any)) => M::decode(any.value.as_slice()).unwrap(),
        None => panic!("no config"),
    }
}

/// The names that a peer may have, as they are compared.
fn peers(context: &CommonTlsContext) -> Vec<String> {
    let Some(ValidationContextType::CombinedValidationContext(combined)) = &context.validation_context_type
    else {
        panic!("{:?}", context.validation_context_type)
    };
    let names = &combined
        .default_validation_context
        .as_ref()
        .unwrap()
        .match_typed_subject_alt_names;
    names
        .iter()
        .map(
            |name| match name.matcher.as_ref().unwrap().match_pattern.as_ref().unwrap() {
                MatchPattern::Exact(text) => text.clone(),
                MatchPattern::Prefix(text) => format!("{text}*"),
                other => format!("{other:?}"),
            },
        )
        .collect()
}

#[test]
fn a_client_expects_the_accounts_of_the_service() {
    let output = tables(&generator(&[SHOP]), FRONTEND);
    let catalog = cluster(&output, "outbound|7080|v1|catalog.shop.svc.cluster.local");
    assert_eq!(catalog.transport_socket, None, "each endpoint's metadata decides");
    let context: UpstreamTlsContext = decode(
        catalog.transport_socket_matches[0]
            .transport_socket
            .as_ref()
            .unwrap(),
    );
    assert_eq!(context.sni, "outbound_.7080_.v1_.catalog.shop.svc.cluster.local");
    let common = context.common_tls_context.unwrap();
    assert_eq!(peers(&common), ["spiffe://cluster.local/ns/shop/sa/catalog"]);
    assert_eq!(common.alpn_protocols, ["istio-http/1.1", "istio", "http/1.1"]);
    assert_eq!(common.tls_certificate_sds_secret_configs[0].name, "default");
    assert!(
        common.tls_certificate_sds_secret_configs[0]
            .sds_config
            .as_ref()
            .unwrap()
            .initial_fetch_timeout
            .is_some()
    );
    let grpc = cluster(&output, "outbound|7090||stock.shop.svc.cluster.local");
    let context: UpstreamTlsContext = decode(
        grpc.transport_socket_matches[0]
            .transport_socket
            .as_ref()
            .unwrap(),
    );
    assert_eq!(
        context.common_tls_context.unwrap().alpn_protocols,
        ["istio-h2", "istio", "h2"]
    );
}

#[test]
fn destination_rules_choose_tls() {
    let output = tables(&generator(&[SHOP, FEATURES]), FRONTEND);
    let stock = cluster(&output, "outbound|7080||stock.shop.svc.cluster.local");
    assert!(stock.transport_socket_matches.is_empty());
    let context: UpstreamTlsContext = decode(&stock.transport_socket.unwrap());
    assert_eq!(
        peers(&context.common_tls_context.unwrap()),
        ["spiffe://cluster.local/ns/shop/sa/stock"]
    );
    let outside = cluster(&output, "outbound|7080||api.outside.example");
    let context: UpstreamTlsContext = decode(&outside.transport_socket.unwrap());
    assert_eq!(context.sni, "api.outside.example");
    let common = context.common_tls_context.unwrap();
    let Some(ValidationContextType::ValidationContext(validation)) = common.validation_context_type else {
        panic!()
    };
    assert!(
        validation.trusted_ca.is_some(),
        "certificates outside are verified too"
    );
    assert_eq!(validation.match_typed_subject_alt_names.len(), 1);
    assert!(
        common.tls_certificate_sds_secret_configs.is_empty(),
        "the mesh's certificate stays in the mesh"
    );
}

#[test]
fn strict_ports_demand_a_certificate_of_the_trust_domain() {
    let (_, listener) = inbound(&[SHOP, FEATURES]);
    assert!(
        !listener.enable_reuse_port.unwrap().value,
        "nobody shares the port"
    );
    let [chain] = listener.filter_chains.as_slice() else {
        panic!("one chain: no plaintext")
    };
    assert_eq!(
        chain.filter_chain_match.as_ref().unwrap().transport_protocol,
        "tls"
    );
    let context: DownstreamTlsContext = decode(chain.transport_socket.as_ref().unwrap());
    assert!(context.require_client_certificate.unwrap().value);
    assert_eq!(
        peers(&context.common_tls_context.unwrap()),
        ["spiffe://cluster.local/*"]
    );
    assert_eq!(listener.listener_filters.len(), 1, "the TLS inspector");
}

#[test]
fn permissive_ports_take_plaintext_too() {
    let (_, listener) = inbound(&[SHOP]);
    let kinds: Vec<_> = listener
        .filter_chains
        .iter()
        .map(|c| {
            (
                c.filter_chain_match.as_ref().unwrap().transport_protocol.as_str(),
                c.transport_socket.is_some(),
            )
        })
        .collect();
    assert_eq!(kinds, [("tls", true), ("raw_buffer", false)]);
}

#[test]
fn the_peers_identity_is_passed_on() {
    let (_, listener) = inbound(&[SHOP]);
    let manager = http(&listener);
    assert_eq!(
        manager.forward_client_cert_details,
        ForwardClientCertDetails::AppendForward as i32
    );
    assert!(manager.set_current_client_cert_details.unwrap().uri);
    let edge = tables(&generator(&[SHOP]), EDGE);
    let manager = manager_of_edge(&edge);
    assert_eq!(
        manager.forward_client_cert_details,
        ForwardClientCertDetails::SanitizeSet as i32
    );
    assert!(manager.use_remote_address.unwrap().value);
}

fn manager_of_edge(output: &Output) -> HttpConnectionManager {
    http(&listener(output, "127.1.0.1_8080"))
}

#[test]
fn the_mesh_bounds_its_mutual_tls() {
    let mesh = "{apiVersion: mesh.istio.io/v1alpha1, kind: MeshConfig, metadata: {name: default, namespace: istio-system}, spec: {meshMTLS: {minProtocolVersion: TLSV1_3}}}";
    let lowest = |texts: &[&str]| {
        let node = "sidecar~127.1.0.21~catalog-v1.shop~shop.svc.cluster.local";
        let output = tables(&generator(texts), node);
        support::envoy::validate(&output);
        let found = output
            .get(envoygen::type_url::LISTENER, "127.1.0.21_8080")
            .unwrap();
        let json = envoygen::to_json(envoygen::type_url::LISTENER, &found.bytes).unwrap();
        let socket = &json["filter_chains"][0]["transport_socket"]["typed_config"];
        socket["common_tls_context"]["tls_params"]["tls_minimum_protocol_version"].clone()
    };
    assert_eq!(lowest(&[SHOP]), "TLSv1_2");
    assert_eq!(lowest(&[SHOP, mesh]), "TLSv1_3");
}
