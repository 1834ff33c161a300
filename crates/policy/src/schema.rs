//! The fields of templates, as tables: which there are, and of which type an expression must be that fills one. From the
//! `template.proto` of each template in Istio 1.4 (istio.io, "Policies and Telemetry: Templates").

use expr::ValueType;

/// What a field takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FieldType {
    /// Text of any kind: STRING, EMAIL_ADDRESS, URI, DNS_NAME.
    Text,
    /// A value of exactly this type.
    Exactly(ValueType),
    /// A value of any type but STRING_MAP.
    Value,
    /// Values of any type by names of the user's own.
    Values,
    /// Fields of its own.
    Message(&'static [Field]),
}

/// A field of a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Field {
    /// In camelCase, as protobuf's JSON has it.
    pub(crate) name: &'static str,
    pub(crate) ty: FieldType,
    pub(crate) required: bool,
}

const fn field(name: &'static str, ty: FieldType) -> Field {
    Field {
        name,
        ty,
        required: false,
    }
}

const fn required(name: &'static str, ty: FieldType) -> Field {
    Field {
        name,
        ty,
        required: true,
    }
}

use FieldType::{Exactly, Message, Text, Value, Values};

const LIST_ENTRY: &[Field] = &[required("value", Value)];
const QUOTA: &[Field] = &[field("dimensions", Values)];
const METRIC: &[Field] = &[
    required("value", Value),
    field("dimensions", Values),
    field("monitoredResourceType", Text),
    field("monitoredResourceDimensions", Values),
];
const LOG_ENTRY: &[Field] = &[
    field("variables", Values),
    field("timestamp", Exactly(ValueType::Timestamp)),
    field("severity", Text),
    field("monitoredResourceType", Text),
    field("monitoredResourceDimensions", Values),
];
const API_KEY: &[Field] = &[
    field("api", Text),
    field("apiVersion", Text),
    field("apiOperation", Text),
    required("apiKey", Text),
    field("timestamp", Exactly(ValueType::Timestamp)),
];
const SUBJECT: &[Field] = &[
    field("user", Text),
    field("groups", Text),
    field("properties", Values),
];
const ACTION: &[Field] = &[
    field("namespace", Text),
    field("service", Text),
    field("method", Text),
    field("path", Text),
    field("properties", Values),
];
const AUTHORIZATION: &[Field] = &[
    field("subject", Message(SUBJECT)),
    field("action", Message(ACTION)),
];
const TRACE_SPAN: &[Field] = &[
    required("traceId", Text),
    field("spanId", Text),
    field("parentSpanId", Text),
    required("spanName", Text),
    required("startTime", Exactly(ValueType::Timestamp)),
    required("endTime", Exactly(ValueType::Timestamp)),
    field("spanTags", Values),
    field("httpStatusCode", Exactly(ValueType::Int64)),
    field("clientSpan", Exactly(ValueType::Bool)),
    field("rewriteClientSpanId", Exactly(ValueType::Bool)),
    field("sourceName", Text),
    field("sourceIp", Exactly(ValueType::IpAddress)),
    field("destinationName", Text),
    field("destinationIp", Exactly(ValueType::IpAddress)),
    field("requestSize", Exactly(ValueType::Int64)),
    field("requestTotalSize", Exactly(ValueType::Int64)),
    field("responseSize", Exactly(ValueType::Int64)),
    field("responseTotalSize", Exactly(ValueType::Int64)),
    field("apiProtocol", Text),
];
const EDGE: &[Field] = &[
    field("timestamp", Exactly(ValueType::Timestamp)),
    field("sourceWorkloadNamespace", Text),
    field("sourceWorkloadName", Text),
    field("sourceOwner", Text),
    field("sourceUid", Text),
    field("destinationWorkloadNamespace", Text),
    field("destinationWorkloadName", Text),
    field("destinationOwner", Text),
    field("destinationUid", Text),
    field("destinationServiceNamespace", Text),
    field("destinationServiceName", Text),
    field("contextProtocol", Text),
    field("apiProtocol", Text),
];
const KUBERNETES: &[Field] = &[
    field("sourceUid", Text),
    field("sourceIp", Exactly(ValueType::IpAddress)),
    field("destinationUid", Text),
    field("destinationIp", Exactly(ValueType::IpAddress)),
    field("destinationPort", Exactly(ValueType::Int64)),
    field("originUid", Text),
    field("originIp", Exactly(ValueType::IpAddress)),
];

/// The templates built in.
const TEMPLATES: [(&str, &[Field]); 11] = [
    ("checknothing", &[]),
    ("reportnothing", &[]),
    ("listentry", LIST_ENTRY),
    ("quota", QUOTA),
    ("metric", METRIC),
    ("logentry", LOG_ENTRY),
    ("apikey", API_KEY),
    ("authorization", AUTHORIZATION),
    ("tracespan", TRACE_SPAN),
    ("edge", EDGE),
    ("kubernetes", KUBERNETES),
];

/// A built-in template's own name and its fields.
pub(crate) fn template(name: &str) -> Option<(&'static str, &'static [Field])> {
    TEMPLATES.into_iter().find(|(known, _)| *known == name)
}
