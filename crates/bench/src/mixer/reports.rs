//! Access logs of a proxy, streamed to Mixer at a fixed rate.

use std::time::{Duration, Instant};

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
use envoy_types::pb::google::protobuf::UInt32Value;
use tonic::transport::Channel;

use super::rules::{CATALOG, FRONTEND, NODE, PORT, USERS};
use crate::process::{Cpu, Memory};

/// Entries of one message, about what Envoy batches in 16 KiB.
const BATCH: usize = 50;

/// What the reports cost the server.
pub(super) struct Cost {
    /// Of one processor.
    pub(super) share: f64,
    /// Bytes before and after.
    pub(super) memory: (u64, u64),
    /// Reports that were sent, a second.
    pub(super) rate: f64,
}

/// Sends `rate` reports a second for so long, of [`USERS`] users and three codes, and sees what `pid` needs for them.
pub(super) async fn measure(channel: Channel, pid: u32, rate: usize, time: Duration) -> anyhow::Result<Cost> {
    let messages: Vec<_> = (0..USERS.div_ceil(BATCH)).map(message).collect();
    let count = (rate as f64 * time.as_secs_f64()) as usize / BATCH;
    let pace = Duration::from_secs(1) * BATCH as u32 / rate as u32;
    let start = Instant::now();
    let sent = futures::stream::unfold(0, move |number: usize| {
        let message = messages
            .get(number % messages.len())
            .cloned()
            .filter(|_| number < count);
        async move {
            tokio::time::sleep_until((start + pace * number as u32).into()).await;
            Some((message?, number + 1))
        }
    });
    let (before, memory) = (Cpu::of(pid)?, Memory::of(pid)?);
    AccessLogServiceClient::new(channel)
        .stream_access_logs(sent)
        .await?;
    let took = start.elapsed().as_secs_f64();
    let spent = Cpu::of(pid)?.since(&before).as_secs_f64();
    Ok(Cost {
        share: spent / took,
        memory: (memory.resident, Memory::of(pid)?.resident),
        rate: (count * BATCH) as f64 / took,
    })
}

fn message(number: usize) -> StreamAccessLogsMessage {
    let entries = (number * BATCH..(number + 1) * BATCH).map(entry);
    StreamAccessLogsMessage {
        identifier: Some(Identifier {
            node: Some(Node {
                id: NODE.to_owned(),
                ..Node::default()
            }),
            log_name: policy::LOG_INBOUND.to_owned(),
        }),
        log_entries: Some(LogEntries::HttpLogs(HttpAccessLogEntries {
            log_entry: entries.collect(),
        })),
    }
}

fn entry(user: usize) -> HttpAccessLogEntry {
    let san = SubjectAltName {
        san: Some(San::Uri(FRONTEND.0.to_owned())),
    };
    let peer = CertificateProperties {
        subject_alt_name: vec![san],
        ..CertificateProperties::default()
    };
    let code = [200, 404, 503].get(user % 3).copied().unwrap_or(200);
    HttpAccessLogEntry {
        common_properties: Some(AccessLogCommon {
            downstream_direct_remote_address: at(FRONTEND.1, 40_000),
            downstream_local_address: at(CATALOG.1, PORT),
            tls_properties: Some(TlsProperties {
                peer_certificate_properties: Some(peer),
                ..TlsProperties::default()
            }),
            upstream_cluster: format!("inbound|{PORT}||"),
            ..AccessLogCommon::default()
        }),
        request: Some(HttpRequestProperties {
            request_method: RequestMethod::Get.into(),
            authority: "catalog".to_owned(),
            path: "/items".to_owned(),
            request_headers: [("x-user".to_owned(), format!("user-{user}"))].into(),
            ..HttpRequestProperties::default()
        }),
        response: Some(HttpResponseProperties {
            response_code: Some(UInt32Value { value: code }),
            ..HttpResponseProperties::default()
        }),
        ..HttpAccessLogEntry::default()
    }
}

fn at(ip: &str, port: u16) -> Option<Address> {
    let socket = SocketAddress {
        address: ip.to_owned(),
        port_specifier: Some(PortSpecifier::PortValue(port.into())),
        ..SocketAddress::default()
    };
    Some(Address {
        address: Some(address::Address::SocketAddress(socket)),
    })
}
