//! What Pilot gives the workload of these tests: a listener that needs the agent's secrets.

use std::net::SocketAddr;

use envoy_types::pb::{
    envoy::{
        config::{
            cluster::v3::Cluster,
            core::v3::{
                Address, ApiConfigSource, ApiVersion, ConfigSource, GrpcService, SocketAddress,
                TransportSocket, address, api_config_source::ApiType, config_source::ConfigSourceSpecifier,
                grpc_service, socket_address, transport_socket,
            },
            listener::v3::{Filter, FilterChain, Listener, filter},
        },
        extensions::{
            filters::network::echo::v3::Echo,
            transport_sockets::tls::v3::{
                CommonTlsContext, DownstreamTlsContext, SdsSecretConfig, common_tls_context,
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

/// A listener that wants a certificate of the mesh and then gives back what it gets.
fn mtls_listener(address: SocketAddr) -> Listener {
    let context = DownstreamTlsContext {
        require_client_certificate: Some(BoolValue { value: true }),
        common_tls_context: Some(CommonTlsContext {
            tls_certificate_sds_secret_configs: vec![from_agent("default")],
            validation_context_type: Some(
                common_tls_context::ValidationContextType::ValidationContextSdsSecretConfig(from_agent(
                    "ROOTCA",
                )),
            ),
            alpn_protocols: vec!["h2".into()],
            ..Default::default()
        }),
        ..Default::default()
    };
    let chain = FilterChain {
        filters: vec![Filter {
            name: "envoy.filters.network.echo".into(),
            config_type: Some(filter::ConfigType::TypedConfig(any(&Echo {}))),
        }],
        transport_socket: Some(TransportSocket {
            name: "envoy.transport_sockets.tls".into(),
            config_type: Some(transport_socket::ConfigType::TypedConfig(any(&context))),
        }),
        ..Default::default()
    };
    let socket = SocketAddress {
        address: address.ip().to_string(),
        port_specifier: Some(socket_address::PortSpecifier::PortValue(address.port().into())),
        ..Default::default()
    };
    Listener {
        name: format!("{}_{}", address.ip(), address.port()),
        address: Some(Address {
            address: Some(address::Address::SocketAddress(socket)),
        }),
        enable_reuse_port: Some(BoolValue { value: false }),
        filter_chains: vec![chain],
        ..Default::default()
    }
}
