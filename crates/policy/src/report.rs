//! Turns a finished request into samples of metrics, and into instances for adapters.

use std::sync::Arc;

use crate::backend::BackendHandler;
use crate::instance::InstanceValue;
use crate::request::Request;
use crate::rules::{MetricAction, Rule, Rules};
use crate::sampling::Aspect;

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

/// What is to be said of a finished request.
#[derive(Clone, Debug, Default)]
pub struct Reports {
    /// Values for metrics' series.
    pub samples: Vec<Sample>,
    /// Instances for adapters beside the decision.
    pub deliveries: Vec<Delivery>,
    /// How many predicates, samples and instances could not be evaluated, and were left out.
    pub failed: usize,
}

/// An instance for an adapter.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    /// To whom.
    pub handler: Arc<BackendHandler>,
    /// What.
    pub instance: InstanceValue,
}

impl Rules {
    /// What is to be said of a finished request or connection. Telemetry fails open: what cannot be evaluated is counted
    /// and left out.
    pub fn report(&self, request: &Request<'_>) -> Reports {
        self.report_to(request, None)
    }

    /// The same of the rules `only` (`NAME.NAMESPACE`), where a proxy does by itself what others say.
    pub fn report_to(&self, request: &Request<'_>, only: Option<&[String]>) -> Reports {
        self.told(request, |request| self.reports(request, only))
    }

    fn reports(&self, request: &Request<'_>, only: Option<&[String]>) -> Reports {
        let mut reports = Reports::default();
        // Without a known destination the mesh-wide rules still count it.
        let namespace = request.destination.workload.map(|w| w.namespace.as_str());
        let namespace = namespace.or_else(|| request.service.map(|s| s.namespace.as_str()));
        let told = |rule: &Rule| only.is_none_or(|only| only.iter().any(|name| rule.is_named(name)));
        for rule in self.of(namespace).filter(|rule| rule.has_report() && told(rule)) {
            match rule.holds(Aspect::Report, request) {
                Ok(false) => {}
                Ok(true) => reports.add(rule, request),
                Err(_) => reports.failed += 1,
            }
        }
        reports
    }
}

impl Reports {
    fn add(&mut self, rule: &Rule, request: &Request<'_>) {
        for action in &rule.metrics {
            match sample(action, request) {
                Some(sample) => self.samples.push(sample),
                None => self.failed += 1,
            }
        }
        for action in &rule.reports {
            match action.instance.eval(action.key.as_ref(), request) {
                Ok(instance) => self.deliveries.push(Delivery {
                    handler: action.handler.clone(),
                    instance,
                }),
                Err(_) => self.failed += 1,
            }
        }
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
