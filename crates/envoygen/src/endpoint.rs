//! Endpoint sets: which of a service's endpoints a cluster has, grouped by locality, directly or through the gateways of other
//! networks.

use std::collections::BTreeMap;
use std::sync::Arc;

use config::security::MutualTlsMode;
use envoy_types::pb::envoy::config::core::v3::{self as core, HealthStatus, Metadata};
use envoy_types::pb::envoy::config::endpoint::v3::{
    self as pb, ClusterLoadAssignment, LbEndpoint, LocalityLbEndpoints, endpoint::AdditionalAddress,
    lb_endpoint::HostIdentifier,
};
use model::topology::Place;
use model::{Address, Endpoint, Health, Locality, NetworkGateway, Service, Snapshot, selects};

use crate::cluster::Preference;
use crate::output::Origins;
use crate::scope::Outbound;
use crate::telemetry::metrics::{PEER_METADATA, PEER_PARTS};
use crate::wire::{pipe_address, string_struct, tcp_address, u32_value};

/// Metadata by which a cluster's transport socket matches choose.
const SOCKET_MATCH: &str = "envoy.transport_socket_match";
/// Metadata key that says whether an endpoint's proxy accepts mutual TLS.
pub(crate) const TLS_MODE: &str = "tlsMode";
/// Its value for proxies that do.
pub(crate) const ISTIO_MUTUAL: &str = "istio";

/// Endpoints of one locality and priority.
#[derive(Debug, Clone, Default)]
pub(crate) struct Group {
    pub(crate) locality: Locality,
    pub(crate) priority: u32,
    /// The locality's weight where a rule sets it, else the sum of the endpoints' weights.
    pub(crate) share: Option<u32>,
    pub(crate) endpoints: Vec<One>,
}

impl Group {
    /// The sum of the endpoints' weights.
    pub(crate) fn weight(&self) -> u32 {
        self.endpoints
            .iter()
            .fold(0, |sum, one| sum.saturating_add(one.weight))
    }
}

/// One endpoint of a port, or a network's gateway in place of some.
#[derive(Debug, Clone)]
pub(crate) struct One {
    labels: Arc<BTreeMap<String, String>>,
    locality: Locality,
    network: String,
    node: String,
    weight: u32,
    health: Health,
    address: Address,
    additional: Vec<std::net::IpAddr>,
    port: u16,
    mtls: bool,
    /// What telemetry reads; empty if the workload is not known.
    workload: String,
}

impl One {
    /// Where it is.
    pub(crate) fn place(&self) -> Place<'_> {
        Place {
            labels: &self.labels,
            locality: &self.locality,
            network: &self.network,
            node: &self.node,
        }
    }
}

/// What an endpoint set is for.
pub(crate) struct Wanted<'a> {
    pub(crate) snapshot: &'a Snapshot,
    /// Who asks.
    pub(crate) client: &'a Outbound,
    pub(crate) service: &'a Service,
    pub(crate) port: u16,
    /// The subset's labels.
    pub(crate) labels: &'a BTreeMap<String, String>,
    pub(crate) preference: Option<&'a Preference>,
    /// Whether failing endpoints are taken out.
    pub(crate) outlier_detection: bool,
}

impl Wanted<'_> {
    /// The endpoints of the service's port, or of the subset.
    pub(crate) fn load_assignment(&self, name: &str, origins: &mut Origins) -> ClusterLoadAssignment {
        let mut groups: BTreeMap<&Locality, Group> = BTreeMap::new();
        for endpoint in self.service.endpoints.iter().filter(|e| self.takes(e)) {
            if let Some(target) = endpoint.port(self.port) {
                origins.add([&endpoint.origin]);
                let group = groups.entry(&endpoint.locality).or_insert_with(|| Group {
                    locality: endpoint.locality.clone(),
                    ..Group::default()
                });
                group.endpoints.push(self.one(endpoint, target));
            }
        }
        let mut groups: Vec<Group> = groups.into_values().collect();
        if self.snapshot.networks().is_multi() {
            groups = groups
                .into_iter()
                .map(|group| self.across_networks(group))
                .collect();
        }
        let unknown = |one: &One| one.address == Address::Host(String::new());
        for group in &mut groups {
            group.endpoints.retain(|one| !unknown(one));
        }
        groups.retain(|group| !group.endpoints.is_empty());
        if let Some(preference) = self.preference {
            groups = preference.apply(groups, &self.place(), self.outlier_detection);
            groups.retain(|group| !group.endpoints.is_empty());
        }
        ClusterLoadAssignment {
            cluster_name: name.to_owned(),
            endpoints: groups.into_iter().map(in_locality).collect(),
            ..Default::default()
        }
    }

    fn place(&self) -> Place<'_> {
        Place {
            labels: &self.client.labels,
            locality: &self.client.locality,
            network: &self.client.network,
            node: &self.client.node,
        }
    }

    /// Whether the client uses an endpoint at all.
    fn takes(&self, endpoint: &Endpoint) -> bool {
        let health = match endpoint.health {
            Health::Healthy => true,
            Health::Unhealthy => self.service.shows_unhealthy(),
            Health::Draining => self.service.keeps_sessions(),
            Health::Terminating => false,
        };
        let near = !self.service.node_local || endpoint.node == self.client.node;
        health && near && selects(self.labels, &endpoint.labels)
    }

    fn one(&self, endpoint: &Endpoint, port: u16) -> One {
        One {
            labels: Arc::clone(&endpoint.labels),
            locality: endpoint.locality.clone(),
            network: endpoint.network.clone(),
            node: endpoint.node.clone(),
            weight: endpoint.weight,
            health: endpoint.health,
            address: endpoint.address.clone(),
            additional: endpoint.additional.clone(),
            port,
            mtls: endpoint.mtls && !mtls_is_off(self.snapshot, endpoint, port),
            workload: match endpoint.workload.as_str() {
                "" => String::new(),
                _ => workload(endpoint),
            },
        }
    }

    /// Endpoints of other networks stand behind those networks' gateways, which take their weights; only such as accept mutual
    /// TLS can be told apart there. Endpoints of networks without a gateway are reached directly (Istio, split horizon).
    fn across_networks(&self, mut group: Group) -> Group {
        let networks = self.snapshot.networks();
        let scale = networks.scale();
        let mut gateways: BTreeMap<(String, NetworkGateway), u32> = BTreeMap::new();
        let mut direct = Vec::new();
        for mut one in std::mem::take(&mut group.endpoints) {
            one.weight = one.weight.saturating_mul(scale);
            let own = one.network.is_empty() || one.network == self.client.network;
            let there = networks.gateways(&one.network);
            if own || there.is_empty() {
                direct.push(one);
            } else if one.mtls {
                let share = one.weight / u32::try_from(there.len()).unwrap_or(1);
                for gateway in there {
                    let weight = gateways
                        .entry((one.network.clone(), gateway.clone()))
                        .or_default();
                    *weight = weight.saturating_add(share);
                }
            }
        }
        direct.extend(gateways.into_iter().map(|((network, gateway), weight)| One {
            labels: Arc::default(),
            locality: Locality::default(),
            network,
            node: String::new(),
            weight: weight.max(1),
            health: Health::Healthy,
            address: Address::Ip(gateway.address),
            additional: Vec::new(),
            port: gateway.port,
            mtls: true,
            workload: String::new(),
        }));
        Group {
            endpoints: direct,
            ..group
        }
    }
}

fn in_locality(group: Group) -> LocalityLbEndpoints {
    let weight = group.share.unwrap_or_else(|| group.weight());
    LocalityLbEndpoints {
        locality: Some(core::Locality {
            region: group.locality.region,
            zone: group.locality.zone,
            sub_zone: group.locality.sub_zone,
        }),
        load_balancing_weight: (weight > 0).then_some(weight).and_then(u32_value),
        lb_endpoints: group.endpoints.iter().map(lb_endpoint).collect(),
        priority: group.priority,
        ..Default::default()
    }
}

fn lb_endpoint(one: &One) -> LbEndpoint {
    let address = match &one.address {
        Address::Ip(ip) => tcp_address(&ip.to_string(), one.port),
        Address::Host(host) => tcp_address(host, one.port),
        Address::Unix(path) => pipe_address(path),
    };
    let additional = one.additional.iter().map(|ip| AdditionalAddress {
        address: Some(tcp_address(&ip.to_string(), one.port)),
    });
    let health = match one.health {
        Health::Healthy => HealthStatus::Healthy,
        Health::Unhealthy | Health::Terminating => HealthStatus::Unhealthy,
        Health::Draining => HealthStatus::Draining,
    };
    LbEndpoint {
        host_identifier: Some(HostIdentifier::Endpoint(pb::Endpoint {
            address: Some(address),
            additional_addresses: additional.collect(),
            ..Default::default()
        })),
        health_status: health as i32,
        // Unset is 1.
        load_balancing_weight: Some(one.weight).filter(|weight| *weight != 1).and_then(u32_value),
        metadata: metadata(one),
    }
}

fn metadata(one: &One) -> Option<Metadata> {
    let mut out = Metadata::default();
    if one.mtls {
        let mode = string_struct([(TLS_MODE, ISTIO_MUTUAL.to_owned())]);
        out.filter_metadata.insert(SOCKET_MATCH.to_owned(), mode);
    }
    if !one.workload.is_empty() {
        out.filter_metadata.insert(
            "istio".to_owned(),
            string_struct([("workload", one.workload.clone())]),
        );
        out.filter_metadata
            .insert(PEER_METADATA.to_owned(), string_struct(peer(one)));
    }
    (!out.filter_metadata.is_empty()).then_some(out)
}

/// Whether the workload's own policy switches mutual TLS off for the port, so that clients must not try.
fn mtls_is_off(snapshot: &Snapshot, endpoint: &Endpoint, port: u16) -> bool {
    if !snapshot.policies().may_disable() {
        return false;
    }
    let modes = snapshot
        .policies()
        .peer_modes(&endpoint.namespace, &endpoint.labels);
    modes.of(port) == MutualTlsMode::Disable
}

/// What clients' metrics say of the endpoint's workload; what is not known is left out.
fn peer(one: &One) -> Vec<(&'static str, String)> {
    let mut described = one.workload.split(';').map(str::to_owned);
    let mut next = || described.next().unwrap_or_default();
    let label = |name: &str| one.labels.get(name).cloned().unwrap_or_default();
    let (workload, namespace, name, revision, cluster) = (next(), next(), next(), next(), next());
    let values = [
        workload,
        namespace,
        label("app"),
        label("version"),
        name,
        revision,
        cluster,
    ];
    let parts = PEER_PARTS.iter().map(|(key, _)| *key).zip(values);
    parts.filter(|(_, value)| !value.is_empty()).collect()
}

/// Id of the only cluster.
const CLUSTER_ID: &str = "Kubernetes";

/// Canonical name and revision of an endpoint's workload (Istio, "canonical service").
fn canonical(endpoint: &Endpoint) -> (&str, &str) {
    let label = |names: [&str; 2]| {
        names
            .iter()
            .find_map(|name| endpoint.labels.get(*name))
            .map(String::as_str)
    };
    let name = label(["service.istio.io/canonical-name", "app"]).unwrap_or(&endpoint.workload_name);
    let revision = label(["service.istio.io/canonical-revision", "version"]).unwrap_or("latest");
    (name, revision)
}

/// `WORKLOAD;NAMESPACE;CANONICAL NAME;CANONICAL REVISION;CLUSTER`, as Istio's telemetry reads it.
fn workload(endpoint: &Endpoint) -> String {
    let (name, revision) = canonical(endpoint);
    format!(
        "{};{};{name};{revision};{CLUSTER_ID}",
        endpoint.workload_name, endpoint.namespace
    )
}
