//! `statsd` and `dogstatsd`: metrics in datagrams.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;

use super::bounded;
use super::named::named;
use super::params::Problem;
use super::{address, nanos, probability};

/// Largest datagram that UDP over IPv4 carries.
const MAX_DATAGRAM: i32 = 65_507;
/// Size of a datagram unless told (Istio's default).
const DATAGRAM: usize = 512;
/// How long values may wait for a full datagram unless told, in nanoseconds (Istio's default).
const FLUSH: i64 = 300_000_000;

/// How a value counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StatsdKind {
    /// Not told, which is refused.
    #[default]
    Unknown,
    /// Added up.
    Counter,
    /// The last one.
    Gauge,
    /// How values are distributed: a timing when the value is a DURATION, else a histogram.
    Distribution,
}

// statsd and dogstatsd agree but in the name of what is refused.
named!(StatsdKind {
    "COUNTER" = 1 => Counter,
    "GAUGE" = 2 => Gauge,
    "DISTRIBUTION" = 3 => Distribution,
    "UNKNOWN" = 0 => Unknown,
    "UNKNOWN_TYPE" = 0 => Unknown,
});

/// A part of a metric's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamePart {
    /// This text.
    Text(String),
    /// The value of the dimension of this name.
    Dimension(String),
}

/// A metric of a statsd handler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatsdMetric {
    /// How values count.
    pub kind: StatsdKind,
    /// Its name; the instance's without.
    pub name: Option<Vec<NamePart>>,
}

/// Parameters (adapter.statsd.config).
#[derive(Clone, Debug, PartialEq)]
pub struct Statsd {
    /// `HOST:PORT`.
    pub address: String,
    /// Before each name.
    pub prefix: String,
    /// Nanoseconds that a value may wait for others.
    pub flush: i64,
    /// Largest datagram, in bytes.
    pub datagram: usize,
    /// The part of counters' values that is sent, 0 to 1.
    pub sampling: f64,
    /// The metrics, by instance as referred to.
    pub metrics: BTreeMap<Arc<str>, StatsdMetric>,
}

/// A metric of a dogstatsd handler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DogstatsdMetric {
    /// How values count.
    pub kind: StatsdKind,
    /// Its name.
    pub name: String,
    /// Tags beside the dimensions.
    pub tags: BTreeMap<String, String>,
}

/// Parameters (adapter.dogstatsd.config).
#[derive(Clone, Debug, PartialEq)]
pub struct Dogstatsd {
    /// `HOST:PORT`.
    pub address: String,
    /// Before each name.
    pub prefix: String,
    /// Most values in one datagram.
    pub buffer: usize,
    /// Tags of all metrics.
    pub tags: BTreeMap<String, String>,
    /// The part of values that is sent, 0 to 1.
    pub sampling: f64,
    /// The metrics, by instance as referred to.
    pub metrics: BTreeMap<Arc<str>, DogstatsdMetric>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Params {
    address: String,
    prefix: String,
    flush_duration: crate::Duration,
    flush_bytes: i32,
    sampling_rate: Option<f64>,
    metrics: BTreeMap<String, MetricParams>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct MetricParams {
    #[serde(rename = "type")]
    kind: StatsdKind,
    name_template: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct DogstatsdParams {
    address: String,
    prefix: Option<String>,
    buffer_length: i32,
    global_tags: BTreeMap<String, String>,
    sample_rate: Option<f64>,
    metrics: BTreeMap<String, DogstatsdMetricParams>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct DogstatsdMetricParams {
    name: String,
    #[serde(rename = "type")]
    kind: StatsdKind,
    tags: BTreeMap<String, String>,
}

fn known(kind: StatsdKind, path: &str) -> Result<StatsdKind, Problem> {
    match kind {
        StatsdKind::Unknown => Err(Problem::new(
            format!("{path}.type"),
            "must be COUNTER, GAUGE or DISTRIBUTION",
        )),
        kind => Ok(kind),
    }
}

pub(super) fn read(params: Params) -> Result<Statsd, Problem> {
    bounded(&params.metrics.keys().collect::<Vec<_>>(), "metrics")?;
    let datagram = match params.flush_bytes {
        0 => DATAGRAM,
        bytes if (64..=MAX_DATAGRAM).contains(&bytes) => usize::try_from(bytes).unwrap_or(DATAGRAM),
        bytes => {
            let message = format!("{bytes} is not from 64 to {MAX_DATAGRAM}");
            return Err(Problem::new("flushBytes", message));
        }
    };
    let mut metrics = BTreeMap::new();
    for (instance, metric) in params.metrics {
        let path = format!("metrics[{instance}]");
        let name = name_template(&metric.name_template, &path)?;
        let kind = known(metric.kind, &path)?;
        metrics.insert(instance.into(), StatsdMetric { kind, name });
    }
    Ok(Statsd {
        address: address("address", &params.address, "localhost:8125")?,
        prefix: params.prefix,
        flush: nanos("flushDuration", params.flush_duration, FLUSH)?,
        datagram,
        sampling: probability("samplingRate", params.sampling_rate.unwrap_or(1.0))?,
        metrics,
    })
}

pub(super) fn read_dogstatsd(params: DogstatsdParams) -> Result<Dogstatsd, Problem> {
    bounded(&params.metrics.keys().collect::<Vec<_>>(), "metrics")?;
    let buffer = usize::try_from(params.buffer_length)
        .map_err(|_| Problem::new("bufferLength", format!("{} is negative", params.buffer_length)))?;
    let mut metrics = BTreeMap::new();
    for (instance, metric) in params.metrics {
        let path = format!("metrics[{instance}]");
        let kind = known(metric.kind, &path)?;
        if metric.name.is_empty() {
            return Err(Problem::new(format!("{path}.name"), "is empty"));
        }
        let metric = DogstatsdMetric {
            kind,
            name: metric.name,
            tags: metric.tags,
        };
        metrics.insert(instance.into(), metric);
    }
    Ok(Dogstatsd {
        address: address("address", &params.address, "localhost:8125")?,
        prefix: params.prefix.unwrap_or_else(|| "istio.".to_owned()),
        buffer: buffer.max(1),
        tags: params.global_tags,
        sampling: probability("sampleRate", params.sample_rate.unwrap_or(1.0))?,
        metrics,
    })
}

/// Go's text/template as far as names of metrics need it: text and `{{.dimension}}`.
fn name_template(template: &str, path: &str) -> Result<Option<Vec<NamePart>>, Problem> {
    if template.is_empty() {
        return Ok(None);
    }
    let problem = || {
        Problem::new(
            format!("{path}.nameTemplate"),
            format!("{template:?}: only text and {{{{.DIMENSION}}}} are served"),
        )
    };
    let (mut parts, mut rest) = (Vec::new(), template);
    while let Some((text, tail)) = rest.split_once("{{") {
        let (action, tail) = tail.split_once("}}").ok_or_else(problem)?;
        let dimension = action.trim().strip_prefix('.').ok_or_else(problem)?;
        if dimension.is_empty() || !dimension.chars().all(|c| c.is_alphanumeric() || c == '_') {
            return Err(problem());
        }
        if !text.is_empty() {
            parts.push(NamePart::Text(text.to_owned()));
        }
        parts.push(NamePart::Dimension(dimension.to_owned()));
        rest = tail;
    }
    if rest.contains("}}") {
        return Err(problem());
    }
    if !rest.is_empty() {
        parts.push(NamePart::Text(rest.to_owned()));
    }
    Ok(Some(parts))
}
