//! HTTP/3 beside a router's HTTPS: the same servers and routes on QUIC (Envoy, "HTTP/3 overview"). Clients hear of it by the
//! `alt-svc` header of answers over TCP.

use envoy_types::pb::envoy::config::core::v3::{
    TrafficDirection, UdpSocketConfig, address, socket_address::Protocol,
};
use envoy_types::pb::envoy::config::listener::v3::{
    FilterChain, FilterChainMatch, Listener, QuicProtocolOptions, UdpListenerConfig,
};

use super::gateway::{Gateways, sni};
use super::{Bind, listener as base, tls};
use crate::gateway::{Bound, GatewayServer};
use crate::wire::bool_value;

/// The listener over UDP for those servers of an address and port that serve HTTP/3; none where none does.
pub(super) fn listener(gateways: &Gateways<'_>, bind: &Bind, bound: &Bound) -> Option<Listener> {
    let servers = bound.servers.iter();
    let served = servers.filter(|server| server.http3 && !server.clashes);
    let chains: Vec<FilterChain> = served
        .filter_map(|server| chain(gateways, bind, server))
        .collect();
    if chains.is_empty() {
        return None;
    }
    let mut listener = base(bind, TrafficDirection::Outbound, chains, None);
    listener.name = format!("udp_{}", bind.name());
    // QUIC reads names and protocols itself, and needs a socket for each worker.
    listener.listener_filters.clear();
    listener.continue_on_listener_filters_timeout = false;
    listener.enable_reuse_port = None;
    let others = listener
        .additional_addresses
        .iter_mut()
        .map(|one| &mut one.address);
    for address in others.chain([&mut listener.address]).flatten() {
        if let Some(address::Address::SocketAddress(socket)) = &mut address.address {
            socket.protocol = Protocol::Udp as i32;
        }
    }
    listener.udp_listener_config = Some(UdpListenerConfig {
        quic_options: Some(QuicProtocolOptions::default()),
        downstream_socket_config: Some(UdpSocketConfig {
            prefer_gro: bool_value(true),
            ..Default::default()
        }),
        ..Default::default()
    });
    Some(listener)
}

/// What is wrong with a server's TLS is said of its chain over TCP.
fn chain(gateways: &Gateways<'_>, bind: &Bind, server: &GatewayServer) -> Option<FilterChain> {
    let (settings, routes) = (server.tls()?, server.route_name.clone()?);
    let generator = gateways.generator;
    let socket = tls::quic(&generator.snapshot, settings, generator.settings.secret_timeout).ok()?;
    Some(FilterChain {
        filter_chain_match: sni(server.sni_hosts()).map(|condition| FilterChainMatch {
            transport_protocol: "quic".to_owned(),
            ..condition
        }),
        filters: vec![gateways.http(bind, routes, true)],
        transport_socket: Some(socket),
        ..Default::default()
    })
}
