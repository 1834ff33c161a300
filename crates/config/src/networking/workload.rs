//! WorkloadEntry: one instance of a service outside Kubernetes' pods.

use std::collections::BTreeMap;

use crate::api::api;

api! {
    /// One workload instance and where to reach it.
    pub struct WorkloadEntry {
        /// IP, DNS name (with a DNS resolution) or Unix socket `unix:///…`.
        address: String,
        /// Port numbers by the service's port names.
        ports: BTreeMap<String, u32>,
        labels: BTreeMap<String, String>,
        network: String,
        /// `region/zone/subzone`.
        locality: String,
        weight: u32,
        service_account: String,
    }

    /// Selects workloads by labels: networking's form, under `labels`.
    pub struct LabelsSelector {
        labels: BTreeMap<String, String>,
    }
}
