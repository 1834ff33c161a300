//! What proxies of the sample ask and report: a request of the frontend to catalog-v1.
#![allow(dead_code, reason = "each test takes what it needs")]

use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use envoy_types::pb::envoy::config::core::v3::{Address, Node, RequestMethod, SocketAddress, address};
use envoy_types::pb::envoy::data::accesslog::v3::tls_properties::CertificateProperties;
use envoy_types::pb::envoy::data::accesslog::v3::tls_properties::certificate_properties::{
    SubjectAltName, subject_alt_name::San,
};
use envoy_types::pb::envoy::data::accesslog::v3::{
    AccessLogCommon, HttpAccessLogEntry, HttpRequestProperties, HttpResponseProperties, TlsProperties,
};
use envoy_types::pb::envoy::service::accesslog::v3::StreamAccessLogsMessage;
use envoy_types::pb::envoy::service::accesslog::v3::access_log_service_client::AccessLogServiceClient;
use envoy_types::pb::envoy::service::accesslog::v3::stream_access_logs_message::{
    HttpAccessLogEntries, Identifier, LogEntries,
};
use envoy_types::pb::envoy::service::auth::v3::attribute_context::{
    HttpRequest, Peer, Request as AuthRequest,
};
use envoy_types::pb::envoy::service::auth::v3::{AttributeContext, CheckRequest};
use envoy_types::pb::google::protobuf::UInt32Value;
use tonic::transport::Channel;

use super::server::FRONTEND;

/// The node of catalog-v1's proxy.
pub(crate) const CATALOG: &str = "sidecar~127.1.0.21~catalog-v1.shop~shop.svc.cluster.local";

pub(crate) fn address(ip: &str, port: u16) -> Option<Address> {
    let port_specifier = Some(PortSpecifier::PortValue(port.into()));
    let socket = SocketAddress {
        address: ip.into(),
        port_specifier,
        ..SocketAddress::default()
    };
    Some(Address {
        address: Some(address::Address::SocketAddress(socket)),
    })
}

/// A request from the frontend to catalog-v1, as its proxy asks about it.
pub(crate) fn check(user: &str) -> CheckRequest {
    let http = HttpRequest {
        method: "GET".into(),
        path: "/catalog/1".into(),
        host: "catalog:7080".into(),
        headers: [("x-user".to_owned(), user.to_owned())].into(),
        ..HttpRequest::default()
    };
    let peer = |ip: &str, port, principal: &str| {
        Some(Peer {
            address: address(ip, port),
            principal: principal.into(),
            ..Peer::default()
        })
    };
    let attributes = AttributeContext {
        source: peer("127.1.0.10", 40000, FRONTEND),
        destination: peer("127.1.0.21", 8080, "spiffe://cluster.local/ns/shop/sa/catalog"),
        request: Some(AuthRequest {
            time: None,
            http: Some(http),
        }),
        ..AttributeContext::default()
    };
    CheckRequest {
        attributes: Some(attributes),
    }
}

/// An entry of catalog-v1's log about a request of the frontend.
pub(crate) fn inbound_entry() -> HttpAccessLogEntry {
    let san = SubjectAltName {
        san: Some(San::Uri(FRONTEND.into())),
    };
    let peer = CertificateProperties {
        subject_alt_name: vec![san],
        ..CertificateProperties::default()
    };
    let tls = TlsProperties {
        peer_certificate_properties: Some(peer),
        ..TlsProperties::default()
    };
    HttpAccessLogEntry {
        common_properties: Some(AccessLogCommon {
            downstream_direct_remote_address: address("127.1.0.10", 40000),
            downstream_local_address: address("127.1.0.21", 8080),
            tls_properties: Some(tls),
            upstream_cluster: "inbound|8080||".into(),
            ..AccessLogCommon::default()
        }),
        request: Some(HttpRequestProperties {
            request_method: RequestMethod::Get.into(),
            authority: "catalog:7080".into(),
            path: "/catalog/1".into(),
            ..HttpRequestProperties::default()
        }),
        response: Some(HttpResponseProperties {
            response_code: Some(UInt32Value { value: 503 }),
            ..HttpResponseProperties::default()
        }),
        ..HttpAccessLogEntry::default()
    }
}

pub(crate) fn message(
    log_name: &str,
    node: &str,
    entries: Vec<HttpAccessLogEntry>,
) -> StreamAccessLogsMessage {
    let node = Some(Node {
        id: node.into(),
        ..Node::default()
    });
    StreamAccessLogsMessage {
        identifier: Some(Identifier {
            node,
            log_name: log_name.into(),
        }),
        log_entries: Some(LogEntries::HttpLogs(HttpAccessLogEntries { log_entry: entries })),
    }
}

pub(crate) async fn send(channel: Channel, messages: Vec<StreamAccessLogsMessage>) {
    let mut client = AccessLogServiceClient::new(channel);
    client
        .stream_access_logs(futures::stream::iter(messages))
        .await
        .unwrap();
}
