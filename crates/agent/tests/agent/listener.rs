//! What Pilot gives the workload of these tests: a listener that needs the agent's secrets.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use envoy_types::pb::{
    envoy::{
        config::{
            cluster::v3::{
                Cluster,
                cluster::{ClusterDiscoveryType, DiscoveryType},
            },
            core::v3::{
                Address, ApiConfigSource, ApiVersion, ConfigSource, GrpcService, SocketAddress,
                TransportSocket, address, api_config_source::ApiType, config_source::ConfigSourceSpecifier,
                grpc_service, socket_address, transport_socket,
            },
            endpoint::v3::{
                ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints, lb_endpoint::HostIdentifier,
            },
            listener::v3::{Filter, FilterChain, Listener, filter},
        },
        extensions::{
            filters::network::{
                echo::v3::Echo,
                tcp_proxy::v3::{TcpProxy, tcp_proxy::ClusterSpecifier},
            },
            transport_sockets::tls::v3::{
                CommonTlsContext, DownstreamTlsContext, SdsSecretConfig, UpstreamTlsContext,
                common_tls_context,
            },
        },
    },
    google::protobuf::{Any, BoolValue},
};
use prost::{Message, Name};
use xds::{
    Table,
    types::{CLUSTER, LISTENER},
};

/// A listener at `address`, and a cluster, since Envoy waits for both.
pub(crate) fn table(address: SocketAddr) -> Table {
    let listener = mtls_listener(address);
    let cluster = Cluster {
        name: "BlackHoleCluster".into(),
        ..Default::default()
    };
    Table::builder()
        .add(LISTENER, listener.name.as_str(), listener.encode_to_vec().into())
        .add(CLUSTER, cluster.name.as_str(), cluster.encode_to_vec().into())
        .build(None)
}

fn any<M: Message + Name>(message: &M) -> Any {
    Any {
        type_url: M::type_url(),
        value: message.encode_to_vec(),
    }
}

/// A secret that comes from the agent, in the way Pilot configures it.
fn from_agent(name: &str) -> SdsSecretConfig {
    let grpc = grpc_service::EnvoyGrpc {
        cluster_name: "sds-grpc".into(),
        ..Default::default()
    };
    let service = GrpcService {
        target_specifier: Some(grpc_service::TargetSpecifier::EnvoyGrpc(grpc)),
        ..Default::default()
    };
    let source = ApiConfigSource {
        api_type: ApiType::DeltaGrpc.into(),
        transport_api_version: ApiVersion::V3.into(),
        set_node_on_first_message_only: true,
        grpc_services: vec![service],
        ..Default::default()
    };
    SdsSecretConfig {
        name: name.into(),
        sds_config: Some(ConfigSource {
            resource_api_version: ApiVersion::V3.into(),
            config_source_specifier: Some(ConfigSourceSpecifier::ApiConfigSource(source)),
            ..Default::default()
        }),
    }
}

/// Secrets of these names: a certificate, and roots where there are any.
fn secrets(certificate: &str, roots: Option<&str>) -> CommonTlsContext {
    CommonTlsContext {
        tls_certificate_sds_secret_configs: vec![from_agent(certificate)],
        validation_context_type: roots.map(|roots| {
            common_tls_context::ValidationContextType::ValidationContextSdsSecretConfig(from_agent(roots))
        }),
        ..Default::default()
    }
}

fn tls(context: &impl Name) -> TransportSocket {
    TransportSocket {
        name: "envoy.transport_sockets.tls".into(),
        config_type: Some(transport_socket::ConfigType::TypedConfig(any(context))),
    }
}

fn at(address: SocketAddr) -> Address {
    let socket = SocketAddress {
        address: address.ip().to_string(),
        port_specifier: Some(socket_address::PortSpecifier::PortValue(address.port().into())),
        ..Default::default()
    };
    Address {
        address: Some(address::Address::SocketAddress(socket)),
    }
}

fn listener(address: SocketAddr, filter: Filter, transport_socket: Option<TransportSocket>) -> Listener {
    let chain = FilterChain {
        filters: vec![filter],
        transport_socket,
        ..Default::default()
    };
    Listener {
        name: format!("{}_{}", address.ip(), address.port()),
        address: Some(at(address)),
        enable_reuse_port: Some(BoolValue { value: false }),
        filter_chains: vec![chain],
        ..Default::default()
    }
}

/// A listener that wants a certificate of the mesh and then gives back what it gets.
fn mtls_listener(address: SocketAddr) -> Listener {
    tls_listener(address, "default", Some("ROOTCA"), true)
}

/// A listener that shows the certificate of this name, verifies clients by these roots, and then gives back what it gets.
fn tls_listener(address: SocketAddr, certificate: &str, roots: Option<&str>, required: bool) -> Listener {
    let mut common = secrets(certificate, roots);
    common.alpn_protocols = vec!["h2".into()];
    let context = DownstreamTlsContext {
        require_client_certificate: Some(BoolValue { value: required }),
        common_tls_context: Some(common),
        ..Default::default()
    };
    let echo = Filter {
        name: "envoy.filters.network.echo".into(),
        config_type: Some(filter::ConfigType::TypedConfig(any(&Echo {}))),
    };
    listener(address, echo, Some(tls(&context)))
}

/// `table` with such a listener.
pub(crate) fn with_tls(
    table: &Table,
    address: SocketAddr,
    certificate: &str,
    roots: Option<&str>,
    required: bool,
) -> Table {
    let listener = tls_listener(address, certificate, roots, required);
    let upsert = (
        Arc::from(listener.name.as_str()),
        Bytes::from(listener.encode_to_vec()),
    );
    table.with(&LISTENER, [upsert], [] as [&str; 0])
}

/// `table` with a way out: what comes to `from` in plaintext goes to `to` in mutual TLS, with the certificate and the roots
/// of these names.
pub(crate) fn with_way_out(table: &Table, from: SocketAddr, to: SocketAddr, names: [&str; 2]) -> Table {
    let [certificate, roots] = names;
    let context = UpstreamTlsContext {
        common_tls_context: Some(secrets(certificate, Some(roots))),
        ..Default::default()
    };
    let endpoint = Endpoint {
        address: Some(at(to)),
        ..Default::default()
    };
    let endpoint = LbEndpoint {
        host_identifier: Some(HostIdentifier::Endpoint(endpoint)),
        ..Default::default()
    };
    let locality = LocalityLbEndpoints {
        lb_endpoints: vec![endpoint],
        ..Default::default()
    };
    let cluster = Cluster {
        name: "out".into(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Static.into())),
        load_assignment: Some(ClusterLoadAssignment {
            cluster_name: "out".into(),
            endpoints: vec![locality],
            ..Default::default()
        }),
        transport_socket: Some(tls(&context)),
        ..Default::default()
    };
    let proxy = TcpProxy {
        stat_prefix: "out".into(),
        cluster_specifier: Some(ClusterSpecifier::Cluster("out".into())),
        ..Default::default()
    };
    let proxy = Filter {
        name: "envoy.filters.network.tcp_proxy".into(),
        config_type: Some(filter::ConfigType::TypedConfig(any(&proxy))),
    };
    let listener = listener(from, proxy, None);
    let upsert = |name: &str, bytes: Vec<u8>| (Arc::from(name), Bytes::from(bytes));
    let clusters = [upsert("out", cluster.encode_to_vec())];
    let listeners = [upsert(&listener.name, listener.encode_to_vec())];
    table
        .with(&CLUSTER, clusters, [] as [&str; 0])
        .with(&LISTENER, listeners, [] as [&str; 0])
}
