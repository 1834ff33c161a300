//! Shows people what is wrong with the configuration: in the log when it is news, as metrics, and as JSON under
//! `/debug/config`.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::{Json, Router, routing::get};
use config::{Finding, Severity};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use runtime::Metrics;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::store::State;

/// What a source tells of: nothing before its first complete read.
pub type States = watch::Receiver<Option<Arc<State>>>;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct SeverityLabel {
    severity: String,
}

/// The findings that were told, and the metrics.
pub struct Reporter {
    objects: Family<KindLabel, Gauge>,
    findings: Family<SeverityLabel, Gauge>,
    told: BTreeSet<String>,
}

impl Reporter {
    /// A reporter that has told nothing yet.
    #[must_use]
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            objects: metrics.family("galley_objects", "Configuration objects that are served, by kind"),
            findings: metrics.family("galley_findings", "Findings about the configuration, by severity"),
            told: BTreeSet::new(),
        }
    }

    /// Logs what is new since the last state, and sets the metrics.
    pub fn report(&mut self, state: &State) {
        let now: BTreeSet<String> = state.findings.iter().map(ToString::to_string).collect();
        for finding in &state.findings {
            let line = finding.to_string();
            if !self.told.contains(&line) {
                tell(finding.severity, &line);
            }
        }
        for gone in self.told.difference(&now) {
            tracing::info!("no longer: {gone}");
        }
        self.told = now;
        self.count(state);
    }

    fn count(&self, state: &State) {
        self.objects.clear();
        for (kind, count) in state.counts() {
            let kind = kind.as_str();
            self.objects
                .get_or_create(&KindLabel { kind })
                .set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        for severity in [Severity::Error, Severity::Warning, Severity::Info] {
            let count = state
                .findings
                .iter()
                .filter(|finding| finding.severity == severity)
                .count();
            let label = SeverityLabel {
                severity: severity.to_string(),
            };
            self.findings
                .get_or_create(&label)
                .set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }
}

fn tell(severity: Severity, line: &str) {
    match severity {
        Severity::Error => tracing::error!("{line}"),
        Severity::Warning => tracing::warn!("{line}"),
        Severity::Info => tracing::info!("{line}"),
    }
}

/// A finding as JSON; what does not apply is left out.
#[must_use]
pub fn finding(finding: &Finding) -> Value {
    let mut fields = json!({
        "severity": finding.severity,
        "message": finding.message,
    });
    let optional = [
        (
            "object",
            finding.object.as_ref().map(|key| json!(key.to_string())),
        ),
        ("path", (!finding.path.is_empty()).then(|| json!(finding.path))),
        ("help", finding.help.as_ref().map(|help| json!(help))),
        ("file", finding.origin.file.as_ref().map(|file| json!(&**file))),
        (
            "line",
            (finding.origin.line > 0).then(|| json!(finding.origin.line)),
        ),
        (
            "column",
            (finding.origin.column > 0).then(|| json!(finding.origin.column)),
        ),
    ];
    if let Some(map) = fields.as_object_mut() {
        map.extend(
            optional
                .into_iter()
                .filter_map(|(name, value)| Some((name.to_owned(), value?))),
        );
    }
    fields
}

/// `GET /debug/config`: what is served and what is wrong.
pub fn routes(states: States) -> Router {
    let page = move || {
        let page = page(states.borrow().as_deref());
        async move { Json(page) }
    };
    Router::new().route("/debug/config", get(page))
}

fn page(state: Option<&State>) -> Value {
    let Some(state) = state else {
        return json!({ "complete": false });
    };
    let served = |object: &Arc<config::Object>| json!({ "object": object.key().to_string(), "origin": object.origin.to_string() });
    json!({
        "complete": true,
        "objects": state.objects.iter().map(served).collect::<Vec<_>>(),
        "findings": state.findings.iter().map(finding).collect::<Vec<_>>(),
    })
}
