//! The templates that are built in. Their fields are tables: which there are, and of which type an expression must be that
//! fills one. From the `template.proto` of each template in Istio 1.4 (istio.io, "Policies and Telemetry: Templates").

mod own;
mod record;

use std::borrow::Cow;

use expr::{ValueType, Vocabulary};
use serde_json::{Map, Value as Json};

pub use own::{OwnError, OwnTemplate, Variety, method};
pub use record::{Record, Slot};

use crate::adapters::Problem;

/// What a field takes.
#[derive(Clone, Debug, PartialEq, Eq)]
enum FieldType {
    /// Text of any kind: STRING, EMAIL_ADDRESS, URI, DNS_NAME.
    Text,
    /// A value of exactly this type.
    Exactly(ValueType),
    /// A value of any type but STRING_MAP.
    Value,
    /// Values of any type by names of the user's own.
    Values,
    /// Values of exactly this type (for text: of any kind of it) by names of the user's own.
    Each(ValueType),
    /// Fields of its own.
    Message(Fields),
}

/// The fields of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Fields {
    /// Of a template that is built in.
    Known(&'static [Field]),
    /// Of one that is not.
    Own(Vec<Field>),
}

impl Fields {
    fn all(&self) -> &[Field] {
        match self {
            Self::Known(fields) => fields,
            Self::Own(fields) => fields,
        }
    }
}

/// A field of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Field {
    /// In camelCase, as protobuf's JSON has it.
    name: Cow<'static, str>,
    ty: FieldType,
    required: bool,
}

const fn field(name: &'static str, ty: FieldType) -> Field {
    Field {
        name: Cow::Borrowed(name),
        ty,
        required: false,
    }
}

const fn required(name: &'static str, ty: FieldType) -> Field {
    Field {
        name: Cow::Borrowed(name),
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
    field("subject", Message(Fields::Known(SUBJECT))),
    field("action", Message(Fields::Known(ACTION))),
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

/// The name and the fields of the template that `name` means; one that is an object may be named with its namespace.
fn find(name: &str) -> Option<(&'static str, &'static [Field])> {
    let short = name.split('.').next().unwrap_or_default();
    TEMPLATES.into_iter().find(|(known, _)| *known == short)
}

/// Whether a template of that name is served: `logentry`, or `logentry.istio-system`.
pub fn is_served(name: &str) -> bool {
    find(name).is_some()
}

/// Reads an instance's parameters: the template's own name, and the expressions that fill it.
///
/// # Errors
/// All that is wrong, each at its parameter; a template that is not served, at none.
pub fn read(
    name: &str,
    params: &Map<String, Json>,
    vocabulary: &dyn Vocabulary,
) -> Result<(&'static str, Record), Vec<Problem>> {
    let (template, fields) =
        find(name).ok_or_else(|| vec![Problem::new("", format!("there is no template {name}"))])?;
    let mut problems = Vec::new();
    let record = Record::read(fields, params, vocabulary, &mut problems);
    if template == "metric" {
        problems.extend(number(&record));
    }
    match problems.is_empty() {
        true => Ok((template, record)),
        false => Err(problems),
    }
}

/// A metric's value must be a number; Istio writes the value of a counter as the text "1".
fn number(record: &Record) -> Option<Problem> {
    use expr::ValueType::{Double, Duration, Int64, String};
    match record.one("value")?.ty() {
        Int64 | Double | Duration | String => None,
        ty => Some(Problem::new(
            "value",
            format!("is {ty}, but must be a number or a DURATION"),
        )),
    }
}
