//! `opentelemetry`: metrics, log entries and spans by OTLP. Istio 1.4 had no such adapter; the parameters follow those of
//! `prometheus` and `zipkin`.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;

use super::bounded;
use super::params::Problem;
use super::prometheus::{BucketParams, Buckets, DEFAULT_BUCKETS, MetricKind};
use super::tls::{self, Tls};
use super::{address, nanos, probability};

/// How often metrics are sent unless told, in nanoseconds.
const INTERVAL: i64 = 10_000_000_000;

/// A metric of an OpenTelemetry handler.
#[derive(Clone, Debug, PartialEq)]
pub struct OtlpMetric {
    /// Its name.
    pub name: String,
    /// What it says.
    pub description: String,
    /// Unit, by UCUM: `s`, `By`, `1`.
    pub unit: String,
    /// What it counts.
    pub kind: MetricKind,
    /// Upper bounds of a distribution's buckets.
    pub buckets: Buckets,
}

/// Parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct OpenTelemetry {
    /// `HOST:PORT` of an OTLP receiver over gRPC.
    pub address: String,
    /// TLS to it; plain text without.
    pub tls: Option<Tls>,
    /// Attributes of the resource that everything is said of.
    pub resource: BTreeMap<String, String>,
    /// Nanoseconds between two sendings of metrics.
    pub interval: i64,
    /// The part of traces that is sent, 0 to 1.
    pub sampling: f64,
    /// The metrics, by instance as referred to.
    pub metrics: BTreeMap<Arc<str>, OtlpMetric>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Params {
    address: String,
    properties: BTreeMap<String, String>,
    push_interval_duration: crate::Duration,
    sample_probability: Option<f64>,
    metrics: BTreeMap<String, MetricParams>,
    tls: Option<tls::Params>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct MetricParams {
    name: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    unit: String,
    kind: MetricKind,
    #[serde(default)]
    buckets: Option<BucketParams>,
}

pub(super) fn read(params: Params) -> Result<OpenTelemetry, Problem> {
    bounded(&params.metrics.keys().collect::<Vec<_>>(), "metrics")?;
    let mut metrics = BTreeMap::new();
    for (instance, metric) in params.metrics {
        let path = format!("metrics[{instance}]");
        if metric.name.is_empty() {
            return Err(Problem::new(format!("{path}.name"), "is empty"));
        }
        let buckets = match &metric.buckets {
            None => DEFAULT_BUCKETS.to_vec(),
            Some(buckets) => buckets
                .bounds()
                .map_err(|message| Problem::new(format!("{path}.buckets"), message))?,
        };
        let metric = OtlpMetric {
            name: metric.name,
            description: metric.description,
            unit: metric.unit,
            kind: metric.kind,
            buckets,
        };
        metrics.insert(instance.into(), metric);
    }
    Ok(OpenTelemetry {
        address: address("address", &params.address, "localhost:4317")?,
        tls: tls::read(params.tls)?,
        resource: params.properties,
        interval: nanos("pushIntervalDuration", params.push_interval_duration, INTERVAL)?,
        sampling: probability("sampleProbability", params.sample_probability.unwrap_or(1.0))?,
        metrics,
    })
}
