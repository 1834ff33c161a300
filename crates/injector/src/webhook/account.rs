//! The judge of reviews with its account: metrics under Istio's names, and the log.

use std::sync::Arc;
use std::time::Duration;

use admission::review::{Request, Reviewed, Verdict};
use admission::server::Judge;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use runtime::Metrics;

use super::Ground;
use super::judge::{Outcome, judge};

/// Upper bounds in seconds.
const SECONDS: [f64; 8] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StatusLabel {
    status: u16,
}

/// Decides by what is in force at the time, and counts.
pub struct Accountant {
    ground: Arc<Ground>,
    requests: Counter,
    injected: Counter,
    skipped: Counter,
    refused: Counter,
    errors: Family<StatusLabel, Counter>,
    seconds: Histogram,
}

impl Accountant {
    /// A judge that has decided nothing yet.
    #[must_use]
    pub fn new(ground: Arc<Ground>, metrics: &Metrics) -> Self {
        Self {
            ground,
            requests: metrics.counter(
                "sidecar_injection_requests_total",
                "Pods that the webhook was asked about",
            ),
            injected: metrics.counter("sidecar_injection_success_total", "Pods that got a proxy"),
            skipped: metrics.counter("sidecar_injection_skip_total", "Pods that stay without a proxy"),
            refused: metrics.counter(
                "sidecar_injection_failure_total",
                "Pods that were refused because they cannot have the proxy that they ask for",
            ),
            errors: metrics.family(
                "injector_http_errors_total",
                "Requests to the webhook that were no review, by HTTP status",
            ),
            seconds: metrics.histogram(
                "sidecar_injection_time_seconds",
                "Seconds from a whole request to its answer",
                &SECONDS,
            ),
        }
    }

    fn count(&self, outcome: Outcome) {
        let counter = match outcome {
            Outcome::Ignored => return,
            Outcome::Injected => &self.injected,
            Outcome::Skipped => &self.skipped,
            Outcome::Refused => &self.refused,
        };
        self.requests.inc();
        counter.inc();
    }
}

impl Judge for Accountant {
    fn judge(&self, path: &str, request: &mut Request) -> Verdict {
        let (settings, objects) = (self.ground.settings.load(), self.ground.objects.load());
        let judged = judge(path, request, &settings, &objects);
        self.count(judged.outcome);
        judged.verdict
    }

    fn answered(&self, reviewed: &Reviewed, took: Duration) {
        self.seconds.observe(took.as_secs_f64());
        if let Some(refused) = &reviewed.verdict.refused {
            tracing::warn!("refused {}", refused.message);
        }
    }

    fn failed(&self, status: u16) {
        self.errors.get_or_create(&StatusLabel { status }).inc();
    }
}
