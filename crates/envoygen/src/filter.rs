//! HTTP and network filters by name, and the few without settings of their own.

use envoy_types::pb::envoy::config::listener::v3::{
    Filter, ListenerFilter, filter::ConfigType as NetworkConfig,
    listener_filter::ConfigType as ListenerConfig,
};
use envoy_types::pb::envoy::extensions::filters::http::{
    cors::v3::Cors, fault::v3::HttpFault, grpc_web::v3::GrpcWeb, router::v3::Router,
};
use envoy_types::pb::envoy::extensions::filters::listener::{
    http_inspector::v3::HttpInspector, original_dst::v3::OriginalDst, original_src::v3::OriginalSrc,
    proxy_protocol::v3::ProxyProtocol, tls_inspector::v3::TlsInspector,
};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpFilter, http_filter::ConfigType as HttpConfig,
};
use envoy_types::pb::google::protobuf::Any;

use crate::wire::plain_any;

pub(crate) const CORS: &str = "envoy.filters.http.cors";
pub(crate) const FAULT: &str = "envoy.filters.http.fault";
pub(crate) const GRPC_WEB: &str = "envoy.filters.http.grpc_web";
pub(crate) const HEADER_MUTATION: &str = "envoy.filters.http.header_mutation";
/// Notes who a peer is by its certificate, for the filter that reads what it says of itself.
pub(crate) const PEER: &str = "envoy.filters.http.header_mutation.peer";
pub(crate) const HTTP_RBAC: &str = "envoy.filters.http.rbac";
pub(crate) const HEADER_TO_METADATA: &str = "envoy.filters.http.header_to_metadata";
pub(crate) const JWT: &str = "envoy.filters.http.jwt_authn";
pub(crate) const EXT_AUTHZ: &str = "envoy.filters.http.ext_authz";
pub(crate) const RATE_LIMIT: &str = "envoy.filters.http.ratelimit";
pub(crate) const LOCAL_RATE_LIMIT: &str = "envoy.filters.http.local_ratelimit";
pub(crate) const HTTP_CONNECTION_MANAGER: &str = "envoy.filters.network.http_connection_manager";
pub(crate) const ROUTER: &str = "envoy.filters.http.router";
pub(crate) const TCP_PROXY: &str = "envoy.filters.network.tcp_proxy";
pub(crate) const NETWORK_EXT_AUTHZ: &str = "envoy.filters.network.ext_authz";
pub(crate) const NETWORK_RBAC: &str = "envoy.filters.network.rbac";

pub(crate) fn http(name: &str, config: Any) -> HttpFilter {
    HttpFilter {
        name: name.to_owned(),
        config_type: Some(HttpConfig::TypedConfig(config)),
        ..Default::default()
    }
}

pub(crate) fn network(name: &str, config: Any) -> Filter {
    Filter {
        name: name.to_owned(),
        config_type: Some(NetworkConfig::TypedConfig(config)),
    }
}

fn listener(name: &str, config: Any) -> ListenerFilter {
    ListenerFilter {
        name: name.to_owned(),
        config_type: Some(ListenerConfig::TypedConfig(config)),
        ..Default::default()
    }
}

/// Faults that routes ask for.
pub(crate) fn fault() -> HttpFilter {
    http(FAULT, plain_any(&HttpFault::default()))
}

/// CORS that routes ask for.
pub(crate) fn cors() -> HttpFilter {
    http(CORS, plain_any(&Cors::default()))
}

/// gRPC-Web to gRPC.
pub(crate) fn grpc_web() -> HttpFilter {
    http(GRPC_WEB, plain_any(&GrpcWeb::default()))
}

/// The last HTTP filter.
pub(crate) fn router() -> HttpFilter {
    http(ROUTER, plain_any(&Router::default()))
}

/// Reads SNI and ALPN.
pub(crate) fn tls_inspector() -> ListenerFilter {
    listener(
        "envoy.filters.listener.tls_inspector",
        plain_any(&TlsInspector::default()),
    )
}

/// Tells HTTP from other bytes.
pub(crate) fn http_inspector() -> ListenerFilter {
    listener(
        "envoy.filters.listener.http_inspector",
        plain_any(&HttpInspector {}),
    )
}

/// Reads by the PROXY protocol who the client is.
pub(crate) fn proxy_protocol() -> ListenerFilter {
    listener(
        "envoy.filters.listener.proxy_protocol",
        plain_any(&ProxyProtocol::default()),
    )
}

/// Finds where a redirected connection wanted to go.
pub(crate) fn original_dst() -> ListenerFilter {
    listener("envoy.filters.listener.original_dst", plain_any(&OriginalDst {}))
}

/// Keeps the client's address on the way to the application (TPROXY).
pub(crate) fn original_src() -> ListenerFilter {
    listener(
        "envoy.filters.listener.original_src",
        plain_any(&OriginalSrc {
            bind_port: false,
            mark: 1337,
        }),
    )
}
