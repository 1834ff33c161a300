//! Listeners: what they bind and which filter chains they have. HTTP connection managers and TLS are built in modules below.

pub(crate) mod entry;
pub(crate) mod gateway;
pub(crate) mod http;
pub(crate) mod inbound;
pub(crate) mod outbound;
mod quic;
pub(crate) mod redirected;
pub(crate) mod tcp;
pub(crate) mod tls;

use std::collections::BTreeMap;

use config::mesh::MeshConfig;
use envoy_types::pb::envoy::config::core::v3::TrafficDirection;
use envoy_types::pb::envoy::config::listener::v3::listener_filter_chain_match_predicate::{MatchSet, Rule};
use envoy_types::pb::envoy::config::listener::v3::{
    AdditionalAddress, FilterChain, Listener, ListenerFilter, ListenerFilterChainMatchPredicate as Predicate,
};
use envoy_types::pb::envoy::r#type::v3::Int32Range;

use crate::filter;
use crate::names;
use crate::wire::{bool_value, duration, pipe_address, tcp_address};

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
    /// Address that it binds as well, with the same port: all of IPv6 beside all of IPv4.
    pub(crate) beside: Option<&'static str>,
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

/// Bounds how long a listener waits for the bytes by which it tells protocols apart (`protocolDetectionTimeout`); without a bound
/// of the mesh's it is Envoy's.
pub(crate) fn bounded(mut listener: Listener, mesh: &MeshConfig) -> Listener {
    let bound = mesh.protocol_detection_timeout.filter(|bound| !bound.is_zero());
    listener.listener_filters_timeout = bound.and_then(|bound| duration(bound.0));
    listener
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
    let beside = bind.beside.map(|beside| AdditionalAddress {
        address: Some(tcp_address(beside, bind.port)),
        ..Default::default()
    });
    Listener {
        name: bind.name(),
        additional_addresses: beside.into_iter().collect(),
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

/// What recognises TLS and HTTP, on the ports whose chains ask for it: servers that speak first on other ports must not wait
/// for a client that says nothing.
fn inspectors(chains: &[FilterChain]) -> Vec<ListenerFilter> {
    let mut ports: BTreeMap<u32, (bool, bool)> = BTreeMap::new();
    for chain in chains {
        let Some(m) = &chain.filter_chain_match else {
            ports.entry(0).or_default();
            continue;
        };
        let says = |names: &[&str]| {
            m.application_protocols
                .iter()
                .any(|p| names.contains(&p.as_str()))
        };
        let asks = ports
            .entry(m.destination_port.as_ref().map_or(0, |port| port.value))
            .or_default();
        asks.0 |= !m.server_names.is_empty() || m.transport_protocol == "tls" || says(&MESH_ALPN);
        asks.1 |= says(&PLAIN_HTTP);
    }
    let limited = |mut inspector: ListenerFilter, asks: &dyn Fn(&(bool, bool)) -> bool| {
        inspector.filter_disabled = disabled(&ports, asks)?;
        Some(inspector)
    };
    let tls = limited(filter::tls_inspector(), &|asks| asks.0);
    // After TLS's: bytes that are TLS are not read again.
    let http = limited(filter::http_inspector(), &|asks| asks.1);
    tls.into_iter().chain(http).collect()
}

/// The ports on which an inspector is off; none at all if no port asks for it. Port 0 stands for all others.
#[allow(
    clippy::option_option,
    reason = "no inspector, and one without limits, are different things"
)]
fn disabled(
    ports: &BTreeMap<u32, (bool, bool)>,
    asks: &dyn Fn(&(bool, bool)) -> bool,
) -> Option<Option<Predicate>> {
    if !ports.values().any(asks) {
        return None;
    }
    let others = ports.get(&0).is_some_and(asks);
    let different = ports
        .iter()
        .filter(|(port, own)| **port != 0 && asks(own) != others);
    let listed: Vec<Predicate> = different.filter_map(|(port, _)| is_port(*port)).collect();
    let any = match listed.len() {
        0 => return Some(None),
        1 => listed.into_iter().next(),
        _ => Some(Predicate {
            rule: Some(Rule::OrMatch(MatchSet { rules: listed })),
        }),
    };
    Some(match others {
        true => any,
        false => any.map(|any| Predicate {
            rule: Some(Rule::NotMatch(Box::new(any))),
        }),
    })
}

fn is_port(port: u32) -> Option<Predicate> {
    let start = i32::try_from(port).ok()?;
    let range = Int32Range {
        start,
        end: start + 1,
    };
    Some(Predicate {
        rule: Some(Rule::DestinationPortRange(range)),
    })
}
