//! Reports: access logs streamed to Mixer, in batches. They never hold a request up. While Mixer is away they wait in a buffer, and
//! what does not fit is dropped and counted (Envoy: `access_logs.grpc_access_log.logs_dropped`).

use std::collections::BTreeSet;
use std::time::Duration;

use config::mesh::MeshConfig;
use envoy_types::pb::envoy::config::accesslog::v3::{AccessLog, access_log::ConfigType};
use envoy_types::pb::envoy::config::cluster::v3::{Cluster, OutlierDetection, cluster::CommonLbConfig};
use envoy_types::pb::envoy::config::core::v3::{ApiVersion, GrpcService};
use envoy_types::pb::envoy::extensions::access_loggers::grpc::v3::{
    CommonGrpcAccessLogConfig, HttpGrpcAccessLogConfig, TcpGrpcAccessLogConfig,
};
use envoy_types::pb::envoy::r#type::tracing::v3::{CustomTag, custom_tag};
use envoy_types::pb::envoy::r#type::v3::Percent;
use envoy_types::pb::google::protobuf::Any;
use policy::{LOG_OUTBOUND, REPORTED_METADATA, Report, UPSTREAM_PEER_TAG};

use crate::wire::{duration, plain_any, u32_value};

/// How long a Mixer is not tried again that nobody answered for.
const AWAY: Duration = Duration::from_secs(3);

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
        custom_tags: upstream_peer(name).into_iter().collect(),
        ..Default::default()
    }
}

/// Who answered, in logs of what is sent.
fn upstream_peer(log_name: &str) -> Option<CustomTag> {
    (log_name == LOG_OUTBOUND).then(|| CustomTag {
        tag: UPSTREAM_PEER_TAG.to_owned(),
        r#type: Some(custom_tag::Type::Value("%UPSTREAM_PEER_URI_SAN%".to_owned())),
    })
}

/// Has a cluster known to be away after one connection that failed. Envoy hands a batch to the first stream that it can begin, and
/// that is one to an endpoint of which it does not know yet that nobody is there: the batch is lost then, and not counted. To a
/// cluster without healthy endpoints no stream begins, and batches stay where they are.
pub(super) fn hold_back(cluster: &mut Cluster) {
    cluster.outlier_detection = Some(OutlierDetection {
        split_external_local_origin_errors: true,
        consecutive_local_origin_failure: u32_value(1),
        enforcing_consecutive_local_origin_failure: u32_value(100),
        // What Mixer answers says nothing of whether it is there.
        enforcing_consecutive_5xx: u32_value(0),
        enforcing_consecutive_gateway_failure: u32_value(0),
        enforcing_success_rate: u32_value(0),
        enforcing_local_origin_success_rate: u32_value(0),
        max_ejection_percent: u32_value(100),
        interval: duration(Duration::from_secs(1)),
        base_ejection_time: duration(AWAY),
        max_ejection_time: duration(AWAY),
        ..Default::default()
    });
    let never_all = CommonLbConfig {
        healthy_panic_threshold: Some(Percent { value: 0.0 }),
        ..Default::default()
    };
    cluster.common_lb_config = Some(never_all);
}

fn log(name: &str, config: Any) -> AccessLog {
    AccessLog {
        name: name.to_owned(),
        config_type: Some(ConfigType::TypedConfig(config)),
        ..Default::default()
    }
}
