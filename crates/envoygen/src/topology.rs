//! What lies between clients and a gateway, by which it knows who they are (Istio, "Configuring Gateway Network Topology"): the
//! gateway's own ProxyConfig, which its agent tells in the node's metadata, before the mesh's.

use config::mesh::{ForwardClientCertDetails as Asked, MeshConfig, Topology as Given};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::ForwardClientCertDetails as Forward;
use envoy_types::pb::google::protobuf::{Struct, Value, value::Kind};

/// Most proxies that are taken to stand before a gateway; what is more is a mistake.
const MAX_PROXIES: f64 = 1024.0;

/// What lies between clients and a gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Topology {
    /// How many proxies before it are trusted to say by `x-forwarded-for` who the client is.
    pub trusted_proxies: u32,
    /// Envoy's number of what becomes of `x-forwarded-client-cert`.
    forward: i32,
    /// Whether clients say by the PROXY protocol who they are.
    pub proxy_protocol: bool,
}

impl Default for Topology {
    fn default() -> Self {
        Topology {
            trusted_proxies: 0,
            forward: forward(Asked::Undefined) as i32,
            proxy_protocol: false,
        }
    }
}

impl Topology {
    /// The mesh's.
    pub(crate) fn of_mesh(mesh: &MeshConfig) -> Topology {
        let given = mesh.default_config.as_ref();
        let given = given.and_then(|config| config.gateway_topology.as_ref());
        given.map(Topology::of).unwrap_or_default()
    }

    fn of(given: &Given) -> Topology {
        Topology {
            trusted_proxies: given.num_trusted_proxies,
            forward: forward(given.forward_client_cert_details) as i32,
            proxy_protocol: given.proxy_protocol.is_some(),
        }
    }

    /// The proxy's own, from `PROXY_CONFIG` of its node's metadata (as Istio's agent sends it); none where it says nothing.
    pub(crate) fn of_node(metadata: Option<&Struct>) -> Option<Topology> {
        let config = object(metadata?.fields.get("PROXY_CONFIG"))?;
        let given = object(config.fields.get("gatewayTopology"))?;
        let proxies = match given.fields.get("numTrustedProxies").map(|value| &value.kind) {
            Some(Some(Kind::NumberValue(number))) => number.clamp(0.0, MAX_PROXIES),
            _ => 0.0,
        };
        let details = match given
            .fields
            .get("forwardClientCertDetails")
            .map(|value| &value.kind)
        {
            Some(Some(Kind::StringValue(text))) => named(text),
            _ => Asked::Undefined,
        };
        Some(Topology {
            trusted_proxies: proxies as u32,
            forward: forward(details) as i32,
            proxy_protocol: given.fields.contains_key("proxyProtocol"),
        })
    }

    /// What becomes of `x-forwarded-client-cert`.
    pub(crate) fn forward(&self) -> Forward {
        Forward::try_from(self.forward).unwrap_or(Forward::SanitizeSet)
    }
}

fn object(value: Option<&Value>) -> Option<&Struct> {
    match value?.kind.as_ref()? {
        Kind::StructValue(object) => Some(object),
        _ => None,
    }
}

fn named(text: &str) -> Asked {
    use Asked::{AlwaysForwardOnly, AppendForward, ForwardOnly, Sanitize, SanitizeSet, Undefined};
    let all = [
        AlwaysForwardOnly,
        AppendForward,
        ForwardOnly,
        Sanitize,
        SanitizeSet,
    ];
    let found = all.into_iter().find(|details| details.as_str() == text);
    found.unwrap_or(Undefined)
}

/// Without a setting gateways put the client's own certificate in place of what it sends (Istio).
fn forward(asked: Asked) -> Forward {
    match asked {
        Asked::Undefined | Asked::SanitizeSet => Forward::SanitizeSet,
        Asked::Sanitize => Forward::Sanitize,
        Asked::ForwardOnly => Forward::ForwardOnly,
        Asked::AppendForward => Forward::AppendForward,
        Asked::AlwaysForwardOnly => Forward::AlwaysForwardOnly,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(topology: Kind) -> Struct {
        let value = |kind| Value { kind: Some(kind) };
        let config = Struct {
            fields: [("gatewayTopology".to_owned(), value(topology))].into(),
        };
        Struct {
            fields: [("PROXY_CONFIG".to_owned(), value(Kind::StructValue(config)))].into(),
        }
    }

    #[test]
    fn a_proxy_tells_its_own() {
        let value = |kind| Value { kind: Some(kind) };
        let given = Struct {
            fields: [
                ("numTrustedProxies".to_owned(), value(Kind::NumberValue(2.0))),
                (
                    "forwardClientCertDetails".to_owned(),
                    value(Kind::StringValue("APPEND_FORWARD".into())),
                ),
            ]
            .into(),
        };
        let read = Topology::of_node(Some(&node(Kind::StructValue(given)))).unwrap();
        assert_eq!(
            (read.trusted_proxies, read.forward(), read.proxy_protocol),
            (2, Forward::AppendForward, false)
        );
        assert_eq!(Topology::of_node(None), None);
        assert_eq!(Topology::of_node(Some(&node(Kind::BoolValue(true)))), None);
        let strange = Struct {
            fields: [("numTrustedProxies".to_owned(), value(Kind::NumberValue(f64::NAN)))].into(),
        };
        let read = Topology::of_node(Some(&node(Kind::StructValue(strange)))).unwrap();
        assert_eq!(read, Topology::default());
    }
}
