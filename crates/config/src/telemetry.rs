//! telemetry.istio.io: what is traced, measured and logged.
#![allow(
    missing_docs,
    reason = "fields are named and described by Istio's API reference; only the unobvious is noted"
)]

use std::collections::BTreeMap;

use crate::Duration;
use crate::api::{api, api_enum};
use crate::selector::{PolicyTargetReference, WorkloadSelector};

api! {
    /// Telemetry of the workloads that `selector` chooses.
    #[schemars(extend("x-kubernetes-validations" = crate::cel::rules(&[crate::cel::ATTACHED_ONCE])))]
    pub struct Telemetry {
        selector: Option<WorkloadSelector>,
        target_ref: Option<PolicyTargetReference>,
        #[schemars(length(max = 16))]
        target_refs: Vec<PolicyTargetReference>,
        tracing: Vec<Tracing>,
        metrics: Vec<Metrics>,
        access_logging: Vec<AccessLogging>,
    }

    /// What is traced.
    pub struct Tracing {
        r#match: Option<ModeSelector>,
        providers: Vec<ProviderRef>,
        /// Percent of requests, 0.0 to 100.0.
        #[schemars(range(min = 0, max = 100))]
        random_sampling_percentage: Option<f64>,
        disable_span_reporting: Option<bool>,
        custom_tags: BTreeMap<String, CustomTag>,
        use_request_id_for_trace_sampling: Option<bool>,
        enable_istio_tags: Option<bool>,
        disable_context_propagation: Option<bool>,
    }

    /// Which side of a connection.
    pub struct ModeSelector {
        mode: Mode,
    }

    /// Value of a tag added to spans.
    #[schemars(extend("x-oneof" = [["literal", "environment", "header", "formatter"]]))]
    pub struct CustomTag {
        literal: Option<TagValue>,
        environment: Option<NamedTag>,
        header: Option<NamedTag>,
        formatter: Option<TagValue>,
    }

    /// A fixed value, or a format string of Envoy.
    #[schemars(extend("required" = ["value"]))]
    pub struct TagValue {
        #[schemars(length(min = 1))]
        value: String,
    }

    /// A value taken from a named place, or its default.
    #[schemars(extend("required" = ["name"]))]
    pub struct NamedTag {
        #[schemars(length(min = 1))]
        name: String,
        default_value: String,
    }

    /// A provider of MeshConfig by name.
    #[schemars(extend("required" = ["name"]))]
    pub struct ProviderRef {
        #[schemars(length(min = 1))]
        name: String,
    }

    /// What is measured.
    pub struct Metrics {
        providers: Vec<ProviderRef>,
        overrides: Vec<MetricsOverrides>,
        reporting_interval: Option<Duration>,
    }

    /// Which metric.
    #[schemars(extend("x-oneof" = [["metric", "customMetric"]]))]
    pub struct MetricSelector {
        metric: Option<IstioMetric>,
        #[schemars(length(min = 1))]
        custom_metric: Option<String>,
        mode: Mode,
    }

    /// A change of a metric.
    pub struct MetricsOverrides {
        r#match: Option<MetricSelector>,
        disabled: Option<bool>,
        tag_overrides: BTreeMap<String, TagOverride>,
    }

    /// A change of a metric's tag; the value is a CEL expression.
    #[schemars(extend("x-kubernetes-validations" = crate::cel::rules(&[crate::cel::TAG_VALUE])))]
    pub struct TagOverride {
        operation: TagOperation,
        value: String,
    }

    /// What is logged.
    pub struct AccessLogging {
        r#match: Option<ModeSelector>,
        providers: Vec<ProviderRef>,
        disabled: Option<bool>,
        filter: Option<AccessLogFilter>,
    }

    /// A CEL expression that chooses what is logged.
    pub struct AccessLogFilter {
        expression: String,
    }
}

api_enum! {
    /// Which side of a connection.
    pub enum Mode {
        #[default]
        ClientAndServer = "CLIENT_AND_SERVER",
        Client = "CLIENT",
        Server = "SERVER",
    }

    /// Istio's metrics.
    pub enum IstioMetric {
        #[default]
        AllMetrics = "ALL_METRICS",
        RequestCount = "REQUEST_COUNT",
        RequestDuration = "REQUEST_DURATION",
        RequestSize = "REQUEST_SIZE",
        ResponseSize = "RESPONSE_SIZE",
        TcpOpenedConnections = "TCP_OPENED_CONNECTIONS",
        TcpClosedConnections = "TCP_CLOSED_CONNECTIONS",
        TcpSentBytes = "TCP_SENT_BYTES",
        TcpReceivedBytes = "TCP_RECEIVED_BYTES",
        GrpcRequestMessages = "GRPC_REQUEST_MESSAGES",
        GrpcResponseMessages = "GRPC_RESPONSE_MESSAGES",
    }

    /// How a tag is changed.
    pub enum TagOperation {
        #[default]
        Upsert = "UPSERT",
        Remove = "REMOVE",
    }
}
