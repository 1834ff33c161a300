//! config.istio.io: Mixer's rules, handlers, instances and attributes, and the HTTP API and quota specifications.
//! Adapter and template parameters are kept as given: their types belong to the adapters.
#![allow(
    missing_docs,
    reason = "fields are named and described by Istio's API reference; only the unobvious is noted"
)]

mod connection;
mod spec;

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::api::{api, api_enum};
pub use connection::*;
pub use spec::*;

/// Parameters whose shape the adapter or template decides.
pub type Params = Map<String, Value>;

api! {
    /// When and with which instances handlers are called.
    pub struct Rule {
        /// A CEXL predicate; empty always holds.
        r#match: String,
        actions: Vec<Action>,
        request_header_operations: Vec<HeaderOperationTemplate>,
        response_header_operations: Vec<HeaderOperationTemplate>,
        /// Whether the rule is applied; `[sampling]` bounds how often.
        sampling: Option<Sampling>,
    }

    /// Sends instances to a handler.
    pub struct Action {
        /// `name`, `name.kind` or `name.kind.namespace`.
        handler: String,
        instances: Vec<String>,
        /// Name by which the rule's header operations read the answer.
        name: String,
    }

    /// A change of a request or response header; values are CEXL.
    pub struct HeaderOperationTemplate {
        name: String,
        values: Vec<String>,
        operation: HeaderOperation,
    }

    /// How often a rule's actions are dispatched.
    pub struct Sampling {
        random: Option<RandomSampling>,
        rate_limit: Option<RateLimitSampling>,
    }

    /// Sampling by chance.
    pub struct RandomSampling {
        attribute_expression: String,
        percent_sampled: Option<FractionalPercent>,
        use_independent_randomness: bool,
    }

    /// Sampling by a rate.
    pub struct RateLimitSampling {
        sampling_duration: Option<crate::Duration>,
        max_unsampled_entries: i64,
        sampling_rate: i64,
    }

    /// A percentage as numerator and denominator.
    pub struct FractionalPercent {
        numerator: u32,
        denominator: DenominatorType,
    }

    /// An adapter with its parameters, by name.
    pub struct Handler {
        name: String,
        /// An adapter object outside the process; exclusive with `compiledAdapter`.
        adapter: String,
        /// One of the adapters built in.
        compiled_adapter: String,
        params: Params,
        connection: Option<Connection>,
    }

    /// A template filled with expressions over attributes.
    pub struct Instance {
        name: String,
        /// One of the templates built in; exclusive with `template`.
        compiled_template: String,
        template: String,
        params: Params,
        attribute_bindings: BTreeMap<String, String>,
    }

    /// Attributes that a component may produce.
    pub struct AttributeManifest {
        revision: String,
        name: String,
        attributes: BTreeMap<String, AttributeInfo>,
    }

    /// An adapter outside the process.
    pub struct Adapter {
        name: String,
        description: String,
        /// Templates that the adapter takes, each `name` or `name.namespace`.
        templates: Vec<String>,
        /// The adapter's configuration descriptor, base64.
        config: String,
        session_based: bool,
    }

    /// A template's protobuf descriptor.
    pub struct Template {
        /// Base64.
        descriptor: String,
    }

    /// An attribute's type.
    pub struct AttributeInfo {
        description: String,
        value_type: ValueType,
    }
}

api_enum! {
    /// What happens to a header.
    pub enum HeaderOperation {
        #[default]
        Replace = "REPLACE",
        Remove = "REMOVE",
        Append = "APPEND",
    }

    /// Denominator of a fractional percentage.
    pub enum DenominatorType {
        #[default]
        Hundred = "HUNDRED",
        TenThousand = "TEN_THOUSAND",
    }

    /// Types of attributes and expressions (istio.policy.v1beta1.ValueType).
    pub enum ValueType {
        #[default]
        Unspecified = "VALUE_TYPE_UNSPECIFIED",
        String = "STRING",
        Int64 = "INT64",
        Double = "DOUBLE",
        Bool = "BOOL",
        Timestamp = "TIMESTAMP",
        IpAddress = "IP_ADDRESS",
        EmailAddress = "EMAIL_ADDRESS",
        Uri = "URI",
        DnsName = "DNS_NAME",
        Duration = "DURATION",
        StringMap = "STRING_MAP",
    }
}
