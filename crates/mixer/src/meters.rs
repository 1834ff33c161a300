//! What Mixer counts about itself, on the admin port's /metrics. The metrics that users define are in `prometheus`.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use runtime::Metrics;

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Outcome {
    /// The canonical code's name: `OK`, `PERMISSION_DENIED`, ….
    pub(crate) code: &'static str,
}

/// A rule.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct RuleLabel {
    /// `NAMESPACE/NAME`.
    pub(crate) rule: String,
}

/// Why something was left out.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Reason {
    pub(crate) reason: &'static str,
}

/// How bad a finding is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct SeverityLabel {
    pub(crate) severity: String,
}

/// What is counted about TCP connections whose totals are remembered.
#[derive(Debug, Clone, Default)]
pub(crate) struct Connections {
    /// How many there are.
    pub(crate) open: Gauge,
    /// Those forgotten or never remembered, by why.
    pub(crate) lost: Family<Reason, Counter>,
}

/// Mixer's own metrics.
#[derive(Debug, Clone)]
pub(crate) struct Meters {
    pub(crate) checks: Family<Outcome, Counter>,
    pub(crate) check_seconds: Histogram,
    pub(crate) quotas: Family<Outcome, Counter>,
    pub(crate) reports: Counter,
    pub(crate) reports_dropped: Counter,
    pub(crate) connections: Connections,
    pub(crate) samples_dropped: Family<Reason, Counter>,
    pub(crate) rule_errors: Family<RuleLabel, Counter>,
    pub(crate) rules: Gauge,
    pub(crate) workloads: Gauge,
    pub(crate) series: Gauge,
    pub(crate) quota_windows: Gauge,
    pub(crate) quota_store_errors: Family<Reason, Counter>,
    pub(crate) findings: Family<SeverityLabel, Gauge>,
}

impl Meters {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let seconds = [1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 5e-3, 2e-2, 0.1];
        Self {
            checks: metrics.family("argosy_mixer_checks_total", "Authorization checks, by the code of their answer"),
            check_seconds: metrics.histogram(
                "argosy_mixer_check_duration_seconds",
                "Time to decide on a check, without transport",
                &seconds,
            ),
            quotas: metrics.family("argosy_mixer_quotas_total", "Rate limit calls, by the code of their answer"),
            reports: metrics.counter("argosy_mixer_reports_total", "Access log entries taken as reports"),
            reports_dropped: metrics.counter(
                "argosy_mixer_reports_dropped_total",
                "Access log entries dropped because too many were waiting",
            ),
            connections: Connections {
                open: metrics.gauge("argosy_mixer_connections", "TCP connections whose bytes are accounted as they go on"),
                lost: metrics.family(
                    "argosy_mixer_connections_lost_total",
                    "TCP connections no longer (silent for an hour) or not (full) accounted as they go on: their bytes count when they end",
                ),
            },
            samples_dropped: metrics.family(
                "argosy_mixer_samples_dropped_total",
                "Values of metrics that were not kept (cardinality, value, redefined) or could not be evaluated (expression)",
            ),
            rule_errors: metrics.family(
                "argosy_mixer_rule_errors_total",
                "Checks in which a rule's match could not be evaluated; the rule then refuses",
            ),
            rules: metrics.gauge("argosy_mixer_rules", "Rules in force"),
            workloads: metrics.gauge("argosy_mixer_workloads", "Workloads known"),
            series: metrics.gauge("argosy_mixer_series", "Series of the Prometheus adapter"),
            quota_store_errors: metrics.family(
                "argosy_mixer_quota_store_errors_total",
                "Charges that Redis did not decide, by what became of the request",
            ),
            quota_windows: metrics.gauge("argosy_mixer_quota_windows", "Quota windows in use"),
            findings: metrics.family("argosy_mixer_findings", "Findings about Mixer's configuration, by severity"),
        }
    }
}
