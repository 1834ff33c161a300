//! Adapters that run beside the decision because they need a socket, a file or an engine: their parameters, read and
//! checked, with the names that Istio 1.4 gave them. What carries them out is Mixer's.

mod fluentd;
mod list;
mod opa;
mod opentelemetry;
mod rbac;
mod remote;
mod statsd;
mod stdio;
#[cfg(test)]
mod tests;
mod tls;
mod zipkin;

use std::sync::Arc;

use serde_json::{Map, Value};

pub use fluentd::Fluentd;
pub use list::ListSource;
pub use opa::Opa;
pub use opentelemetry::{OpenTelemetry, OtlpMetric};
pub use rbac::Rbac;
pub use remote::Remote;
pub(crate) use remote::Remotes;
pub use statsd::{Dogstatsd, DogstatsdMetric, NamePart, Statsd, StatsdKind, StatsdMetric};
pub use stdio::{Level, Rotation, Stdio, Stream};
pub use tls::Tls;
pub use zipkin::Zipkin;

use crate::params::{self, Problem};

/// Longest text of a parameter that is an address, a URL or a prefix, in bytes.
const MAX_TEXT: usize = 2048;

/// What stands behind a handler beside the decision.
#[derive(Clone, Debug, PartialEq)]
pub enum Backend {
    /// `listchecker` with a `providerUrl`.
    List(ListSource),
    /// `opa`.
    Opa(Opa),
    /// `rbac`.
    Rbac(Rbac),
    /// `stdio`.
    Stdio(Stdio),
    /// `statsd`.
    Statsd(Statsd),
    /// `dogstatsd`.
    Dogstatsd(Dogstatsd),
    /// `fluentd`.
    Fluentd(Fluentd),
    /// `zipkin`.
    Zipkin(Zipkin),
    /// `opentelemetry`, which Istio 1.4 did not have.
    OpenTelemetry(OpenTelemetry),
    /// An adapter outside of the process.
    Remote(Remote),
}

/// A handler that runs beside the decision. Two that are equal do the same: one may go on for the other.
#[derive(Clone, Debug, PartialEq)]
pub struct BackendHandler {
    /// `NAME.NAMESPACE`.
    pub name: String,
    /// What it is.
    pub backend: Backend,
}

impl Backend {
    pub(crate) fn list(params: crate::list::Params) -> Result<Self, Problem> {
        list::read(params).map(Self::List)
    }

    /// Reads the parameters of an adapter; `None` when it is none of these.
    pub(crate) fn read(adapter: &str, params: &Map<String, Value>) -> Option<Result<Self, Problem>> {
        Some(match adapter {
            "opa" => params::read(params).and_then(opa::read).map(Self::Opa),
            "rbac" => params::read(params).and_then(rbac::read).map(Self::Rbac),
            "stdio" => params::read(params)
                .and_then(|params| stdio::read(&params))
                .map(Self::Stdio),
            "statsd" => params::read(params).and_then(statsd::read).map(Self::Statsd),
            "dogstatsd" => params::read(params)
                .and_then(statsd::read_dogstatsd)
                .map(Self::Dogstatsd),
            "fluentd" => params::read(params).and_then(fluentd::read).map(Self::Fluentd),
            "zipkin" => params::read(params)
                .and_then(|params| zipkin::read(&params))
                .map(Self::Zipkin),
            "opentelemetry" => params::read(params)
                .and_then(opentelemetry::read)
                .map(Self::OpenTelemetry),
            _ => return None,
        })
    }

    /// How the adapter answers instances of a template; `None` when it takes none.
    pub(crate) fn takes(&self, template: &str) -> Option<Variety> {
        match (self, template) {
            (Self::Remote(remote), template) => remote.takes(template),
            (Self::List(_), "listentry") | (Self::Opa(_) | Self::Rbac(_), "authorization") => {
                Some(Variety::Check)
            }
            (Self::Stdio(_), "logentry" | "metric" | "edge")
            | (Self::Statsd(_) | Self::Dogstatsd(_), "metric")
            | (Self::Fluentd(_), "logentry")
            | (Self::Zipkin(_), "tracespan")
            | (Self::OpenTelemetry(_), "metric" | "logentry" | "tracespan") => Some(Variety::Report),
            _ => None,
        }
    }

    /// The instances of `template` that the parameters name; `None` when the adapter takes all.
    pub(crate) fn named(&self, template: &str) -> Option<Vec<&Arc<str>>> {
        match self {
            Self::Statsd(statsd) => Some(statsd.metrics.keys().collect()),
            Self::Dogstatsd(dogstatsd) => Some(dogstatsd.metrics.keys().collect()),
            Self::OpenTelemetry(otlp) if template == "metric" => Some(otlp.metrics.keys().collect()),
            _ => None,
        }
    }
}

/// When an adapter is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Variety {
    /// Before a request passes.
    Check,
    /// After it has ended.
    Report,
}

/// `HOST:PORT`; an empty text means `default`.
fn address(path: &str, given: &str, default: &str) -> Result<String, Problem> {
    let address = if given.is_empty() { default } else { given };
    match address.rsplit_once(':') {
        Some((host, port))
            if !host.is_empty()
                && !host.contains('/')
                && address.len() <= MAX_TEXT
                && port.parse::<u16>().is_ok_and(|port| port > 0) =>
        {
            Ok(address.to_owned())
        }
        _ => Err(Problem::new(
            path,
            format!("{address:?} is not an address; write HOST:PORT"),
        )),
    }
}

/// An `http` or `https` URL with a host and without credentials.
fn url(path: &str, given: &str) -> Result<String, Problem> {
    let problem = |message: &str| Problem::new(path, message);
    let rest = given
        .strip_prefix("http://")
        .or_else(|| given.strip_prefix("https://"));
    let rest = rest.ok_or_else(|| problem("is not a URL of http or https"))?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.is_empty() || given.len() > MAX_TEXT {
        return Err(problem("names no host, or is longer than 2048 bytes"));
    }
    if authority.contains('@') {
        return Err(problem(
            "holds a user or password, which would stand in the configuration; take it out",
        ));
    }
    Ok(given.to_owned())
}

/// A probability.
fn probability(path: &str, given: f64) -> Result<f64, Problem> {
    match (0.0..=1.0).contains(&given) {
        true => Ok(given),
        false => Err(Problem::new(path, format!("{given} is not from 0 to 1"))),
    }
}

/// A positive duration in nanoseconds; zero means `default`.
fn nanos(path: &str, given: config::Duration, default: i64) -> Result<i64, Problem> {
    match i64::try_from(given.0.as_nanos()) {
        Ok(0) => Ok(default),
        Ok(nanos) => Ok(nanos),
        Err(_) => Err(Problem::new(path, "longer than 292 years")),
    }
}
