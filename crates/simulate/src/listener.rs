//! Which listener takes a connection, what its listener filters learn, and which of its filter chains takes it
//! (Envoy, "FilterChainMatch": each criterion in turn keeps the most specific chains).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use envoy_types::pb::envoy::config::core::v3::{CidrRange, address, socket_address};
use envoy_types::pb::envoy::config::listener::v3::filter_chain_match::ConnectionSourceType;
use envoy_types::pb::envoy::config::listener::v3::{
    FilterChain, FilterChainMatch, Listener, ListenerFilterChainMatchPredicate,
    listener_filter_chain_match_predicate::Rule,
};

use crate::call::{Call, Entry, Protocol, Tls};

/// The listener that incoming connections are redirected to.
const VIRTUAL_INBOUND: &str = "virtualInbound";
const TLS_INSPECTOR: &str = "envoy.filters.listener.tls_inspector";
const HTTP_INSPECTOR: &str = "envoy.filters.listener.http_inspector";

/// The listener for a connection: of its address and port, else of its port on all addresses, else the one that hands on
/// redirected connections.
pub(crate) fn choose<'a>(listeners: &'a [Listener], call: &Call) -> Option<&'a Listener> {
    if call.entry == Entry::Inbound {
        return listeners.iter().find(|listener| listener.name == VIRTUAL_INBOUND);
    }
    let any: IpAddr = match call.address {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let at = |wanted: IpAddr| {
        listeners
            .iter()
            .find(|listener| addresses(listener).any(|own| own == (wanted, call.port)))
    };
    let hands_on = || {
        listeners
            .iter()
            .find(|listener| listener.use_original_dst.as_ref().is_some_and(|on| on.value))
    };
    at(call.address).or_else(|| at(any)).or_else(hands_on)
}

/// The TCP sockets of a listener.
fn addresses(listener: &Listener) -> impl Iterator<Item = (IpAddr, u16)> {
    let more = listener
        .additional_addresses
        .iter()
        .filter_map(|more| more.address.as_ref());
    let all = listener.address.iter().chain(more);
    all.filter(|own| {
        !matches!(&own.address, Some(address::Address::SocketAddress(socket))
            if socket.protocol == socket_address::Protocol::Udp as i32)
    })
    .filter_map(|own| crate::address::socket(Some(own)))
}

/// What filter chains are chosen by.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) server_name: String,
    pub(crate) transport: &'static str,
    pub(crate) application: Option<String>,
}

/// What a listener's filters learn of a connection.
pub(crate) fn inspect(listener: &Listener, call: &Call) -> Seen {
    let has = |name| {
        let mut filters = listener
            .listener_filters
            .iter()
            .filter(|filter| filter.name == name);
        filters.any(|filter| {
            let off = filter.filter_disabled.as_ref();
            !off.is_some_and(|predicate| holds(predicate, call.port))
        })
    };
    let tls = has(TLS_INSPECTOR);
    let sniffed = match call.protocol {
        Protocol::Http => Some("http/1.1"),
        Protocol::Http2 => Some("h2c"),
        Protocol::Tcp => None,
    };
    Seen {
        server_name: if tls { call.server_name() } else { String::new() },
        transport: if tls && call.tls != Tls::Plaintext {
            "tls"
        } else {
            "raw_buffer"
        },
        application: match call.tls {
            Tls::Plaintext if has(HTTP_INSPECTOR) => sniffed.map(str::to_owned),
            Tls::Plaintext => None,
            _ => call.offered().filter(|_| tls),
        },
    }
}

/// Whether a predicate holds for a connection's port.
fn holds(predicate: &ListenerFilterChainMatchPredicate, port: u16) -> bool {
    match &predicate.rule {
        Some(Rule::AnyMatch(any)) => *any,
        Some(Rule::NotMatch(inner)) => !holds(inner, port),
        Some(Rule::OrMatch(set)) => set.rules.iter().any(|rule| holds(rule, port)),
        Some(Rule::AndMatch(set)) => set.rules.iter().all(|rule| holds(rule, port)),
        Some(Rule::DestinationPortRange(range)) => (range.start..range.end).contains(&i32::from(port)),
        None => false,
    }
}

/// The chains that take a connection: one, unless the configuration is wrong.
pub(crate) fn chains<'a>(
    all: impl Iterator<Item = &'a FilterChain>,
    call: &Call,
    seen: &Seen,
) -> Vec<&'a FilterChain> {
    let empty = FilterChainMatch::default();
    let mut left: Vec<(&FilterChain, FilterChainMatch)> = all
        .map(|chain| {
            (
                chain,
                chain.filter_chain_match.clone().unwrap_or_else(|| empty.clone()),
            )
        })
        .collect();
    let mut keep = |rank: &dyn Fn(&FilterChainMatch) -> Option<usize>| {
        let best = left.iter().filter_map(|(_, m)| rank(m)).max();
        left.retain(|(_, m)| rank(m).is_some() && rank(m) == best);
    };
    keep(&|m| match &m.destination_port {
        None => Some(0),
        Some(port) => (port.value == u32::from(call.port)).then_some(1),
    });
    keep(&|m| prefixes(&m.prefix_ranges, call.address));
    keep(&|m| names(&m.server_names, &seen.server_name));
    keep(&|m| match m.transport_protocol.as_str() {
        "" => Some(0),
        own => (own == seen.transport).then_some(1),
    });
    keep(&|m| match &m.application_protocols {
        none if none.is_empty() => Some(0),
        some => seen
            .application
            .as_ref()
            .filter(|own| some.contains(own))
            .map(|_| 1),
    });
    keep(&|m| prefixes(&m.direct_source_prefix_ranges, call.source));
    let local = call.source == call.address || call.source.is_loopback();
    keep(&|m| match ConnectionSourceType::try_from(m.source_type) {
        Ok(ConnectionSourceType::SameIpOrLoopback) => local.then_some(1),
        Ok(ConnectionSourceType::External) => (!local).then_some(1),
        _ => Some(0),
    });
    keep(&|m| prefixes(&m.source_prefix_ranges, call.source));
    left.into_iter().map(|(chain, _)| chain).collect()
}

/// How specific the best prefix around an address is; no prefixes are as specific as one of length 0.
fn prefixes(ranges: &[CidrRange], address: IpAddr) -> Option<usize> {
    if ranges.is_empty() {
        return Some(0);
    }
    let around = ranges
        .iter()
        .filter_map(crate::address::prefix)
        .filter(|prefix| prefix.contains(&address));
    around.map(|prefix| usize::from(prefix.prefix_len())).max()
}

/// How specific the best server name is: an exact one most of all, then the longest `*.SUFFIX`.
fn names(names: &[String], asked: &str) -> Option<usize> {
    if names.is_empty() {
        return Some(0);
    }
    let rank = |name: &String| {
        let name = name.to_ascii_lowercase();
        match name.strip_prefix('*') {
            Some(suffix) => (asked.len() > suffix.len() && asked.ends_with(suffix)).then_some(suffix.len()),
            None => (name == asked).then_some(usize::MAX),
        }
    };
    names.iter().filter_map(rank).max()
}

#[cfg(test)]
mod tests {
    use super::*;
    use envoy_types::pb::google::protobuf::UInt32Value;

    fn chain(name: &str, condition: FilterChainMatch) -> FilterChain {
        FilterChain {
            name: name.into(),
            filter_chain_match: Some(condition),
            ..Default::default()
        }
    }

    fn port(port: u32) -> FilterChainMatch {
        FilterChainMatch {
            destination_port: Some(UInt32Value { value: port }),
            ..Default::default()
        }
    }

    fn sni(names: &[&str]) -> FilterChainMatch {
        FilterChainMatch {
            server_names: names.iter().map(|name| (*name).to_owned()).collect(),
            ..Default::default()
        }
    }

    fn range(prefix: &str, length: u32) -> FilterChainMatch {
        FilterChainMatch {
            prefix_ranges: vec![CidrRange {
                address_prefix: prefix.into(),
                prefix_len: Some(UInt32Value { value: length }),
            }],
            ..Default::default()
        }
    }

    fn check(all: &[FilterChain], call: &Call, transport: &'static str, expected: &[&str]) {
        let seen = Seen {
            server_name: call.server_name(),
            transport,
            application: call.offered(),
        };
        let found: Vec<&str> = chains(all.iter(), call, &seen)
            .iter()
            .map(|chain| chain.name.as_str())
            .collect();
        assert_eq!(found, expected);
    }

    fn to(host: &str) -> Call {
        Call {
            port: 443,
            tls: Tls::Tls,
            host: host.to_owned(),
            ..Call::default()
        }
    }

    #[test]
    fn names_from_exact_to_none() {
        let all = [
            chain("exact", sni(&["a.example.com"])),
            chain("near", sni(&["*.example.com", "x.org"])),
            chain("far", sni(&["*.com"])),
            chain("rest", FilterChainMatch::default()),
        ];
        check(&all, &to("a.example.com"), "tls", &["exact"]);
        check(&all, &to("B.example.com"), "tls", &["near"]);
        check(&all, &to("example.com"), "tls", &["far"]);
        check(&all, &to("example.org"), "tls", &["rest"]);
        check(&all, &Call::default(), "raw_buffer", &["rest"]);
    }

    #[test]
    fn a_port_hides_chains_without_one() {
        let mut strict = port(443);
        strict.transport_protocol = "raw_buffer".into();
        let all = [chain("port", strict), chain("rest", FilterChainMatch::default())];
        check(&all, &to("a"), "tls", &[]);
        check(&all, &to("a"), "raw_buffer", &["port"]);
        check(&all, &Call::default(), "tls", &["rest"]);
    }

    #[test]
    fn the_longest_prefix_takes_it() {
        let all = [
            chain("wide", range("10.0.0.0", 8)),
            chain("narrow", range("10.1.0.0", 16)),
            chain("rest", FilterChainMatch::default()),
        ];
        let at = |address: &str| Call {
            address: address.parse().unwrap(),
            ..Call::default()
        };
        check(&all, &at("10.1.2.3"), "raw_buffer", &["narrow"]);
        check(&all, &at("10.2.2.3"), "raw_buffer", &["wide"]);
        check(&all, &at("11.2.2.3"), "raw_buffer", &["rest"]);
    }

    #[test]
    fn chains_with_one_match_are_all_found() {
        let all = [chain("a", sni(&["a"])), chain("b", sni(&["a"]))];
        check(&all, &to("a"), "tls", &["a", "b"]);
    }
}
