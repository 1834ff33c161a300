//! The adapters that are built in, with their parameters read and checked: the names of Istio 1.4 (mixer/adapter/*/config), and
//! `opentelemetry`, which it did not have. What carries them out is `policy`'s and Mixer's; an adapter outside of the process
//! has parameters that its own descriptor describes, which is not looked at here.

mod code;
mod denier;
mod fluentd;
mod idle;
mod list;
mod list_source;
mod named;
mod opa;
mod opentelemetry;
mod params;
mod prometheus;
mod quota;
mod rbac;
mod redis_quota;
mod statsd;
mod stdio;
#[cfg(test)]
mod tests;
mod tls;
mod validity;
mod zipkin;

use serde_json::{Map, Value};

pub use code::Code;
pub use denier::{Denial, DirectResponse};
pub use fluentd::Fluentd;
pub use idle::idle;
pub use list::{Entries, List};
pub use list_source::ListSource;
pub use opa::Opa;
pub use opentelemetry::{OpenTelemetry, OtlpMetric};
pub use params::Problem;
pub(crate) use params::camel;
pub use prometheus::{Buckets, MetricDefinition, MetricKind};
pub use quota::{Limit, QuotaLimit};
pub use rbac::Rbac;
pub use redis_quota::{Algorithm, RedisPlace, RedisServer, Security};
pub use statsd::{Dogstatsd, DogstatsdMetric, NamePart, Statsd, StatsdKind, StatsdMetric};
pub use stdio::{Level, Rotation, Stdio, Stream};
pub use tls::Tls;
pub use validity::Validity;
pub use zipkin::Zipkin;

/// Most quotas, overrides, metrics, labels or buckets of one handler.
const MAX_ITEMS: usize = 1000;
/// Longest text of a parameter that is an address, a URL or a prefix, in bytes.
const MAX_TEXT: usize = 2048;

/// A built-in adapter with its parameters.
#[derive(Clone, Debug)]
pub enum Adapter {
    /// `denier`.
    Denier(Denial),
    /// `listchecker` with a list of its own.
    List(List),
    /// `listchecker` with a list that is fetched.
    ListSource(ListSource),
    /// `memquota`.
    MemQuota(Vec<QuotaLimit>),
    /// `redisquota`.
    RedisQuota(RedisServer, Vec<QuotaLimit>),
    /// `prometheus`.
    Prometheus(Vec<MetricDefinition>),
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
    /// `opentelemetry`.
    OpenTelemetry(OpenTelemetry),
    /// `noop`: takes everything and does nothing.
    Noop,
    /// `kubernetesenv`: attributes of workloads come from the feed, so nothing is left to do.
    KubernetesEnv,
}

/// The names of the adapters that are served.
pub const SERVED: [&str; 15] = [
    "denier",
    "dogstatsd",
    "fluentd",
    "kubernetesenv",
    "listchecker",
    "memquota",
    "noop",
    "opa",
    "opentelemetry",
    "prometheus",
    "rbac",
    "redisquota",
    "statsd",
    "stdio",
    "zipkin",
];

impl Adapter {
    /// Reads the parameters of the adapter of that name; none when none of that name is served.
    ///
    /// # Errors
    /// The first parameter that is unknown, or whose value is of the wrong type or outside of its bounds.
    pub fn read(name: &str, params: &Map<String, Value>) -> Option<Result<Self, Problem>> {
        Some(match name {
            "denier" => params::read(params).and_then(Denial::new).map(Self::Denier),
            "listchecker" => params::read(params).and_then(list_or_source),
            "memquota" => params::read(params).and_then(quota::read).map(Self::MemQuota),
            "redisquota" => params::read(params)
                .and_then(redis_quota::read)
                .map(|(server, limits)| Self::RedisQuota(server, limits)),
            "prometheus" => params::read(params)
                .and_then(prometheus::definitions)
                .map(Self::Prometheus),
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
            "noop" => params::read(params).map(|Nothing {}| Self::Noop),
            "kubernetesenv" => params::read(params).map(|_: idle::KubernetesEnv| Self::KubernetesEnv),
            _ => return None,
        })
    }
}

/// No parameters.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

fn list_or_source(params: list::Params) -> Result<Adapter, Problem> {
    match params.provider_url.is_empty() {
        true => List::new(&params).map(Adapter::List),
        false => list_source::read(params).map(Adapter::ListSource),
    }
}

/// Bounds a list of parameters.
fn bounded<T>(items: &[T], path: &str) -> Result<(), Problem> {
    if items.len() > MAX_ITEMS {
        return Err(Problem::new(
            path,
            format!("has {} entries, more than {MAX_ITEMS}", items.len()),
        ));
    }
    Ok(())
}

/// `HOST:PORT`, as an adapter outside of the process is reached.
///
/// # Errors
/// Why the text is no such address.
pub fn connection_address(given: &str) -> Result<String, Problem> {
    address("connection.address", given, "")
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
fn nanos(path: &str, given: crate::Duration, default: i64) -> Result<i64, Problem> {
    match i64::try_from(given.0.as_nanos()) {
        Ok(0) => Ok(default),
        Ok(nanos) => Ok(nanos),
        Err(_) => Err(Problem::new(path, "longer than 292 years")),
    }
}
