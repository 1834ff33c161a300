//! A sidecar's listeners for what reaches its application: filter chains by port, protocol and mutual TLS mode.

use config::ObjectKey;
use config::security::MutualTlsMode;
use envoy_types::pb::envoy::config::core::v3::TransportSocket;
use envoy_types::pb::envoy::config::listener::v3::{FilterChain, FilterChainMatch};
use model::Protocol;

use super::{MESH_ALPN, MESH_HTTP_ALPN, PLAIN_HTTP};
use crate::cluster::Effective;
use crate::wire::u32_value;

/// One port of the application.
#[derive(Debug, Clone)]
pub(crate) struct Port {
    /// The workload's port; 0 for all that have none of their own.
    pub(crate) number: u16,
    /// The cluster that leads to the application.
    pub(crate) cluster: String,
    pub(crate) protocol: Protocol,
    /// Where the application listens; none where connections keep their destination.
    pub(crate) application: Option<Application>,
    /// Address to bind; none for connections that are redirected.
    pub(crate) bind: Option<String>,
    /// Address in the name of its chains.
    pub(crate) shown: String,
    /// Whether no service and no Sidecar has it, so that connections go on to where they wanted.
    pub(crate) passes: bool,
    /// Bounds of connections to the application.
    pub(crate) policy: Effective,
    /// The objects that they are from, beside the Sidecar.
    pub(crate) origins: Vec<ObjectKey>,
    /// TLS of the Sidecar's own, where mutual TLS is off.
    pub(crate) tls: Option<TransportSocket>,
}

/// Where an application listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Application {
    /// An address and port.
    Tcp(String, u16),
    /// A Unix socket.
    Unix(String),
}

/// How a chain's connections are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Variant {
    /// As HTTP, or as bytes.
    pub(crate) http: bool,
    /// Ends mutual TLS.
    pub(crate) mtls: bool,
    transport: &'static str,
    alpn: &'static [&'static str],
}

const fn variant(http: bool, mtls: bool, transport: &'static str, alpn: &'static [&'static str]) -> Variant {
    Variant {
        http,
        mtls,
        transport,
        alpn,
    }
}

/// The chains that a port needs (Istio's, for each mode and protocol). Connections that no chain takes are closed.
pub(crate) fn variants(protocol: Protocol, mode: MutualTlsMode) -> Vec<Variant> {
    use MutualTlsMode::{Disable, Permissive, Strict, Unset};
    let (tls, raw) = ("tls", "raw_buffer");
    if protocol.is_http() {
        return match mode {
            Strict => vec![variant(true, true, tls, &[])],
            Disable => vec![variant(true, false, raw, &[])],
            Permissive | Unset => vec![
                variant(true, true, tls, &MESH_ALPN),
                variant(true, false, raw, &[]),
            ],
        };
    }
    if protocol == Protocol::Auto {
        return match mode {
            Strict => vec![
                variant(true, true, tls, &MESH_HTTP_ALPN),
                variant(false, true, tls, &[]),
            ],
            Disable => vec![
                variant(true, false, raw, &PLAIN_HTTP),
                variant(false, false, raw, &[]),
            ],
            Permissive | Unset => vec![
                variant(true, true, tls, &MESH_HTTP_ALPN),
                variant(true, false, raw, &PLAIN_HTTP),
                variant(false, true, tls, &["istio", "istio-peer-exchange"]),
                variant(false, false, raw, &[]),
                variant(false, false, tls, &[]),
            ],
        };
    }
    match mode {
        Strict => vec![variant(false, true, tls, &[])],
        Disable => vec![variant(false, false, raw, &[])],
        Permissive | Unset => vec![
            variant(false, true, tls, &MESH_ALPN),
            variant(false, false, tls, &[]),
            variant(false, false, raw, &[]),
        ],
    }
}

/// Connections over TLS that is not the mesh's.
pub(crate) fn own_tls(http: bool) -> Variant {
    variant(http, false, "tls", &[])
}

impl Variant {
    /// What connections it takes; `port` where several ports share a listener.
    pub(crate) fn condition(&self, port: Option<u16>) -> Option<FilterChainMatch> {
        Some(FilterChainMatch {
            destination_port: port.and_then(|port| u32_value(u32::from(port))),
            transport_protocol: self.transport.to_owned(),
            application_protocols: self.alpn.iter().map(|protocol| (*protocol).to_owned()).collect(),
            ..Default::default()
        })
    }
}

/// A filter chain's name and content.
pub(crate) fn chain(
    name: String,
    condition: Option<FilterChainMatch>,
    filters: Vec<envoy_types::pb::envoy::config::listener::v3::Filter>,
    socket: Option<envoy_types::pb::envoy::config::core::v3::TransportSocket>,
) -> FilterChain {
    FilterChain {
        name,
        filter_chain_match: condition,
        filters,
        transport_socket: socket,
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strict_ports_take_no_plaintext() {
        for protocol in [Protocol::Http, Protocol::Tcp, Protocol::Auto, Protocol::Grpc] {
            let chains = variants(protocol, MutualTlsMode::Strict);
            assert!(
                !chains.is_empty() && chains.iter().all(|v| v.mtls && v.transport == "tls"),
                "{protocol:?}"
            );
        }
    }

    #[test]
    fn permissive_ports_take_both() {
        for protocol in [Protocol::Http, Protocol::Tcp, Protocol::Auto] {
            let chains = variants(protocol, MutualTlsMode::Permissive);
            assert!(
                chains.iter().any(|v| v.mtls) && chains.iter().any(|v| !v.mtls),
                "{protocol:?}"
            );
        }
    }
}
