//! WorkloadGroup: a template of WorkloadEntries, and the probe that watches them.

use std::collections::BTreeMap;

use super::WorkloadEntry;
use crate::api::api;

api! {
    /// What workloads that register themselves have in common.
    pub struct WorkloadGroup {
        metadata: Option<WorkloadGroupMetadata>,
        template: Option<WorkloadEntry>,
        probe: Option<ReadinessProbe>,
    }

    /// Metadata given to the WorkloadEntries made.
    pub struct WorkloadGroupMetadata {
        labels: BTreeMap<String, String>,
        annotations: BTreeMap<String, String>,
    }

    /// How an instance's health is asked; times in seconds.
    #[schemars(extend("x-oneof" = [["httpGet", "tcpSocket", "exec", "grpc"]]))]
    pub struct ReadinessProbe {
        initial_delay_seconds: i32,
        timeout_seconds: i32,
        period_seconds: i32,
        success_threshold: i32,
        failure_threshold: i32,
        http_get: Option<HttpHealthCheckConfig>,
        tcp_socket: Option<TcpHealthCheckConfig>,
        exec: Option<ExecHealthCheckConfig>,
        grpc: Option<GrpcHealthCheckConfig>,
    }

    /// Healthy when a GET is answered with 200 to 399.
    pub struct HttpHealthCheckConfig {
        path: String,
        port: u32,
        host: String,
        scheme: String,
        http_headers: Vec<HttpHeader>,
    }

    /// A header of the probe's request.
    pub struct HttpHeader {
        name: String,
        value: String,
    }

    /// Healthy when a connection can be made.
    pub struct TcpHealthCheckConfig {
        host: String,
        port: u32,
    }

    /// Healthy when a command exits with 0.
    pub struct ExecHealthCheckConfig {
        command: Vec<String>,
    }

    /// Healthy when gRPC's health service says so.
    pub struct GrpcHealthCheckConfig {
        port: u32,
        service: String,
    }
}
