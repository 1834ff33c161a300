//! Networks: which addresses are in which, and the gateways by which one is reached from another (Istio, MeshNetworks and the
//! label `topology.istio.io/network`).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use config::mesh::MeshNetworks;
use ipnet::IpNet;

use crate::service::Service;

/// Label that names the network of a Pod, of a network's gateway Service, or, on the root namespace, of the whole cluster.
pub const NETWORK_LABEL: &str = "topology.istio.io/network";
/// Label of a gateway Service that says which port takes other networks' traffic.
const GATEWAY_PORT_LABEL: &str = "networking.istio.io/gatewayPort";
/// The port that takes other networks' traffic where no label says otherwise.
const GATEWAY_PORT: u16 = 15443;
/// Name of Kubernetes' registry, Istio's default cluster.
const REGISTRY: &str = "Kubernetes";

/// Which network an address is in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct NetworkRules {
    /// The whole cluster's network: the root namespace's label, else the network of the registry.
    cluster: Option<String>,
    ranges: Vec<(IpNet, String)>,
    /// Gateways that MeshNetworks names by address.
    fixed: BTreeMap<String, BTreeSet<NetworkGateway>>,
    /// Gateways that MeshNetworks names by their Service's host.
    by_service: BTreeMap<String, Vec<(String, u16)>>,
}

/// A gateway into a network.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NetworkGateway {
    /// Its address.
    pub address: IpAddr,
    /// Its port for other networks' mutual TLS.
    pub port: u16,
}

/// The gateways of the mesh's networks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Networks {
    gateways: BTreeMap<String, Vec<NetworkGateway>>,
}

impl NetworkRules {
    /// Rules of MeshNetworks, and the root namespace's label.
    pub(crate) fn new(networks: Option<&MeshNetworks>, label: Option<&String>) -> NetworkRules {
        let mut rules = NetworkRules {
            cluster: label.cloned(),
            ..NetworkRules::default()
        };
        for (name, network) in networks.into_iter().flat_map(|networks| &networks.networks) {
            let mut of_registry = false;
            for endpoints in &network.endpoints {
                let range = endpoints.from_cidr.as_deref().and_then(|cidr| cidr.parse().ok());
                rules
                    .ranges
                    .extend(range.map(|range: IpNet| (range, name.clone())));
                of_registry |= endpoints.from_registry.as_deref() == Some(REGISTRY);
            }
            if of_registry && rules.cluster.is_none() {
                rules.cluster = Some(name.clone());
            }
            for gateway in &network.gateways {
                let Ok(port) = u16::try_from(gateway.port) else {
                    continue;
                };
                let address = gateway.address.as_deref().and_then(|a| a.parse().ok());
                if let Some(address) = address {
                    let known = rules.fixed.entry(name.clone()).or_default();
                    known.insert(NetworkGateway { address, port });
                } else if let (Some(host), true) = (&gateway.registry_service_name, of_registry) {
                    let known = rules.by_service.entry(host.to_ascii_lowercase()).or_default();
                    known.push((name.clone(), port));
                }
            }
        }
        // The narrowest range counts.
        rules
            .ranges
            .sort_by(|a, b| b.0.prefix_len().cmp(&a.0.prefix_len()).then_with(|| a.cmp(b)));
        rules
    }

    /// The network of an address.
    pub(crate) fn of(&self, ip: Option<IpAddr>) -> Option<&str> {
        if let Some(cluster) = &self.cluster {
            return Some(cluster);
        }
        let ip = ip?;
        let found = self.ranges.iter().find(|(range, _)| range.contains(&ip));
        found.map(|(_, network)| network.as_str())
    }

    /// Whether a service may be a network's gateway, whatever the rules.
    pub(crate) fn may_be_gateway(service: &Service) -> bool {
        !service.external_addresses.is_empty()
    }

    /// The gateways, given all services that may be some.
    pub(crate) fn gateways<'a>(&self, services: impl Iterator<Item = &'a Arc<Service>>) -> Networks {
        let mut all = self.fixed.clone();
        for service in services {
            let own = service.labels.get(NETWORK_LABEL).map(|network| {
                let port = service.labels.get(GATEWAY_PORT_LABEL);
                (
                    network.clone(),
                    port.and_then(|p| p.parse().ok()).unwrap_or(GATEWAY_PORT),
                )
            });
            let named = self.by_service.get(&service.host).into_iter().flatten();
            for (network, port) in own.iter().chain(named) {
                let ips = service
                    .external_addresses
                    .iter()
                    .filter_map(|address| address.parse().ok());
                let known = all.entry(network.clone()).or_default();
                known.extend(ips.map(|address| NetworkGateway { address, port: *port }));
            }
        }
        all.retain(|_, gateways| !gateways.is_empty());
        Networks {
            gateways: all
                .into_iter()
                .map(|(name, set)| (name, set.into_iter().collect()))
                .collect(),
        }
    }
}

impl Networks {
    /// Whether any network has a gateway; without one all endpoints are reached directly.
    pub fn is_multi(&self) -> bool {
        !self.gateways.is_empty()
    }

    /// The gateways of a network, sorted; none if it is reached directly.
    pub fn gateways(&self, network: &str) -> &[NetworkGateway] {
        self.gateways.get(network).map_or(&[], Vec::as_slice)
    }

    /// The least common multiple of the networks' numbers of gateways, by which weights are scaled so that they can be split
    /// evenly; at least 1.
    pub fn scale(&self) -> u32 {
        let counts = self.gateways.values().map(|all| all.len() as u64);
        let all = counts.fold(1, |acc, count| acc / gcd(acc, count) * count);
        u32::try_from(all).unwrap_or(1)
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}
