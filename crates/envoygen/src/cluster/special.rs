//! Clusters that stand for no service: the black hole, connections passed through, the workload's own application.

use std::net::IpAddr;
use std::time::Duration;

use config::mesh::MeshConfig;
use config::networking::{ConnectionKeepalive, ConnectionPoolSettings, HttpSettings};
use envoy_types::pb::envoy::config::cluster::v3::{
    Cluster,
    cluster::{ClusterDiscoveryType, DiscoveryType, LbPolicy},
};
use envoy_types::pb::envoy::config::core::v3::{Address, BindConfig, ExtraSourceAddress};
use envoy_types::pb::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints, lb_endpoint::HostIdentifier,
};
use model::Protocol;

use super::{Effective, Speaker, connection, own_address};
use crate::family::Families;
use crate::names;
use crate::wire::{duration, socket_address};

/// The addresses that an application sees as its peer, by family; iptables rules let connections from them through.
const INBOUND_SOURCE: &str = "127.0.0.6";
const INBOUND_SOURCE_V6: &str = "::6";

/// Where connections to an application come from.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Source {
    /// The workload's own address, where workloads share a machine.
    Own(IpAddr),
    /// The address that redirection lets through.
    Mesh(Families),
}

/// A cluster without endpoints.
pub(crate) fn black_hole(mesh: &MeshConfig) -> Cluster {
    base(names::BLACK_HOLE_CLUSTER, DiscoveryType::Static, mesh)
}

/// Connections go where they wanted to go.
pub(crate) fn passthrough(mesh: &MeshConfig) -> Cluster {
    let mut cluster = original_dst(names::PASSTHROUGH_CLUSTER, mesh);
    let speaker = Speaker::Sidecar;
    connection::apply(&mut cluster, &Effective::default(), Protocol::Auto, mesh, speaker);
    cluster
}

/// Inbound connections go to the application on the port that they wanted.
pub(crate) fn inbound_passthrough(families: Families, mesh: &MeshConfig) -> Cluster {
    let mut cluster = original_dst(names::INBOUND_PASSTHROUGH_CLUSTER, mesh);
    let speaker = Speaker::Server;
    connection::apply(&mut cluster, &Effective::default(), Protocol::Auto, mesh, speaker);
    cluster.upstream_bind_config = Some(inbound_source(families));
    cluster
}

/// The application behind an inbound port, within the bounds of `policy`. `address` is none where connections keep their
/// destination.
pub(crate) fn inbound(
    port: u16,
    address: Option<Address>,
    protocol: Protocol,
    policy: &Effective,
    source: Source,
    mesh: &MeshConfig,
) -> Cluster {
    let name = names::inbound_cluster(port);
    let mut cluster = match address {
        Some(address) => static_cluster(&name, address, mesh),
        None => original_dst(&name, mesh),
    };
    connection::apply(&mut cluster, policy, protocol, mesh, Speaker::Server);
    // No endpoint to fall back to: the application is not taken out.
    cluster.outlier_detection = None;
    cluster.upstream_bind_config = match source {
        Source::Own(own) => own_address(own),
        Source::Mesh(families) => Some(inbound_source(families)),
    };
    cluster
}

/// Of several sources Envoy takes one of the family that it connects to.
fn inbound_source(families: Families) -> BindConfig {
    let (first, other) = match families {
        Families::V4 => (INBOUND_SOURCE, None),
        Families::V6 => (INBOUND_SOURCE_V6, None),
        Families::Dual => (INBOUND_SOURCE, Some(INBOUND_SOURCE_V6)),
    };
    let other = other.map(|address| ExtraSourceAddress {
        address: Some(socket_address(address, 0)),
        ..Default::default()
    });
    BindConfig {
        source_address: Some(socket_address(first, 0)),
        extra_source_addresses: other.into_iter().collect(),
        ..Default::default()
    }
}

/// Longest wait for a connection to one of the mesh's own services. A pod that is gone answers nothing for the moment in which
/// its node still sends connections there; what waits for Mixer must be able to try again well within its deadline.
const CONNECT: Duration = Duration::from_secs(1);

/// A cluster of one of the mesh's own services, which speak HTTP/2; `by_name` if its address is a DNS name.
pub(crate) fn own_service(name: &str, address: Address, by_name: bool, mesh: &MeshConfig) -> Cluster {
    let mut cluster = static_cluster(name, address, mesh);
    let given = mesh.connect_timeout.map_or(CONNECT, |timeout| timeout.0);
    cluster.connect_timeout = duration(given.min(CONNECT));
    if by_name {
        super::resolve_by_dns(&mut cluster, mesh, Families::V4, false);
    }
    let keepalive = ConnectionKeepalive {
        interval: Some(config::Duration::from_secs(10)),
        timeout: Some(config::Duration::from_secs(5)),
    };
    let http = HttpSettings {
        http2_keep_alive: Some(keepalive),
        ..HttpSettings::default()
    };
    let pool = ConnectionPoolSettings {
        http: Some(http),
        ..ConnectionPoolSettings::default()
    };
    let policy = Effective {
        connection_pool: Some(pool),
        ..Effective::default()
    };
    connection::apply(&mut cluster, &policy, Protocol::Grpc, mesh, Speaker::Sidecar);
    cluster.outlier_detection = None;
    cluster
}

/// A cluster of one fixed address.
fn static_cluster(name: &str, address: Address, mesh: &MeshConfig) -> Cluster {
    let endpoint = Endpoint {
        address: Some(address),
        ..Default::default()
    };
    let only = LbEndpoint {
        host_identifier: Some(HostIdentifier::Endpoint(endpoint)),
        ..Default::default()
    };
    Cluster {
        load_assignment: Some(ClusterLoadAssignment {
            cluster_name: name.to_owned(),
            endpoints: vec![LocalityLbEndpoints {
                lb_endpoints: vec![only],
                ..Default::default()
            }],
            ..Default::default()
        }),
        ..base(name, DiscoveryType::Static, mesh)
    }
}

fn original_dst(name: &str, mesh: &MeshConfig) -> Cluster {
    Cluster {
        lb_policy: LbPolicy::ClusterProvided as i32,
        ..base(name, DiscoveryType::OriginalDst, mesh)
    }
}

fn base(name: &str, discovery: DiscoveryType, mesh: &MeshConfig) -> Cluster {
    Cluster {
        name: name.to_owned(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(discovery as i32)),
        connect_timeout: mesh.connect_timeout.and_then(|timeout| duration(timeout.0)),
        ..Default::default()
    }
}
