//! Where Mixer is, and the cluster that leads there: mutual TLS with Mixer's own identity, HTTP/2.

use std::net::IpAddr;

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use model::Identity;

use crate::cluster::{self, tls};
use crate::generator::Generator;
use crate::names;
use crate::wire::{exact, tcp_address};

/// `host:port` of a Mixer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MixerAddress {
    host: String,
    port: u16,
}

impl MixerAddress {
    pub(super) fn parse(text: &str) -> Result<MixerAddress, String> {
        let bad = || format!("{text:?} is not HOST:PORT");
        let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() || host.contains('/') {
            return Err(bad());
        }
        Ok(MixerAddress {
            host: host.to_owned(),
            port: port.parse().map_err(|_| bad())?,
        })
    }
}

/// The cluster of a Mixer: `outbound|PORT|ROLE|HOST`, which no Service has, an IP address standing for Mixer's usual name.
pub(super) fn cluster(
    generator: &Generator,
    address: &MixerAddress,
    mixer: &Identity,
    role: &str,
    own: Option<IpAddr>,
) -> Cluster {
    let ip = address.host.parse::<IpAddr>().ok();
    let usual = format!("mixer.{}.svc.{}", mixer.namespace, model::DNS_DOMAIN);
    let host = if ip.is_some() {
        usual.as_str()
    } else {
        address.host.as_str()
    };
    let name = names::outbound_cluster(address.port, role, host);
    let mesh = generator.snapshot.mesh();
    let target = tcp_address(&address.host, address.port);
    let mut cluster = cluster::own_service(&name, target, ip.is_none(), mesh);
    let expected = vec![tls::uri(exact(&mixer.to_string()))];
    let context = tls::mesh_tls(host, expected, &["h2"], generator.settings.secret_timeout);
    cluster.transport_socket = Some(tls::tls_socket(&context));
    let near = ip.is_some_and(|ip| ip.is_loopback());
    cluster.upstream_bind_config = own.filter(|_| near).and_then(cluster::own_address);
    cluster
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let parsed = |text: &str| MixerAddress::parse(text).map(|a| (a.host, a.port)).ok();
        assert_eq!(parsed("127.0.0.1:15004"), Some(("127.0.0.1".into(), 15004)));
        assert_eq!(parsed("[::1]:15004"), Some(("::1".into(), 15004)));
        assert_eq!(
            parsed("istio-policy.istio-system:9091"),
            Some(("istio-policy.istio-system".into(), 9091))
        );
        for bad in ["", "host", ":80", "host:x", "http://host:80", "host:99999"] {
            assert_eq!(parsed(bad), None, "{bad}");
        }
    }
}
