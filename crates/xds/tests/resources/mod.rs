//! Small Envoy resources, encoded.

use bytes::Bytes;
use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{
    ClusterDiscoveryType, DiscoveryType, EdsClusterConfig,
};
use envoy_types::pb::envoy::config::core::v3::config_source::ConfigSourceSpecifier;
use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use envoy_types::pb::envoy::config::core::v3::{
    Address, AggregatedConfigSource, ApiVersion, ConfigSource, SocketAddress, address,
};
use envoy_types::pb::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use envoy_types::pb::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints,
};
use envoy_types::pb::envoy::config::listener::v3::filter::ConfigType;
use envoy_types::pb::envoy::config::listener::v3::{Filter, FilterChain, Listener};
use envoy_types::pb::envoy::config::route::v3::route::Action;
use envoy_types::pb::envoy::config::route::v3::route_action::ClusterSpecifier;
use envoy_types::pb::envoy::config::route::v3::route_match::PathSpecifier;
use envoy_types::pb::envoy::config::route::v3::{
    Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost,
};
use envoy_types::pb::envoy::extensions::filters::http::router::v3::Router;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::RouteSpecifier;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, HttpFilter, Rds, http_filter,
};
use envoy_types::pb::google::protobuf::{Any, Duration};
use prost::{Message, Name};
use std::net::SocketAddr;

fn any<M: Message + Name>(message: &M) -> Any {
    Any {
        type_url: M::type_url(),
        value: message.encode_to_vec(),
    }
}

fn encoded(message: &impl Message) -> Bytes {
    message.encode_to_vec().into()
}

fn ads() -> ConfigSource {
    ConfigSource {
        resource_api_version: ApiVersion::V3.into(),
        config_source_specifier: Some(ConfigSourceSpecifier::Ads(AggregatedConfigSource {})),
        ..Default::default()
    }
}

fn socket(ip: &str, port: u16) -> Address {
    let socket = SocketAddress {
        address: ip.into(),
        port_specifier: Some(PortSpecifier::PortValue(port.into())),
        ..Default::default()
    };
    Address {
        address: Some(address::Address::SocketAddress(socket)),
    }
}

fn assignment(cluster: &str, ip: &str, port: u16) -> ClusterLoadAssignment {
    let endpoint = Endpoint {
        address: Some(socket(ip, port)),
        ..Default::default()
    };
    let endpoint = LbEndpoint {
        host_identifier: Some(HostIdentifier::Endpoint(endpoint)),
        ..Default::default()
    };
    ClusterLoadAssignment {
        cluster_name: cluster.into(),
        endpoints: vec![LocalityLbEndpoints {
            lb_endpoints: vec![endpoint],
            ..Default::default()
        }],
        ..Default::default()
    }
}

/// An EDS cluster; another revision is another configuration.
pub(crate) fn cluster(name: &str, revision: u32) -> Bytes {
    encoded(&Cluster {
        name: name.into(),
        connect_timeout: Some(Duration {
            seconds: i64::from(revision),
            nanos: 0,
        }),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds.into())),
        eds_cluster_config: Some(EdsClusterConfig {
            eds_config: Some(ads()),
            ..Default::default()
        }),
        ..Default::default()
    })
}

/// A static cluster; Envoy rejects it when the address is none.
pub(crate) fn static_cluster(name: &str, ip: &str) -> Bytes {
    encoded(&Cluster {
        name: name.into(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Static.into())),
        load_assignment: Some(assignment(name, ip, 80)),
        ..Default::default()
    })
}

/// One endpoint.
pub(crate) fn endpoints(cluster: &str, at: SocketAddr) -> Bytes {
    encoded(&assignment(cluster, &at.ip().to_string(), at.port()))
}

/// An HTTP listener that gets its routes by discovery.
pub(crate) fn listener(name: &str, at: SocketAddr, route: &str) -> Bytes {
    let router = HttpFilter {
        name: "envoy.filters.http.router".into(),
        config_type: Some(http_filter::ConfigType::TypedConfig(any(&Router::default()))),
        ..Default::default()
    };
    let manager = HttpConnectionManager {
        stat_prefix: name.into(),
        http_filters: vec![router],
        route_specifier: Some(RouteSpecifier::Rds(Rds {
            config_source: Some(ads()),
            route_config_name: route.into(),
        })),
        ..Default::default()
    };
    let filter = Filter {
        name: "envoy.filters.network.http_connection_manager".into(),
        config_type: Some(ConfigType::TypedConfig(any(&manager))),
    };
    encoded(&Listener {
        name: name.into(),
        address: Some(socket(&at.ip().to_string(), at.port())),
        filter_chains: vec![FilterChain {
            filters: vec![filter],
            ..Default::default()
        }],
        ..Default::default()
    })
}

/// Routes everything to the cluster. With more than one virtual host for its one domain Envoy rejects it.
pub(crate) fn route(name: &str, cluster: &str, hosts: usize) -> Bytes {
    let action = RouteAction {
        cluster_specifier: Some(ClusterSpecifier::Cluster(cluster.into())),
        ..Default::default()
    };
    let route = Route {
        r#match: Some(RouteMatch {
            path_specifier: Some(PathSpecifier::Prefix("/".into())),
            ..Default::default()
        }),
        action: Some(Action::Route(action)),
        ..Default::default()
    };
    let host = |at: usize| VirtualHost {
        name: format!("{name}-{at}"),
        domains: vec!["*".into()],
        routes: vec![route.clone()],
        ..Default::default()
    };
    encoded(&RouteConfiguration {
        name: name.into(),
        virtual_hosts: (0..hosts).map(host).collect(),
        ..Default::default()
    })
}
