//! WorkloadGroup: a template of WorkloadEntries, and the probe that watches them.

use std::collections::BTreeMap;

use super::WorkloadEntry;
use crate::api::api;

api! {
    /// What workloads that register themselves have in common.
    #[schemars(extend("required" = ["template"]))]
    pub struct WorkloadGroup {
        metadata: Option<WorkloadGroupMetadata>,
        template: Option<WorkloadEntry>,
        probe: Option<ReadinessProbe>,
    }

    /// Metadata given to the WorkloadEntries made.
    pub struct WorkloadGroupMetadata {
        #[schemars(extend("maxProperties" = 256))]
        labels: BTreeMap<String, String>,
        #[schemars(extend("maxProperties" = 256))]
        annotations: BTreeMap<String, String>,
    }

    /// How an instance's health is asked; times in seconds.
    #[schemars(extend(
        "x-oneof" = [["httpGet", "tcpSocket", "exec", "grpc"]],
        "x-kubernetes-validations" = crate::cel::rules(&[crate::cel::SOME_METHOD])
    ))]
    pub struct ReadinessProbe {
        #[schemars(range(min = 0))]
        initial_delay_seconds: i32,
        #[schemars(range(min = 0))]
        timeout_seconds: i32,
        #[schemars(range(min = 0))]
        period_seconds: i32,
        #[schemars(range(min = 0))]
        success_threshold: i32,
        #[schemars(range(min = 0))]
        failure_threshold: i32,
        http_get: Option<HttpHealthCheckConfig>,
        tcp_socket: Option<TcpHealthCheckConfig>,
        exec: Option<ExecHealthCheckConfig>,
        grpc: Option<GrpcHealthCheckConfig>,
    }

    /// Healthy when a GET is answered with 200 to 399.
    #[schemars(extend("required" = ["port"]))]
    pub struct HttpHealthCheckConfig {
        path: String,
        #[schemars(range(min = 1, max = 65535))]
        port: u32,
        host: String,
        #[schemars(extend("x-kubernetes-validations" = crate::cel::rules(&[crate::cel::HTTP_SCHEME])))]
        scheme: String,
        http_headers: Vec<HttpHeader>,
    }

    /// A header of the probe's request.
    pub struct HttpHeader {
        #[schemars(regex(pattern = r"^[-_A-Za-z0-9]+$"))]
        name: String,
        value: String,
    }

    /// Healthy when a connection can be made.
    #[schemars(extend("required" = ["port"]))]
    pub struct TcpHealthCheckConfig {
        host: String,
        #[schemars(range(min = 1, max = 65535))]
        port: u32,
    }

    /// Healthy when a command exits with 0.
    #[schemars(extend("required" = ["command"]))]
    pub struct ExecHealthCheckConfig {
        #[schemars(inner(length(min = 1)))]
        command: Vec<String>,
    }

    /// Healthy when gRPC's health service says so.
    pub struct GrpcHealthCheckConfig {
        port: u32,
        service: String,
    }
}
