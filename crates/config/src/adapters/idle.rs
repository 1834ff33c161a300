//! Parameters of Istio's adapters that have a meaning there and none here: accepted, since configurations carry them, and
//! reported by name.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::params::{Problem, camel};

/// The parameters by adapter, as paths, and why they do nothing.
const IDLE: [(&str, &str, &str); 6] = [
    ("kubernetesenv", "kubeconfigPath", FEED),
    ("kubernetesenv", "cacheRefreshDuration", FEED),
    ("kubernetesenv", "isV18Cluster", FEED),
    (
        "memquota",
        "minDeduplicationDuration",
        "proxies' calls carry no deduplication id, and those of the Mixer API's callers are kept for 5s",
    ),
    (
        "prometheus",
        "metricsExpirationPolicy.expiryCheckIntervalDuration",
        "series are held against their expiry whenever they are read",
    ),
    ("rbac", "cacheDuration", "answers are made anew for each request"),
];
const FEED: &str = "attributes of workloads come from Galley's feed";

/// Parameters of `kubernetesenv` (adapter.kubernetesenv.config): known, and nothing to read them.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct KubernetesEnv {
    kubeconfig_path: String,
    cache_refresh_duration: Option<crate::Duration>,
    is_v18_cluster: bool,
}

/// The parameters of the adapter of that name that are given and do nothing.
pub fn idle(adapter: &str, params: &Map<String, Value>) -> Vec<Problem> {
    let known = IDLE.iter().filter(|(name, ..)| *name == adapter);
    let given = known.filter(|(_, path, _)| is_given(params, path));
    given
        .map(|(_, path, why)| Problem::new(*path, format!("has no effect: {why}; remove it")))
        .collect()
}

fn is_given(params: &Map<String, Value>, path: &str) -> bool {
    let (name, rest) = path.split_once('.').unwrap_or((path, ""));
    let mut given = params.iter().filter(|(key, _)| camel(key) == name);
    given.any(|(_, value)| match (rest, value) {
        (_, Value::Null) => false,
        ("", _) => true,
        (rest, Value::Object(inside)) => is_given(inside, rest),
        _ => false,
    })
}
