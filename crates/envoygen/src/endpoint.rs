//! Endpoint sets: which of a service's endpoints a cluster has, grouped by locality.

use std::collections::BTreeMap;

use config::security::MutualTlsMode;
use envoy_types::pb::envoy::config::core::v3::{self as core, HealthStatus, Metadata};
use envoy_types::pb::envoy::config::endpoint::v3::{
    self as pb, ClusterLoadAssignment, LbEndpoint, LocalityLbEndpoints, lb_endpoint::HostIdentifier,
};
use model::{Address, Endpoint, Health, Locality, Service, Snapshot, selects};

use crate::output::Origins;
use crate::wire::{pipe_address, string_struct, tcp_address, u32_value};

/// Metadata by which a cluster's transport socket matches choose.
const SOCKET_MATCH: &str = "envoy.transport_socket_match";
/// Metadata key that says whether an endpoint's proxy accepts mutual TLS.
pub(crate) const TLS_MODE: &str = "tlsMode";
/// Its value for proxies that do.
pub(crate) const ISTIO_MUTUAL: &str = "istio";

/// The endpoints of a service's port, or of a subset of it.
pub(crate) fn load_assignment(
    snapshot: &Snapshot,
    name: &str,
    service: &Service,
    port: u16,
    labels: &BTreeMap<String, String>,
    origins: &mut Origins,
) -> ClusterLoadAssignment {
    let mut localities: BTreeMap<&Locality, Vec<LbEndpoint>> = BTreeMap::new();
    for endpoint in service
        .endpoints
        .iter()
        .filter(|e| e.health == Health::Healthy && selects(labels, &e.labels))
    {
        if let Some(target) = endpoint.port(port) {
            origins.add([&endpoint.origin]);
            localities
                .entry(&endpoint.locality)
                .or_default()
                .push(lb_endpoint(snapshot, endpoint, target));
        }
    }
    ClusterLoadAssignment {
        cluster_name: name.to_owned(),
        endpoints: localities
            .into_iter()
            .map(|(locality, endpoints)| in_locality(locality, endpoints))
            .collect(),
        ..Default::default()
    }
}

fn in_locality(locality: &Locality, endpoints: Vec<LbEndpoint>) -> LocalityLbEndpoints {
    let weights = endpoints
        .iter()
        .filter_map(|e| e.load_balancing_weight.as_ref())
        .map(|w| w.value);
    LocalityLbEndpoints {
        locality: Some(core::Locality {
            region: locality.region.clone(),
            zone: locality.zone.clone(),
            sub_zone: locality.sub_zone.clone(),
        }),
        load_balancing_weight: u32_value(weights.fold(0, u32::saturating_add)),
        lb_endpoints: endpoints,
        ..Default::default()
    }
}

fn lb_endpoint(snapshot: &Snapshot, endpoint: &Endpoint, port: u16) -> LbEndpoint {
    let address = match &endpoint.address {
        Address::Ip(ip) => tcp_address(&ip.to_string(), port),
        Address::Host(host) => tcp_address(host, port),
        Address::Unix(path) => pipe_address(path),
    };
    LbEndpoint {
        host_identifier: Some(HostIdentifier::Endpoint(pb::Endpoint {
            address: Some(address),
            ..Default::default()
        })),
        health_status: HealthStatus::Healthy as i32,
        load_balancing_weight: u32_value(endpoint.weight),
        metadata: metadata(snapshot, endpoint, port),
    }
}

fn metadata(snapshot: &Snapshot, endpoint: &Endpoint, port: u16) -> Option<Metadata> {
    let mut out = Metadata::default();
    if endpoint.mtls && !mtls_is_off(snapshot, endpoint, port) {
        let mode = string_struct([(TLS_MODE, ISTIO_MUTUAL.to_owned())]);
        out.filter_metadata.insert(SOCKET_MATCH.to_owned(), mode);
    }
    if !endpoint.workload.is_empty() {
        out.filter_metadata.insert(
            "istio".to_owned(),
            string_struct([("workload", workload(endpoint))]),
        );
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

/// `WORKLOAD;NAMESPACE;CANONICAL NAME;CANONICAL REVISION;CLUSTER`, as Istio's telemetry reads it.
fn workload(endpoint: &Endpoint) -> String {
    let label = |names: [&str; 2]| {
        names
            .iter()
            .find_map(|name| endpoint.labels.get(*name))
            .map(String::as_str)
    };
    let name = label(["service.istio.io/canonical-name", "app"]).unwrap_or(&endpoint.workload);
    let revision = label(["service.istio.io/canonical-revision", "version"]).unwrap_or("latest");
    format!(
        "{};{};{name};{revision};Kubernetes",
        endpoint.workload, endpoint.namespace
    )
}
