//! What Citadel counts of its dealings with the API server.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use runtime::Metrics;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Watch {
    watch: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Result {
    result: &'static str,
}

/// The metrics. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Meters {
    failures: Family<Watch, Counter>,
    reviews: Family<Result, Counter>,
    access: Family<Result, Counter>,
    pub(crate) secrets: Gauge,
    pub(crate) config_maps_written: Counter,
    pub(crate) config_maps_behind: Gauge,
}

impl Meters {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        Self {
            failures: metrics.family(
                "citadel_kubernetes_watch_failures_total",
                "Failures of watches of the Kubernetes API, by watch",
            ),
            reviews: metrics.family("citadel_token_reviews_total", "TokenReviews, by result"),
            access: metrics.family(
                "citadel_access_reviews_total",
                "SubjectAccessReviews about Secrets, by result",
            ),
            secrets: metrics.gauge("citadel_secrets", "Secrets of the cluster that are known"),
            config_maps_written: metrics.counter(
                "citadel_root_config_maps_written_total",
                "ConfigMaps with the mesh's roots that were created or corrected",
            ),
            config_maps_behind: metrics.gauge(
                "citadel_root_config_maps_behind",
                "Namespaces whose ConfigMap does not have the mesh's roots",
            ),
        }
    }

    pub(crate) fn failed(&self, watch: &'static str) {
        self.failures.get_or_create(&Watch { watch }).inc();
    }

    pub(crate) fn reviewed(&self, result: &'static str) {
        self.reviews.get_or_create(&Result { result }).inc();
    }

    pub(crate) fn accessed(&self, result: &'static str) {
        self.access.get_or_create(&Result { result }).inc();
    }
}
