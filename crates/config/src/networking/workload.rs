//! WorkloadEntry: one instance of a service outside Kubernetes' pods.

use std::collections::BTreeMap;

use crate::api::api;

api! {
    /// One workload instance and where to reach it.
    #[schemars(extend("x-kubernetes-validations" = crate::cel::rules(&[crate::cel::SOCKET_WITHOUT_PORTS])))]
    pub struct WorkloadEntry {
        /// IP, DNS name (with a DNS resolution) or Unix socket `unix:///…`.
        #[schemars(length(max = 256), extend("x-kubernetes-validations" = crate::cel::rules(&[crate::cel::SOCKET])))]
        address: String,
        /// Port numbers by the service's port names.
        #[schemars(extend(
            "maxProperties" = 128,
            "additionalProperties" = {"type": "integer", "format": "uint32", "minimum": 1, "maximum": 65535},
            "x-kubernetes-validations" = crate::cel::rules(&[crate::cel::PORT_NAMES])
        ))]
        ports: BTreeMap<String, u32>,
        #[schemars(extend("maxProperties" = 256))]
        labels: BTreeMap<String, String>,
        #[schemars(length(max = 2048))]
        network: String,
        /// `region/zone/subzone`.
        #[schemars(length(max = 2048))]
        locality: String,
        weight: u32,
        #[schemars(length(max = 253))]
        service_account: String,
    }

    /// Selects workloads by labels: networking's form, under `labels`.
    pub struct LabelsSelector {
        #[schemars(extend(
            "maxProperties" = 256, "additionalProperties" = crate::selector::label_values(),
            "x-kubernetes-validations" = crate::cel::rules(&[crate::cel::PLAIN_KEYS])
        ))]
        labels: BTreeMap<String, String>,
    }
}
