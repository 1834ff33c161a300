//! ProxyConfig: settings of the proxies of a namespace or of chosen workloads.

use std::collections::BTreeMap;

use crate::api::api;
use crate::selector::WorkloadSelector;

api! {
    /// Settings of the proxies that `selector` chooses.
    pub struct ProxyConfig {
        selector: Option<WorkloadSelector>,
        /// Worker threads; 0 is one for each CPU.
        #[schemars(range(min = 0))]
        concurrency: Option<i32>,
        #[schemars(extend("additionalProperties" = {"type": "string", "maxLength": 2048}))]
        environment_variables: BTreeMap<String, String>,
        image: Option<ProxyImage>,
    }

    /// Which image the proxy runs.
    pub struct ProxyImage {
        image_type: String,
    }
}
