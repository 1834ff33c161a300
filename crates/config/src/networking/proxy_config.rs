//! ProxyConfig: settings of the proxies of a namespace or of chosen workloads.

use std::collections::BTreeMap;

use crate::api::api;
use crate::selector::WorkloadSelector;

api! {
    /// Settings of the proxies that `selector` chooses.
    pub struct ProxyConfig {
        selector: Option<WorkloadSelector>,
        /// Worker threads; 0 is one for each CPU.
        concurrency: Option<i32>,
        environment_variables: BTreeMap<String, String>,
        image: Option<ProxyImage>,
    }

    /// Which image the proxy runs.
    pub struct ProxyImage {
        image_type: String,
    }
}
