//! Tracing settings of ProxyConfig.

use std::collections::BTreeMap;

use crate::api::{api, api_enum};
use crate::networking::ClientTlsSettings;

api! {
    /// Where traces go and what they say.
    #[schemars(extend("x-oneof" = [["zipkin", "lightstep", "datadog", "stackdriver", "openCensusAgent"]]))]
    pub struct Tracing {
        zipkin: Option<TracerAddress>,
        lightstep: Option<Lightstep>,
        datadog: Option<TracerAddress>,
        stackdriver: Option<StackdriverTracer>,
        open_census_agent: Option<OpenCensusAgent>,
        custom_tags: BTreeMap<String, CustomTag>,
        max_path_tag_length: u32,
        /// Percent of requests, 0.0 to 100.0.
        sampling: f64,
        tls_settings: Option<ClientTlsSettings>,
        enable_istio_tags: Option<bool>,
    }

    /// `host:port` of a collector.
    pub struct TracerAddress {
        address: String,
    }

    /// Lightstep's collector.
    pub struct Lightstep {
        address: String,
        access_token: String,
    }

    /// Stackdriver's limits.
    pub struct StackdriverTracer {
        debug: bool,
        max_number_of_attributes: Option<i64>,
        max_number_of_annotations: Option<i64>,
        max_number_of_message_events: Option<i64>,
    }

    /// OpenCensus' agent.
    pub struct OpenCensusAgent {
        address: String,
        context: Vec<OpenCensusTraceContext>,
    }

    /// Value of a tag added to spans.
    #[schemars(extend("x-oneof" = [["literal", "environment", "header"]]))]
    pub struct CustomTag {
        literal: Option<LiteralTag>,
        environment: Option<NamedTag>,
        header: Option<NamedTag>,
    }

    /// A fixed value.
    pub struct LiteralTag {
        value: String,
    }

    /// A value taken from a named place, or its default.
    pub struct NamedTag {
        name: String,
        default_value: String,
    }
}

api_enum! {
    /// How a trace's context travels.
    pub enum OpenCensusTraceContext {
        #[default]
        Unspecified = "UNSPECIFIED",
        W3c = "W3C_TRACE_CONTEXT",
        GrpcBin = "GRPC_BIN",
        Cloud = "CLOUD_TRACE_CONTEXT",
        B3 = "B3",
    }
}
