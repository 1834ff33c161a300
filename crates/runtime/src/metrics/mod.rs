//! Metrics: one registry for the process, made on start and passed in, written as Prometheus text.
//!
//! It knows nothing of HTTP (see [`crate::admin`]); its own metrics are the build's version and the process's figures.

mod process;

use std::any::Any;
use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric, text};
use prometheus_client::metrics::TypedMetric;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// The content type of [`Metrics::encode`]'s text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Label of metrics that several services of one process share.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ServiceLabel {
    /// The service's name, such as `pilot`.
    pub service: &'static str,
}

/// The process's metrics. Clones share them.
///
/// Asking twice for a name gives the same metric, so services in one process can share one with a `service` label. A
/// name is exposed exactly as given (a counter gets no `_total` that it does not have), so that Istio's names hold.
#[derive(Clone, Default)]
pub struct Metrics {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    registry: Registry,
    known: HashMap<String, Box<dyn Any + Send>>,
}

impl Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics")
            .field("known", &self.inner.lock().known.len())
            .finish()
    }
}

impl Metrics {
    /// A registry with the build's version in it.
    #[must_use]
    pub fn new() -> Self {
        let metrics = Self::default();
        let labels = vec![("version".to_owned(), env!("CARGO_PKG_VERSION").to_owned())];
        let build =
            metrics.family::<Vec<(String, String)>, Gauge>("argosy_build_info", "Version of this build");
        build.get_or_create(&labels).set(1);
        metrics
    }

    /// The metric of that name, registered at the first call.
    ///
    /// A name that is taken by another type is a fault of the program: it is logged, and the returned metric counts but
    /// is not exposed.
    pub fn register<M>(&self, name: &str, help: &str, metric: M) -> M
    where
        M: EncodeMetric + TypedMetric + Clone + Debug + Send + Sync + 'static,
    {
        let mut inner = self.inner.lock();
        if let Some(known) = inner.known.get(name) {
            return known.downcast_ref::<M>().cloned().unwrap_or_else(|| {
                tracing::error!(name, "metric is registered with two types");
                metric
            });
        }
        inner.registry.register(name, help, metric.clone());
        inner.known.insert(name.to_owned(), Box::new(metric.clone()));
        metric
    }

    /// A counter without labels.
    #[must_use]
    pub fn counter(&self, name: &str, help: &str) -> Counter {
        self.register(name, help, Counter::default())
    }

    /// A gauge without labels.
    #[must_use]
    pub fn gauge(&self, name: &str, help: &str) -> Gauge {
        self.register(name, help, Gauge::default())
    }

    /// A histogram without labels; `bounds` are the buckets' upper bounds, in the metric's unit.
    #[must_use]
    pub fn histogram(&self, name: &str, help: &str, bounds: &[f64]) -> Histogram {
        self.register(name, help, Histogram::new(bounds.iter().copied()))
    }

    /// A family of metrics that differ by labels `L`. Keep the values of labels few: each is kept for ever.
    #[must_use]
    pub fn family<L, M>(&self, name: &str, help: &str) -> Family<L, M>
    where
        L: EncodeLabelSet + Clone + Hash + Eq + Debug + Send + Sync + 'static,
        M: EncodeMetric + TypedMetric + Default + Debug + Send + Sync + 'static,
    {
        self.register(name, help, Family::default())
    }

    /// Everything, in Prometheus' text format ([`CONTENT_TYPE`]).
    #[must_use]
    pub fn encode(&self) -> String {
        let mut open_metrics = String::new();
        // Writing to a String does not fail; a metric that cannot write itself loses its lines only.
        let _ = text::encode(&mut open_metrics, &self.inner.lock().registry);
        to_prometheus(&open_metrics) + &process::text()
    }
}

/// OpenMetrics puts `_total` behind each counter's name and ends with `# EOF`; Prometheus' own format does neither.
fn to_prometheus(open_metrics: &str) -> String {
    let mut out = String::with_capacity(open_metrics.len());
    let mut counter = None;
    for line in open_metrics.lines() {
        if line == "# EOF" || line.starts_with("# UNIT ") {
            continue;
        }
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            counter = rest.strip_suffix(" counter");
        }
        let sample = counter.and_then(|name| Some((name, line.strip_prefix(name)?.strip_prefix("_total")?)));
        match sample {
            Some((name, rest)) => out.extend([name, rest, "\n"]),
            None => out.extend([line, "\n"]),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_exposed_as_given() {
        let metrics = Metrics::new();
        metrics.counter("citadel_server_csr_count", "Requests").inc();
        metrics.counter("istio_requests_total", "Requests").inc_by(2);
        metrics.histogram("seconds", "Time", &[0.5]).observe(0.1);
        let family = metrics.family::<ServiceLabel, Counter>("argosy_x_total", "X");
        family.get_or_create(&ServiceLabel { service: "pilot" }).inc();
        let text = metrics.encode();
        let lines: Vec<&str> = text.lines().collect();
        for expected in [
            "# TYPE citadel_server_csr_count counter",
            "citadel_server_csr_count 1",
            "istio_requests_total 2",
            "argosy_x_total{service=\"pilot\"} 1",
            "seconds_bucket{le=\"0.5\"} 1",
            "seconds_count 1",
        ] {
            assert!(lines.contains(&expected), "no line {expected} in\n{text}");
        }
        assert!(!text.contains("EOF") && !text.contains("total_total"), "{text}");
    }

    #[test]
    fn a_name_asked_for_twice_is_one_metric() {
        let metrics = Metrics::new();
        let clone = metrics.clone();
        metrics.counter("a", "A").inc();
        clone.counter("a", "A").inc();
        assert_eq!(
            metrics
                .encode()
                .lines()
                .filter(|l| l.starts_with("a "))
                .collect::<Vec<_>>(),
            ["a 2"]
        );
        metrics.gauge("a", "other type").set(9);
        assert!(metrics.encode().contains("a 2\n"));
    }
}
