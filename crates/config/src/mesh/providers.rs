//! Extension providers of MeshConfig: external authorizers, tracers, metrics and access logs.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::OpenCensusTraceContext;
use crate::Duration;
use crate::api::{api, api_enum};

api! {
    /// A provider by name; exactly one of its kinds is set.
    #[schemars(extend("x-oneof" = [[
        "envoyExtAuthzHttp", "envoyExtAuthzGrpc", "zipkin", "lightstep", "datadog", "stackdriver", "opencensus",
        "skywalking", "opentelemetry", "prometheus", "envoyFileAccessLog", "envoyHttpAls", "envoyTcpAls",
        "envoyOtelAls", "sds"
    ]]))]
    pub struct ExtensionProvider {
        name: String,
        envoy_ext_authz_http: Option<ExtAuthzHttpProvider>,
        envoy_ext_authz_grpc: Option<ExtAuthzGrpcProvider>,
        zipkin: Option<ZipkinProvider>,
        lightstep: Option<TokenTracerProvider>,
        datadog: Option<DatadogProvider>,
        stackdriver: Option<StackdriverProvider>,
        opencensus: Option<OpenCensusProvider>,
        skywalking: Option<SkyWalkingProvider>,
        opentelemetry: Option<OpenTelemetryProvider>,
        prometheus: Option<PrometheusProvider>,
        envoy_file_access_log: Option<FileAccessLogProvider>,
        envoy_http_als: Option<HttpGrpcLogProvider>,
        envoy_tcp_als: Option<TcpGrpcLogProvider>,
        envoy_otel_als: Option<OpenTelemetryLogProvider>,
        sds: Option<SdsProvider>,
    }

    /// How much of a request's body an authorizer sees.
    pub struct ExtAuthzRequestBody {
        max_request_bytes: u32,
        allow_partial_message: bool,
        pack_as_bytes: bool,
    }

    /// An authorizer that speaks HTTP.
    pub struct ExtAuthzHttpProvider {
        service: String,
        port: u32,
        timeout: Option<Duration>,
        path_prefix: String,
        fail_open: bool,
        clear_route_cache: bool,
        status_on_error: String,
        /// Deprecated by `includeRequestHeadersInCheck`.
        include_headers_in_check: Vec<String>,
        include_request_headers_in_check: Vec<String>,
        include_additional_headers_in_check: BTreeMap<String, String>,
        include_request_body_in_check: Option<ExtAuthzRequestBody>,
        headers_to_upstream_on_allow: Vec<String>,
        headers_to_downstream_on_deny: Vec<String>,
        headers_to_downstream_on_allow: Vec<String>,
    }

    /// An authorizer that speaks Envoy's ext_authz over gRPC.
    pub struct ExtAuthzGrpcProvider {
        service: String,
        port: u32,
        timeout: Option<Duration>,
        fail_open: bool,
        clear_route_cache: bool,
        status_on_error: String,
        include_request_body_in_check: Option<ExtAuthzRequestBody>,
    }

    /// Zipkin.
    pub struct ZipkinProvider {
        service: String,
        port: u32,
        max_tag_length: u32,
        enable_64bit_trace_id: bool,
        path: String,
        trace_context_option: ZipkinTraceContext,
        timeout: Option<Duration>,
        headers: Vec<HttpHeader>,
    }

    /// Lightstep (deprecated).
    pub struct TokenTracerProvider {
        service: String,
        port: u32,
        access_token: String,
        max_tag_length: u32,
    }

    /// Datadog.
    pub struct DatadogProvider {
        service: String,
        port: u32,
        max_tag_length: u32,
    }

    /// SkyWalking.
    pub struct SkyWalkingProvider {
        service: String,
        port: u32,
        access_token: String,
    }

    /// Stackdriver.
    pub struct StackdriverProvider {
        debug: bool,
        max_number_of_attributes: Option<i64>,
        max_number_of_annotations: Option<i64>,
        max_number_of_message_events: Option<i64>,
        max_tag_length: u32,
        logging: Option<StackdriverLogging>,
    }

    /// Labels of log entries.
    pub struct StackdriverLogging {
        labels: BTreeMap<String, String>,
    }

    /// OpenCensus (deprecated).
    pub struct OpenCensusProvider {
        service: String,
        port: u32,
        context: Vec<OpenCensusTraceContext>,
        max_tag_length: u32,
    }

    /// Metrics for Prometheus to scrape.
    pub struct PrometheusProvider {}

    /// Access log into a file.
    pub struct FileAccessLogProvider {
        path: String,
        log_format: Option<LogFormat>,
        omit_empty_values: bool,
    }

    /// Form of a log entry: text or named values.
    #[schemars(extend("x-oneof" = [["text", "labels"]]))]
    pub struct LogFormat {
        text: Option<String>,
        labels: Option<Map<String, Value>>,
    }

    /// Form of an OpenTelemetry log entry: a body and named values.
    pub struct OpenTelemetryLogFormat {
        text: String,
        labels: Option<Map<String, Value>>,
    }

    /// Envoy's access log service for HTTP.
    pub struct HttpGrpcLogProvider {
        service: String,
        port: u32,
        log_name: String,
        filter_state_objects_to_log: Vec<String>,
        additional_request_headers_to_log: Vec<String>,
        additional_response_headers_to_log: Vec<String>,
        additional_response_trailers_to_log: Vec<String>,
    }

    /// Envoy's access log service for TCP.
    pub struct TcpGrpcLogProvider {
        service: String,
        port: u32,
        log_name: String,
        filter_state_objects_to_log: Vec<String>,
    }

    /// Access log to an OpenTelemetry collector.
    pub struct OpenTelemetryLogProvider {
        service: String,
        port: u32,
        log_name: String,
        log_format: Option<OpenTelemetryLogFormat>,
    }

    /// Traces to an OpenTelemetry collector.
    #[schemars(extend("x-oneof" = [["http", "grpc"]]))]
    pub struct OpenTelemetryProvider {
        service: String,
        port: u32,
        max_tag_length: u32,
        http: Option<HttpService>,
        grpc: Option<GrpcService>,
        resource_detectors: Option<ResourceDetectors>,
        service_attribute_enrichment: ServiceAttributeEnrichment,
        dynatrace_sampler: Option<DynatraceSampler>,
    }

    /// Dynatrace's sampler.
    pub struct DynatraceSampler {
        tenant: String,
        cluster_id: i32,
        root_spans_per_minute: u32,
        http_service: Option<DynatraceApi>,
    }

    /// Dynatrace's API.
    pub struct DynatraceApi {
        service: String,
        port: u32,
        http: Option<HttpService>,
    }

    /// Credentials served by a service over SDS.
    pub struct SdsProvider {
        name: String,
        service: String,
        port: u32,
    }

    /// A collector that speaks HTTP.
    pub struct HttpService {
        path: String,
        timeout: Option<Duration>,
        headers: Vec<HttpHeader>,
    }

    /// A header given or taken from the proxy's environment.
    #[schemars(extend("x-oneof" = [["value", "envName"]]))]
    pub struct HttpHeader {
        name: String,
        value: Option<String>,
        env_name: Option<String>,
    }

    /// Where a trace's resource attributes come from.
    pub struct ResourceDetectors {
        environment: Option<EmptyDetector>,
        dynatrace: Option<EmptyDetector>,
    }

    /// A detector without settings.
    pub struct EmptyDetector {}

    /// A collector that speaks gRPC.
    pub struct GrpcService {
        timeout: Option<Duration>,
        initial_metadata: Vec<HttpHeader>,
    }
}

api_enum! {
    /// Headers in which Zipkin's context travels.
    pub enum ZipkinTraceContext {
        #[default]
        UseB3 = "USE_B3",
        UseB3WithW3c = "USE_B3_WITH_W3C_PROPAGATION",
    }

    /// Which attributes describe the service.
    pub enum ServiceAttributeEnrichment {
        #[default]
        IstioCanonical = "ISTIO_CANONICAL",
        OtelSemanticConventions = "OTEL_SEMANTIC_CONVENTIONS",
    }
}
