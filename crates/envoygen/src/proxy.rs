//! The proxy that asks: its node id and metadata, and its workload as the mesh knows it. Labels and service account come from
//! the snapshot alone, never from the client.

use std::collections::BTreeMap;
use std::net::IpAddr;

use config::mesh::InboundInterceptionMode;
use envoy_types::pb::google::protobuf::{Struct, value::Kind};
use model::{Snapshot, Workload};

use crate::topology::Topology;

/// Longest node id that is read; Kubernetes' names fit many times.
const MAX_NODE_ID: usize = 1024;
/// Most entries of metadata that are kept, and the longest value; others count as absent.
const MAX_METADATA: usize = 128;
const MAX_VALUE: usize = 1024;

/// What a proxy is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ProxyKind {
    /// Beside a workload.
    Sidecar,
    /// At the mesh's edge.
    Router,
}

/// How traffic reaches a sidecar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Interception {
    /// iptables REDIRECT.
    Redirect,
    /// iptables TPROXY.
    Tproxy,
    /// Applications connect to listeners.
    None,
}

/// Why a node is refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ProxyError {
    /// The node id has another form.
    #[error(
        "node id {0:?} is not TYPE~IP~NAME.NAMESPACE~NAMESPACE.svc.DOMAIN; start Envoy with --service-node in that form"
    )]
    NodeId(String),
    /// A type that is not served.
    #[error("node type {0:?} is not served; use sidecar or router")]
    Type(String),
    /// The address is no IP address.
    #[error("node address {0:?} is not an IP address")]
    Address(String),
}

/// A proxy that asks for configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxy {
    /// Sidecar or router.
    pub kind: ProxyKind,
    /// Address from the node id; unspecified (0.0.0.0) while the agent does not know it.
    pub ip: IpAddr,
    /// Name of the workload.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// DNS domain of its namespace, such as `shop.svc.cluster.local`.
    pub dns_domain: String,
    /// How traffic reaches it, if the node's metadata says so.
    pub interception: Option<Interception>,
    /// Whether its agent answers DNS, if the node's metadata says so.
    pub dns_capture: bool,
    /// Whether HTTP/1.0 is taken (`HTTP10`, Istio's).
    pub http10: bool,
    /// What lies between clients and a gateway, if the node's metadata says so.
    pub topology: Option<Topology>,
    /// The texts in its node's metadata, such as `ISTIO_VERSION`. The client states them, so nothing that protects others may
    /// depend on them.
    pub metadata: BTreeMap<String, String>,
}

impl Proxy {
    /// Reads a node's id (`sidecar~10.0.0.1~NAME.NS~NS.svc.cluster.local`) and metadata.
    pub fn parse(node_id: &str, metadata: Option<&Struct>) -> Result<Proxy, ProxyError> {
        let shown = || node_id.chars().take(128).collect::<String>();
        let bad = || ProxyError::NodeId(shown());
        let parts: Vec<&str> = node_id.split('~').collect();
        let [kind, ip, id, domain] = parts.as_slice() else {
            return Err(bad());
        };
        if node_id.len() > MAX_NODE_ID {
            return Err(bad());
        }
        let kind = match *kind {
            "sidecar" => ProxyKind::Sidecar,
            "router" => ProxyKind::Router,
            other => return Err(ProxyError::Type(other.chars().take(64).collect())),
        };
        let ip = ip
            .parse()
            .map_err(|_| ProxyError::Address(ip.chars().take(64).collect()))?;
        let (name, namespace) = id
            .rsplit_once('.')
            .filter(|(n, ns)| !n.is_empty() && !ns.is_empty())
            .ok_or_else(bad)?;
        Ok(Proxy {
            kind,
            ip,
            name: name.to_owned(),
            namespace: namespace.to_owned(),
            dns_domain: (*domain).to_owned(),
            interception: interception(metadata),
            dns_capture: text(metadata, "DNS_CAPTURE").is_some_and(|value| value == "true"),
            http10: text(metadata, "HTTP10").is_some_and(|value| matches!(value, "1" | "true")),
            topology: Topology::of_node(metadata),
            metadata: metadata.map(texts).unwrap_or_default(),
        })
    }

    /// The workload that it belongs to: by name, else by its address within its namespace.
    pub fn workload<'a>(&self, snapshot: &'a Snapshot) -> Option<&'a Workload> {
        let by_name = snapshot.workloads().get(&self.namespace, &self.name);
        by_name.or_else(|| {
            snapshot
                .workloads()
                .at(self.ip)
                .find(|w| w.key.namespace == self.namespace)
        })
    }

    /// How traffic reaches it: by its metadata, else by the mesh's default.
    pub(crate) fn interception(&self, snapshot: &Snapshot) -> Interception {
        let default = snapshot
            .mesh()
            .default_config
            .as_ref()
            .map(|config| config.interception_mode);
        self.interception.unwrap_or(match default.unwrap_or_default() {
            InboundInterceptionMode::Redirect => Interception::Redirect,
            InboundInterceptionMode::Tproxy => Interception::Tproxy,
            InboundInterceptionMode::None => Interception::None,
        })
    }
}

/// The entries that are texts, the first by name if there are too many.
fn texts(metadata: &Struct) -> BTreeMap<String, String> {
    let text = |(key, value): (&String, &envoy_types::pb::google::protobuf::Value)| match &value.kind {
        Some(Kind::StringValue(text)) if text.len().max(key.len()) <= MAX_VALUE => {
            Some((key.clone(), text.clone()))
        }
        _ => None,
    };
    let all: BTreeMap<String, String> = metadata.fields.iter().filter_map(text).collect();
    all.into_iter().take(MAX_METADATA).collect()
}

fn interception(metadata: Option<&Struct>) -> Option<Interception> {
    match text(metadata, "INTERCEPTION_MODE")? {
        "NONE" => Some(Interception::None),
        "REDIRECT" => Some(Interception::Redirect),
        "TPROXY" => Some(Interception::Tproxy),
        _ => None,
    }
}

fn text<'a>(metadata: Option<&'a Struct>, key: &str) -> Option<&'a str> {
    match metadata?.fields.get(key)?.kind.as_ref()? {
        Kind::StringValue(text) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_ids() {
        let proxy = Proxy::parse("sidecar~127.1.0.21~catalog-v1.shop~shop.svc.cluster.local", None).unwrap();
        assert_eq!(
            (proxy.name.as_str(), proxy.namespace.as_str()),
            ("catalog-v1", "shop")
        );
        assert_eq!(proxy.kind, ProxyKind::Sidecar);
        assert_eq!(proxy.dns_domain, "shop.svc.cluster.local");
        let dotted = Proxy::parse("router~::1~a.b.edge~edge.svc.cluster.local", None).unwrap();
        assert_eq!((dotted.name.as_str(), dotted.namespace.as_str()), ("a.b", "edge"));
    }

    #[test]
    fn hostile_node_ids_are_refused() {
        for id in [
            "",
            "~~~",
            "sidecar~x~a.b~c",
            "waypoint~1.1.1.1~a.b~c",
            "sidecar~1.1.1.1~ab~c",
            "sidecar~1.1.1.1~a.~c",
        ] {
            assert!(Proxy::parse(id, None).is_err(), "{id}");
        }
        assert!(Proxy::parse(&format!("sidecar~1.1.1.1~{}.b~c", "a".repeat(5000)), None).is_err());
    }
}
