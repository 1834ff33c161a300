//! The two listeners that iptables redirects connections to.

use envoy_types::pb::envoy::config::accesslog::v3::AccessLog;
use envoy_types::pb::envoy::config::core::v3::TrafficDirection;
use envoy_types::pb::envoy::config::listener::v3::{FilterChain, FilterChainMatch, Listener};

use super::{Bind, listener, tcp};
use crate::family::Families;
use crate::filter;
use crate::names;
use crate::wire::{bool_value, u32_value};

/// Refuses connections to the listener's own port, which would come back to it for ever.
pub(crate) fn black_hole(name: &str, own_port: u16) -> FilterChain {
    FilterChain {
        name: name.to_owned(),
        filter_chain_match: Some(FilterChainMatch {
            destination_port: u32_value(u32::from(own_port)),
            ..Default::default()
        }),
        filters: vec![tcp::proxy(
            names::BLACK_HOLE_CLUSTER,
            vec![(names::BLACK_HOLE_CLUSTER.to_owned(), 1)],
            Vec::new(),
        )],
        ..Default::default()
    }
}

/// A port on all addresses.
fn everywhere(port: u16, families: Families) -> Bind {
    let address = families.any();
    Bind {
        address: address.to_owned(),
        port,
        beside: families.beside(address),
        to_port: true,
        exclusive: false,
    }
}

/// The listener for what reaches the application.
pub(crate) fn inbound(
    port: u16,
    families: Families,
    chains: Vec<FilterChain>,
    transparent: bool,
) -> Listener {
    let bind = everywhere(port, families);
    let mut listener = listener(&bind, TrafficDirection::Inbound, chains, None);
    listener.name = names::VIRTUAL_INBOUND.to_owned();
    listener.listener_filters.insert(0, filter::original_dst());
    if transparent {
        listener.listener_filters.insert(1, filter::original_src());
        listener.transparent = bool_value(true);
    }
    listener
}

/// The listener for what the application sends: hands connections to the listener of their destination, and forwards the rest
/// to `cluster`.
pub(crate) fn outbound(
    port: u16,
    families: Families,
    cluster: &str,
    log: Vec<AccessLog>,
    transparent: bool,
) -> Listener {
    let bind = everywhere(port, families);
    let rest = FilterChain {
        name: "virtualOutbound-catchall-tcp".to_owned(),
        filters: vec![tcp::proxy(cluster, vec![(cluster.to_owned(), 1)], log)],
        ..Default::default()
    };
    let chains = vec![black_hole("virtualOutbound-blackhole", port), rest];
    let mut listener = listener(&bind, TrafficDirection::Outbound, chains, None);
    listener.name = names::VIRTUAL_OUTBOUND.to_owned();
    listener.use_original_dst = bool_value(true);
    if transparent {
        listener.transparent = bool_value(true);
    }
    listener
}
