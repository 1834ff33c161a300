//! Reports: access logs streamed to Mixer, in batches. They never hold a request up, and are lost while Mixer is away.

use std::collections::BTreeSet;
use std::time::Duration;

use config::mesh::MeshConfig;
use envoy_types::pb::envoy::config::accesslog::v3::{AccessLog, access_log::ConfigType};
use envoy_types::pb::envoy::config::core::v3::{ApiVersion, GrpcService};
use envoy_types::pb::envoy::extensions::access_loggers::grpc::v3::{
    CommonGrpcAccessLogConfig, HttpGrpcAccessLogConfig, TcpGrpcAccessLogConfig,
};
use envoy_types::pb::google::protobuf::Any;
use policy::{REPORTED_METADATA, Report};

use crate::wire::{duration, plain_any, u32_value};

/// Bytes of log entries that are sent together at the latest.
const BATCH_BYTES: u32 = 16 * 1024;

/// The log of HTTP requests.
pub(crate) fn http_log(cluster: &str, name: &str, report: &Report, mesh: &MeshConfig) -> AccessLog {
    let list = |names: &BTreeSet<String>| names.iter().cloned().collect::<Vec<_>>();
    let config = HttpGrpcAccessLogConfig {
        common_config: Some(common(cluster, name, report, mesh)),
        additional_request_headers_to_log: list(&report.request_headers),
        additional_response_headers_to_log: list(&report.response_headers),
        // A gRPC status comes in trailers, unless nothing else comes.
        additional_response_trailers_to_log: list(&report.response_trailers),
    };
    log("envoy.access_loggers.http_grpc", plain_any(&config))
}

/// The log of other connections.
pub(crate) fn tcp_log(cluster: &str, name: &str, report: &Report, mesh: &MeshConfig) -> AccessLog {
    let config = TcpGrpcAccessLogConfig {
        common_config: Some(common(cluster, name, report, mesh)),
    };
    log("envoy.access_loggers.tcp_grpc", plain_any(&config))
}

fn common(cluster: &str, name: &str, report: &Report, mesh: &MeshConfig) -> CommonGrpcAccessLogConfig {
    let told = report.selective.then_some(report.rules.as_slice());
    let wait = mesh
        .report_batch_max_time
        .map_or(Duration::from_secs(1), |time| time.0);
    CommonGrpcAccessLogConfig {
        log_name: name.to_owned(),
        // A stream without end, so without timeout.
        grpc_service: Some(GrpcService {
            target_specifier: Some(super::target(cluster)),
            initial_metadata: super::named(REPORTED_METADATA, told),
            ..Default::default()
        }),
        transport_api_version: ApiVersion::V3 as i32,
        buffer_flush_interval: duration(wait.max(Duration::from_millis(10))),
        // Each entry by itself if so asked; 0 means no buffer.
        buffer_size_bytes: u32_value(if mesh.disable_report_batch { 0 } else { BATCH_BYTES }),
        ..Default::default()
    }
}

fn log(name: &str, config: Any) -> AccessLog {
    AccessLog {
        name: name.to_owned(),
        config_type: Some(ConfigType::TypedConfig(config)),
        ..Default::default()
    }
}
