//! Galley as the judge of reviews: its rules, and its account of them in metrics and log.

use std::time::Duration;

use admission::server::Judge;
use config::Kind;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use runtime::Metrics;

use super::judge::judge;
use super::review::{Request, Reviewed, Verdict};

/// Where reviews come to.
pub const PATH: &str = "/validate";

/// Upper bounds in seconds.
const SECONDS: [f64; 8] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    group: String,
    resource: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StatusLabel {
    status: u16,
}

/// The rules, and counters under Istio's names where Istio has one.
pub struct Rules {
    passed: Family<KindLabel, Counter>,
    failed: Family<KindLabel, Counter>,
    errors: Family<StatusLabel, Counter>,
    seconds: Histogram,
}

impl Rules {
    /// Rules that have decided nothing yet.
    #[must_use]
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            passed: metrics.family(
                "galley_validation_passed",
                "Objects that the admission webhook let pass",
            ),
            failed: metrics.family(
                "galley_validation_failed",
                "Objects that the admission webhook refused",
            ),
            errors: metrics.family(
                "galley_validation_http_error",
                "Requests to the admission webhook that were no review, by HTTP status",
            ),
            seconds: metrics.histogram(
                "galley_validation_seconds",
                "Seconds from a whole request to its answer",
                &SECONDS,
            ),
        }
    }
}

impl Judge for Rules {
    fn judge(&self, _path: &str, request: &mut Request) -> Verdict {
        judge(request)
    }

    fn answered(&self, reviewed: &Reviewed, took: Duration) {
        self.seconds.observe(took.as_secs_f64());
        let asked = &reviewed.request.kind;
        // Labels stay for ever, so what a caller may invent is no label.
        let kind = Kind::find(&asked.group, &asked.kind);
        let label = KindLabel {
            group: kind.map_or("other", Kind::group).to_owned(),
            resource: kind.map_or("other", Kind::plural),
        };
        match &reviewed.verdict.refused {
            None => _ = self.passed.get_or_create(&label).inc(),
            Some(refused) => {
                self.failed.get_or_create(&label).inc();
                tracing::info!(
                    operation = reviewed.request.operation,
                    "refused {}",
                    refused.message
                );
            }
        }
    }

    fn failed(&self, status: u16) {
        self.errors.get_or_create(&StatusLabel { status }).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_and_failures_are_counted_and_invented_kinds_are_not_told_apart() {
        let metrics = Metrics::new();
        let rules = Rules::new(&metrics);
        rules.failed(400);
        for kind in ["Sidecar", "Invented"] {
            let body = format!(
                r#"{{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{{"operation":"DELETE","kind":{{"group":"networking.istio.io","kind":"{kind}"}}}}}}"#
            );
            let reviewed = super::super::review::answer(body.as_bytes()).unwrap();
            rules.answered(&reviewed, Duration::from_millis(1));
        }
        let text = metrics.encode();
        for counted in [
            "galley_validation_http_error{status=\"400\"} 1",
            "galley_validation_passed{group=\"networking.istio.io\",resource=\"sidecars\"} 1",
            "galley_validation_passed{group=\"other\",resource=\"other\"} 1",
        ] {
            assert!(text.contains(counted), "{counted} is not in {text}");
        }
    }
}
