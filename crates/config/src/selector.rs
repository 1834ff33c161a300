//! Selectors shared by several API groups.
#![allow(
    missing_docs,
    reason = "fields are named and described by Istio's API reference; only the unobvious is noted"
)]

use std::collections::BTreeMap;

use crate::api::{api, api_enum};

api! {
    /// Selects workloads by labels: type.istio.io's form, under `matchLabels`.
    pub struct WorkloadSelector {
        #[schemars(extend(
            "maxProperties" = 4096, "additionalProperties" = crate::selector::label_values(),
            "x-kubernetes-validations" = crate::cel::rules(&[crate::cel::PLAIN_KEYS])
        ))]
        match_labels: BTreeMap<String, String>,
    }

    /// A Gateway API object (or service) that a policy attaches to.
    #[schemars(extend("required" = ["kind", "name"]))]
    pub struct PolicyTargetReference {
        #[schemars(length(max = 253), regex(pattern = r"^$|^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"))]
        group: String,
        #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$"))]
        kind: String,
        #[schemars(length(min = 1, max = 253))]
        name: String,
        #[schemars(extend("x-kubernetes-validations" = crate::cel::rules(&[crate::cel::OWN_NAMESPACE])))]
        namespace: String,
    }

    /// A port by number.
    #[schemars(extend("required" = ["number"]))]
    pub struct PortNumber {
        #[schemars(range(min = 1, max = 65535))]
        number: u32,
    }

    /// Kubernetes' label selector.
    pub struct LabelSelector {
        match_labels: BTreeMap<String, String>,
        match_expressions: Vec<LabelSelectorRequirement>,
    }

    /// One expression of a label selector.
    pub struct LabelSelectorRequirement {
        key: String,
        /// In, NotIn, Exists or DoesNotExist.
        operator: String,
        values: Vec<String>,
    }
}

/// The schema of a selecting label's value.
pub(crate) fn label_values() -> serde_json::Value {
    serde_json::json!({"type": "string", "maxLength": 63, "x-kubernetes-validations": crate::cel::rules(&[crate::cel::PLAIN_VALUE])})
}

api_enum! {
    /// Which side of a connection a setting is for.
    pub enum WorkloadMode {
        #[default]
        Undefined = "UNDEFINED",
        Client = "CLIENT",
        Server = "SERVER",
        ClientAndServer = "CLIENT_AND_SERVER",
    }
}
