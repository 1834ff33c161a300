//! What stands on one address and port of a sidecar's outbound side, while services are put on it, and the listener that
//! comes of it. Services of several protocols share a port: HTTP is told from other bytes then (Istio, "conflicts").

use std::collections::BTreeSet;

use envoy_types::pb::envoy::config::core::v3::{CidrRange, TrafficDirection};
use envoy_types::pb::envoy::config::listener::v3::{Filter, FilterChain, FilterChainMatch, Listener};
use ipnet::IpNet;
use model::Protocol;

use super::{Bind, PLAIN_HTTP, listener};
use crate::l4::Weighted;
use crate::output::Origins;
use crate::wire::u32_value;

/// The chain for connections that no service claims, by Istio's name.
const PASSTHROUGH: &str = "PassthroughFilterChain";

/// What a chain does.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Content {
    /// Requests, by the route configuration of this name.
    Http(String),
    /// Bytes.
    Tcp(Weighted),
}

/// A filter chain to be.
#[derive(Debug, Clone)]
pub(crate) struct Chain {
    /// Names for SNI; none, or `*` among them, for any.
    pub(crate) names: BTreeSet<String>,
    /// Destinations; none for any.
    pub(crate) prefixes: BTreeSet<IpNet>,
    /// Whether it takes plaintext that is recognised as HTTP, and nothing else.
    pub(crate) sniffed: bool,
    pub(crate) content: Content,
}

impl Chain {
    pub(crate) fn http(routes: String, sniffed: bool) -> Chain {
        Chain {
            names: BTreeSet::new(),
            prefixes: BTreeSet::new(),
            sniffed,
            content: Content::Http(routes),
        }
    }

    pub(crate) fn tcp(names: BTreeSet<String>, prefixes: &BTreeSet<IpNet>, clusters: Weighted) -> Chain {
        Chain {
            // `*` alone matches no name in Envoy.
            names: if names.contains("*") {
                BTreeSet::new()
            } else {
                names
            },
            prefixes: prefixes.iter().map(IpNet::trunc).collect(),
            sniffed: false,
            content: Content::Tcp(clusters),
        }
    }

    fn takes_all(&self) -> bool {
        self.names.is_empty() && self.prefixes.is_empty() && !self.sniffed
    }

    fn same_match(&self, other: &Chain) -> bool {
        self.names == other.names && self.prefixes == other.prefixes && self.sniffed == other.sniffed
    }

    fn condition(&self) -> Option<FilterChainMatch> {
        if self.takes_all() {
            return None;
        }
        let (transport, application) = match self.sniffed {
            true => ("raw_buffer", PLAIN_HTTP.iter().map(|p| (*p).to_owned()).collect()),
            false => ("", Vec::new()),
        };
        let prefix = |net: &IpNet| CidrRange {
            address_prefix: net.addr().to_string(),
            prefix_len: u32_value(u32::from(net.prefix_len())),
        };
        Some(FilterChainMatch {
            server_names: self.names.iter().cloned().collect(),
            prefix_ranges: self.prefixes.iter().map(prefix).collect(),
            transport_protocol: transport.to_owned(),
            application_protocols: application,
            ..Default::default()
        })
    }
}

/// What stands on one address and port.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// What the first service speaks; [`Protocol::Auto`] once several share it.
    protocol: Protocol,
    chains: Vec<Chain>,
    /// Whether nothing may be added: a Sidecar says all that is there.
    pub(crate) closed: bool,
    pub(crate) origins: Origins,
}

impl Entry {
    pub(crate) fn new(protocol: Protocol, chains: Vec<Chain>) -> Entry {
        Entry {
            protocol,
            chains,
            closed: false,
            origins: Origins::default(),
        }
    }

    /// Adds a service's chains; says whether any of them is new. The first service keeps what two claim.
    pub(crate) fn add(&mut self, protocol: Protocol, chains: Vec<Chain>) -> bool {
        if self.closed || (speaks_first(self.protocol) || speaks_first(protocol)) && self.protocol != protocol
        {
            return false;
        }
        if self.protocol.is_http() && protocol.is_http() {
            return true;
        }
        let mut added = false;
        for chain in chains {
            if !self.chains.iter().any(|own| own.same_match(&chain)) {
                self.chains.push(chain);
                added = true;
            } else if self.tell_apart(&chain) {
                added = true;
            }
        }
        if self.protocol != protocol {
            self.protocol = Protocol::Auto;
        }
        added
    }

    /// Where HTTP and bytes both claim all connections, HTTP takes what is recognised as such.
    fn tell_apart(&mut self, chain: &Chain) -> bool {
        let is_http = |chain: &Chain| matches!(chain.content, Content::Http(_));
        let Some(own) = self
            .chains
            .iter_mut()
            .find(|own| own.same_match(chain) && own.takes_all())
        else {
            return false;
        };
        if is_http(own) == is_http(chain) {
            return false;
        }
        let mut chain = chain.clone();
        if is_http(own) {
            own.sniffed = true;
        } else {
            chain.sniffed = true;
        }
        self.chains.push(chain);
        true
    }

    /// Names of the route configurations that it needs.
    pub(crate) fn routes(&self) -> impl Iterator<Item = &String> {
        self.chains.iter().filter_map(|chain| match &chain.content {
            Content::Http(routes) => Some(routes),
            Content::Tcp(_) => None,
        })
    }

    /// The listener; `unclaimed` takes connections that no chain takes.
    pub(crate) fn listener(
        &self,
        bind: &Bind,
        filter: impl Fn(&Content) -> Filter,
        unclaimed: Option<Filter>,
    ) -> Option<Listener> {
        let build = |chain: &Chain| FilterChain {
            filter_chain_match: chain.condition(),
            filters: vec![filter(&chain.content)],
            ..Default::default()
        };
        let (all, some): (Vec<&Chain>, Vec<&Chain>) = self.chains.iter().partition(|chain| chain.takes_all());
        let mut chains: Vec<FilterChain> = some.into_iter().map(build).collect();
        // A chain for everything stands as the default, so that it also takes what others match in part.
        let mut default = all.first().map(|chain| build(chain));
        if chains.is_empty() {
            chains.extend(default.take());
        } else if default.is_none() {
            default = unclaimed.map(|filter| FilterChain {
                name: PASSTHROUGH.to_owned(),
                filters: vec![filter],
                ..Default::default()
            });
        }
        (!chains.is_empty()).then(|| listener(bind, TrafficDirection::Outbound, chains, default))
    }
}

/// Whether servers of a protocol speak first, so that nothing can be recognised before they do.
fn speaks_first(protocol: Protocol) -> bool {
    matches!(protocol, Protocol::Mongo | Protocol::MySql)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn http() -> Vec<Chain> {
        vec![Chain::http("80".into(), false)]
    }

    fn tcp(cluster: &str) -> Vec<Chain> {
        vec![Chain::tcp(
            BTreeSet::new(),
            &BTreeSet::new(),
            vec![(cluster.into(), 1)],
        )]
    }

    fn shown(entry: &Entry) -> Vec<String> {
        let show = |chain: &Chain| match &chain.content {
            Content::Http(routes) => format!("http {routes}{}", if chain.sniffed { " sniffed" } else { "" }),
            Content::Tcp(clusters) => format!("tcp {}", clusters[0].0),
        };
        entry.chains.iter().map(show).collect()
    }

    #[test]
    fn http_and_bytes_share_a_port_whichever_comes_first() {
        let mut entry = Entry::new(Protocol::Http, http());
        assert!(entry.add(Protocol::Tcp, tcp("a")));
        assert_eq!(shown(&entry), ["http 80 sniffed", "tcp a"]);
        let mut entry = Entry::new(Protocol::Tcp, tcp("a"));
        assert!(entry.add(Protocol::Http, http()));
        assert_eq!(shown(&entry), ["tcp a", "http 80 sniffed"]);
    }

    #[test]
    fn the_first_keeps_what_two_claim() {
        let mut entry = Entry::new(Protocol::Tcp, tcp("a"));
        assert!(!entry.add(Protocol::Tcp, tcp("b")));
        assert_eq!(shown(&entry), ["tcp a"]);
    }

    #[test]
    fn nothing_is_recognised_on_ports_whose_servers_speak_first() {
        let mut entry = Entry::new(Protocol::MySql, tcp("a"));
        assert!(!entry.add(Protocol::Http, http()));
        assert_eq!(shown(&entry), ["tcp a"]);
    }
}
