//! Listeners: what they bind and which filter chains they have. HTTP connection managers and TLS are built in modules below.

pub(crate) mod gateway;
pub(crate) mod http;
pub(crate) mod inbound;
pub(crate) mod outbound;
pub(crate) mod redirected;
pub(crate) mod tcp;
pub(crate) mod tls;

use envoy_types::pb::envoy::config::core::v3::TrafficDirection;
use envoy_types::pb::envoy::config::listener::v3::{FilterChain, Listener};

use crate::filter;
use crate::names;
use crate::wire::{bool_value, pipe_address, tcp_address};

/// Protocols by which Istio's clients announce mutual TLS.
pub(crate) const MESH_ALPN: [&str; 5] = [
    "istio",
    "istio-peer-exchange",
    "istio-http/1.0",
    "istio-http/1.1",
    "istio-h2",
];
/// Those that announce HTTP inside.
pub(crate) const MESH_HTTP_ALPN: [&str; 3] = ["istio-http/1.0", "istio-http/1.1", "istio-h2"];
/// What the HTTP inspector calls HTTP in plaintext.
pub(crate) const PLAIN_HTTP: [&str; 2] = ["http/1.1", "h2c"];

/// What a listener binds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Bind {
    /// IP address, or `unix://PATH`.
    pub(crate) address: String,
    pub(crate) port: u16,
    /// Whether it is a socket of its own; else connections reach it by their original destination.
    pub(crate) to_port: bool,
    /// Whether nobody else may bind the same address, not even with SO_REUSEPORT: two proxies that shared a port would get
    /// each other's connections.
    pub(crate) exclusive: bool,
}

impl Bind {
    pub(crate) fn name(&self) -> String {
        names::listener(&self.address, self.port)
    }
}

/// A listener of filter chains; inspectors are added as its chains need them.
pub(crate) fn listener(
    bind: &Bind,
    direction: TrafficDirection,
    chains: Vec<FilterChain>,
    default_chain: Option<FilterChain>,
) -> Listener {
    let address = match bind.address.strip_prefix("unix://") {
        Some(path) => pipe_address(path),
        None => tcp_address(&bind.address, bind.port),
    };
    Listener {
        name: bind.name(),
        address: Some(address),
        listener_filters: inspectors(&chains),
        filter_chains: chains,
        default_filter_chain: default_chain,
        traffic_direction: direction as i32,
        enable_reuse_port: if bind.exclusive { bool_value(false) } else { None },
        bind_to_port: if bind.to_port { None } else { bool_value(false) },
        continue_on_listener_filters_timeout: true,
        ..Default::default()
    }
}

fn inspectors(chains: &[FilterChain]) -> Vec<envoy_types::pb::envoy::config::listener::v3::ListenerFilter> {
    let matches = || {
        chains
            .iter()
            .filter_map(|chain| chain.filter_chain_match.as_ref())
    };
    let tls = matches().any(|m| {
        !m.server_names.is_empty()
            || m.transport_protocol == "tls"
            || m.application_protocols.iter().any(|p| p.starts_with("istio"))
    });
    let http = matches().any(|m| {
        m.application_protocols
            .iter()
            .any(|p| PLAIN_HTTP.contains(&p.as_str()))
    });
    let mut out = Vec::new();
    if tls {
        out.push(filter::tls_inspector());
    }
    if http {
        out.push(filter::http_inspector());
    }
    out
}
