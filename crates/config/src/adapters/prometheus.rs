//! The Prometheus adapter's metrics: names, labels and buckets, with Istio's naming.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::named::named;
use super::params::Problem;
use super::{MAX_ITEMS, bounded};

/// What a metric counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MetricKind {
    /// The last value.
    Gauge,
    /// The sum of values.
    Counter,
    /// How values are distributed.
    Distribution,
}

// UNSPECIFIED (0) is refused, as by Istio's adapter.
named!(MetricKind { "GAUGE" = 1 => Gauge, "COUNTER" = 2 => Counter, "DISTRIBUTION" = 3 => Distribution });

/// Upper bounds of a distribution's buckets, rising, without the infinite one.
pub type Buckets = Vec<f64>;

/// A metric of a Prometheus handler.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricDefinition {
    /// Name with its namespace: `istio_requests_total`.
    pub name: String,
    /// Described in the exposition.
    pub help: String,
    /// What it counts.
    pub kind: MetricKind,
    /// Dimensions that become labels, in order.
    pub labels: Vec<String>,
    /// Names of the labels in the exposition, in the same order.
    pub label_names: Vec<String>,
    /// Buckets of a distribution.
    pub buckets: Buckets,
    /// Nanoseconds after which a series that is not written any more is forgotten.
    pub expiry: Option<i64>,
    /// The instance, as referred to.
    pub instance: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Params {
    metrics: Vec<MetricParams>,
    metrics_expiration_policy: Option<Expiration>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Expiration {
    metrics_expiry_duration: crate::Duration,
    /// Series are checked when they are read.
    #[serde(default, rename = "expiryCheckIntervalDuration")]
    _expiry_check_interval_duration: crate::Duration,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct MetricParams {
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    name: String,
    instance_name: String,
    #[serde(default)]
    description: String,
    kind: MetricKind,
    #[serde(default)]
    buckets: Option<BucketParams>,
    #[serde(default)]
    label_names: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) enum BucketParams {
    #[serde(rename = "linearBuckets", rename_all = "camelCase")]
    Linear {
        num_finite_buckets: u32,
        width: f64,
        #[serde(default)]
        offset: f64,
    },
    #[serde(rename = "exponentialBuckets", rename_all = "camelCase")]
    Exponential {
        num_finite_buckets: u32,
        growth_factor: f64,
        scale: f64,
    },
    #[serde(rename = "explicitBuckets")]
    Explicit { bounds: Vec<f64> },
}

/// Prometheus' own default.
pub(super) const DEFAULT_BUCKETS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

impl BucketParams {
    pub(super) fn bounds(&self) -> Result<Buckets, String> {
        let count = |n: u32| {
            if n == 0 || n > 500 {
                Err("numFiniteBuckets must be 1 to 500".to_owned())
            } else {
                Ok(n)
            }
        };
        let bounds: Buckets = match self {
            Self::Explicit { bounds } => bounds.clone(),
            Self::Linear {
                num_finite_buckets,
                width,
                offset,
            } => (0..=count(*num_finite_buckets)?)
                .map(|i| offset + width * f64::from(i))
                .collect(),
            Self::Exponential {
                num_finite_buckets,
                growth_factor,
                scale,
            } => (0..=count(*num_finite_buckets)?)
                .map(|i| scale * growth_factor.powf(f64::from(i)))
                .collect(),
        };
        if bounds.is_empty() || bounds.len() > MAX_ITEMS {
            return Err(format!("needs 1 to {MAX_ITEMS} bounds"));
        }
        let mut pairs = bounds.iter().zip(bounds.iter().skip(1));
        if bounds.iter().any(|b| !b.is_finite()) || pairs.any(|(a, b)| a >= b) {
            return Err("bounds must be finite and rise".to_owned());
        }
        Ok(bounds)
    }
}

/// A name with the characters that Prometheus takes: `/`, `.` and blanks become `_`, hyphens go (as in Istio).
fn safe_name(name: &str) -> String {
    name.trim_start_matches('/')
        .replace(['/', '.', ' '], "_")
        .replace('-', "")
}

fn is_metric_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_' || c == ':')
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':')
}

/// The metrics of a handler.
pub(super) fn definitions(params: Params) -> Result<Vec<MetricDefinition>, Problem> {
    bounded(&params.metrics, "metrics")?;
    let expiry = match params.metrics_expiration_policy {
        None => None,
        Some(policy) => match i64::try_from(policy.metrics_expiry_duration.0.as_nanos()) {
            Ok(nanos) if nanos > 0 => Some(nanos),
            _ => {
                return Err(Problem::new(
                    "metricsExpirationPolicy.metricsExpiryDuration",
                    "must be longer than 0s",
                ));
            }
        },
    };
    let mut seen = BTreeMap::new();
    let mut definitions = Vec::new();
    for (i, metric) in params.metrics.into_iter().enumerate() {
        let path = format!("metrics[{i}]");
        let definition = definition(metric, &path, expiry)?;
        if let Some(first) = seen.insert(definition.name.clone(), i) {
            let message = format!("{} is the name of metrics[{first}] already", definition.name);
            return Err(Problem::new(format!("{path}.name"), message));
        }
        definitions.push(definition);
    }
    Ok(definitions)
}

fn definition(metric: MetricParams, path: &str, expiry: Option<i64>) -> Result<MetricDefinition, Problem> {
    let own = if metric.name.is_empty() {
        &metric.instance_name
    } else {
        &metric.name
    };
    let namespace = if metric.namespace.is_empty() {
        "istio"
    } else {
        &metric.namespace
    };
    let name = format!("{}_{}", safe_name(namespace), safe_name(own));
    if !is_metric_name(&name) {
        return Err(Problem::new(
            format!("{path}.name"),
            format!("{name:?} is no name of a Prometheus metric"),
        ));
    }
    bounded(&metric.label_names, &format!("{path}.labelNames"))?;
    let label_names: Vec<String> = metric.label_names.iter().map(|label| safe_name(label)).collect();
    for (j, label) in label_names.iter().enumerate() {
        let place = || format!("{path}.labelNames[{j}]");
        if !is_metric_name(label) || label.contains(':') || label.starts_with("__") || label == "le" {
            return Err(Problem::new(place(), format!("{label:?} is no name of a label")));
        }
        if label_names.iter().take(j).any(|other| other == label) {
            return Err(Problem::new(place(), format!("{label} is given twice")));
        }
    }
    let buckets = match &metric.buckets {
        None => DEFAULT_BUCKETS.to_vec(),
        Some(buckets) => buckets
            .bounds()
            .map_err(|message| Problem::new(format!("{path}.buckets"), message))?,
    };
    Ok(MetricDefinition {
        help: if metric.description.is_empty() {
            own.clone()
        } else {
            metric.description
        },
        name,
        kind: metric.kind,
        labels: metric.label_names,
        label_names,
        buckets: if metric.kind == MetricKind::Distribution {
            buckets
        } else {
            Vec::new()
        },
        expiry,
        instance: metric.instance_name,
    })
}
