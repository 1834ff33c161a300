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
        match_labels: BTreeMap<String, String>,
    }

    /// A Gateway API object (or service) that a policy attaches to.
    pub struct PolicyTargetReference {
        group: String,
        kind: String,
        name: String,
        namespace: String,
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
