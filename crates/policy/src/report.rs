//! Turns a finished request into samples of metrics.

use crate::request::Request;
use crate::rules::{MetricAction, Rules};

/// A value for a metric's series.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The metric's place in [`Rules::metrics`].
    pub metric: usize,
    /// The value.
    pub value: f64,
    /// The labels' values, in the metric's order.
    pub labels: Vec<String>,
}

impl Rules {
    /// The samples of a finished request or connection. Telemetry fails open: what cannot be evaluated is counted in the
    /// second value and left out.
    pub fn report(&self, request: &Request<'_>) -> (Vec<Sample>, usize) {
        let (mut samples, mut failed) = (Vec::new(), 0);
        // Without a known destination the mesh-wide rules still count it.
        let namespace = request.destination.workload.map(|w| w.namespace.as_str());
        let namespace = namespace.or_else(|| request.service.map(|s| s.namespace.as_str()));
        for rule in self.of(namespace).filter(|rule| !rule.metrics.is_empty()) {
            match rule.condition.holds(request) {
                Ok(false) => continue,
                Ok(true) => {}
                Err(_) => {
                    failed += 1;
                    continue;
                }
            }
            for action in &rule.metrics {
                match sample(action, request) {
                    Some(sample) => samples.push(sample),
                    None => failed += 1,
                }
            }
        }
        (samples, failed)
    }
}

fn sample(action: &MetricAction, request: &Request<'_>) -> Option<Sample> {
    let value = action.value.eval(request).ok()?;
    let value = value
        .as_number()
        .or_else(|| value.as_text()?.trim().parse().ok())?;
    let label = |expression: &Option<expr::Expression>| match expression {
        Some(expression) => expression.eval(request).ok().map(|value| value.to_string()),
        None => Some(String::new()),
    };
    let labels = action.labels.iter().map(label).collect::<Option<_>>()?;
    Some(Sample {
        metric: action.metric,
        value,
        labels,
    })
}
