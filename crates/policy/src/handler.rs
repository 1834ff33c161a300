//! Handlers: the adapters that are served, with their parameters read and checked.

use std::collections::BTreeMap;

use config::mixer;
use serde::Deserialize;
use serde_json::Value;

use crate::list::{self, List};
use crate::params::{self, Problem};
use crate::reference::Name;
use crate::status::Code;
use crate::window::Limit;

/// Most quotas, overrides, metrics, labels or buckets of one handler.
const MAX_ITEMS: usize = 1000;

/// A handler.
#[derive(Clone, Debug)]
pub(crate) struct Handler {
    /// As shown to users: `NAME.NAMESPACE`.
    pub(crate) full_name: String,
    pub(crate) namespace: String,
    pub(crate) adapter: Adapter,
}

/// What stands behind a handler.
#[derive(Clone, Debug)]
pub(crate) enum Adapter {
    Denier(Denial),
    List(List),
    MemQuota(Vec<QuotaLimit>),
    Prometheus(Vec<MetricDefinition>),
    /// Takes everything and does nothing.
    Noop,
    /// Attributes of workloads come from the feed: nothing is left to do.
    KubernetesEnv,
}

/// What a denier answers.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Denial {
    pub(crate) code: Code,
    pub(crate) message: String,
    pub(crate) direct: Option<DirectResponse>,
}

/// An HTTP response given instead of the code's own (istio.policy.v1beta1.DirectHttpResponse).
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct DirectResponse {
    pub(crate) status: Option<u16>,
    pub(crate) body: String,
    pub(crate) headers: BTreeMap<String, String>,
}

/// A quota's limit.
#[derive(Clone, Debug)]
pub(crate) struct QuotaLimit {
    /// The instance, as referred to.
    pub(crate) name: String,
    pub(crate) limit: Limit,
    /// The first whose dimensions all match counts.
    pub(crate) overrides: Vec<(BTreeMap<String, String>, Limit)>,
}

/// What a metric counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum MetricKind {
    /// The last value.
    Gauge,
    /// The sum of values.
    Counter,
    /// How values are distributed.
    Distribution,
}

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
    pub(crate) instance: String,
}

impl Handler {
    /// Reads a handler. The error names the parameter, or the adapter that is not served.
    pub(crate) fn new(name: &Name, spec: &mixer::Handler) -> Result<Self, Problem> {
        let adapter = match spec.compiled_adapter.as_str() {
            "denier" => Adapter::Denier(denial(params::read(&spec.params)?)?),
            "listchecker" => {
                let list: list::Params = params::read(&spec.params)?;
                if !list.provider_url.is_empty() {
                    return Err(Problem::new(
                        "providerUrl",
                        "lists by URL are not served yet; write the entries as overrides",
                    ));
                }
                Adapter::List(List::new(&list)?)
            }
            "memquota" => Adapter::MemQuota(quotas(params::read(&spec.params)?)?),
            "prometheus" => Adapter::Prometheus(metrics(params::read(&spec.params)?)?),
            "noop" => Adapter::Noop,
            "kubernetesenv" => Adapter::KubernetesEnv,
            "" if !spec.adapter.is_empty() => {
                let what = format!(
                    "adapters outside of the process ({}) are not served yet",
                    spec.adapter
                );
                return Err(Problem::new("", what));
            }
            "" => return Err(Problem::new("", "names no adapter; set compiledAdapter")),
            other => return Err(Problem::new("", format!("the adapter {other} is not served yet"))),
        };
        Ok(Self {
            full_name: name.full(),
            namespace: name.namespace.clone(),
            adapter,
        })
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct DenierParams {
    status: Option<Status>,
    /// How long and how often a caller may keep the answer: Envoy's ext_authz keeps none.
    #[serde(rename = "validDuration")]
    _valid_duration: Option<config::Duration>,
    #[serde(rename = "validUseCount", deserialize_with = "params::integer")]
    _valid_use_count: i64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Status {
    #[serde(deserialize_with = "params::integer")]
    code: i64,
    message: String,
    details: Vec<Value>,
}

fn denial(params: DenierParams) -> Result<Denial, Problem> {
    let Some(status) = params.status else {
        return Ok(Denial {
            code: Code::FAILED_PRECONDITION,
            message: String::new(),
            direct: None,
        });
    };
    if !(1..=16).contains(&status.code) {
        return Err(Problem::new(
            "status.code",
            format!("{} is not a code from 1 to 16", status.code),
        ));
    }
    let mut direct = None;
    for (i, detail) in status.details.iter().enumerate() {
        let path = format!("status.details[{i}]");
        let is_direct = detail
            .get("@type")
            .and_then(Value::as_str)
            .is_some_and(|t| t.ends_with(".DirectHttpResponse"));
        if !is_direct {
            return Err(Problem::new(
                path,
                "only istio.policy.v1beta1.DirectHttpResponse is served",
            ));
        }
        direct = Some(direct_response(detail).map_err(|message| Problem::new(path, message))?);
    }
    let code = Code(i32::try_from(status.code).unwrap_or_default());
    Ok(Denial {
        code,
        message: status.message,
        direct,
    })
}

fn direct_response(detail: &Value) -> Result<DirectResponse, String> {
    let status = match detail.get("code") {
        None => None,
        Some(code) => {
            Some(http_status(code).ok_or_else(|| format!("code {code} is no HTTP status of an error"))?)
        }
    };
    let mut headers = BTreeMap::new();
    for (name, value) in detail
        .get("headers")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        let value = value
            .as_str()
            .ok_or_else(|| format!("header {name} must be text"))?;
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let body = detail
        .get("body")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    Ok(DirectResponse {
        status,
        body,
        headers,
    })
}

/// A status as number or by istio.policy.v1beta1.HttpStatusCode's name. A denial may redirect or refuse.
fn http_status(code: &Value) -> Option<u16> {
    const NAMES: [(&str, u16); 16] = [
        ("MovedPermanently", 301),
        ("Found", 302),
        ("SeeOther", 303),
        ("TemporaryRedirect", 307),
        ("PermanentRedirect", 308),
        ("BadRequest", 400),
        ("Unauthorized", 401),
        ("PaymentRequired", 402),
        ("Forbidden", 403),
        ("NotFound", 404),
        ("MethodNotAllowed", 405),
        ("Conflict", 409),
        ("Gone", 410),
        ("TooManyRequests", 429),
        ("InternalServerError", 500),
        ("ServiceUnavailable", 503),
    ];
    let number = match code {
        Value::String(name) => NAMES
            .into_iter()
            .find(|(known, _)| known == name)
            .map(|(_, number)| number),
        code => code.as_u64().and_then(|n| u16::try_from(n).ok()),
    };
    number.filter(|n| (300..600).contains(n))
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct MemQuotaParams {
    quotas: Vec<QuotaParams>,
    /// Envoy's rate limit calls carry no deduplication id, so nothing is deduplicated.
    #[serde(rename = "minDeduplicationDuration")]
    _min_deduplication_duration: Option<config::Duration>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct QuotaParams {
    name: String,
    #[serde(default, deserialize_with = "params::integer")]
    max_amount: i64,
    #[serde(default)]
    valid_duration: config::Duration,
    #[serde(default)]
    overrides: Vec<OverrideParams>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct OverrideParams {
    #[serde(default, deserialize_with = "params::expressions")]
    dimensions: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "params::integer")]
    max_amount: i64,
    #[serde(default)]
    valid_duration: config::Duration,
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

fn limit(max_amount: i64, duration: config::Duration, path: &str) -> Result<Limit, Problem> {
    let amount = u64::try_from(max_amount)
        .map_err(|_| Problem::new(format!("{path}.maxAmount"), format!("{max_amount} is negative")))?;
    let Ok(window) = i64::try_from(duration.0.as_nanos()) else {
        return Err(Problem::new(
            format!("{path}.validDuration"),
            "longer than 292 years",
        ));
    };
    Ok(Limit { amount, window })
}

fn quotas(params: MemQuotaParams) -> Result<Vec<QuotaLimit>, Problem> {
    bounded(&params.quotas, "quotas")?;
    let mut limits = Vec::new();
    for (i, quota) in params.quotas.into_iter().enumerate() {
        let path = format!("quotas[{i}]");
        bounded(&quota.overrides, &format!("{path}.overrides"))?;
        let mut overrides = Vec::new();
        for (j, other) in quota.overrides.into_iter().enumerate() {
            let own = limit(
                other.max_amount,
                other.valid_duration,
                &format!("{path}.overrides[{j}]"),
            )?;
            overrides.push((other.dimensions, own));
        }
        let own = limit(quota.max_amount, quota.valid_duration, &path)?;
        limits.push(QuotaLimit {
            name: quota.name,
            limit: own,
            overrides,
        });
    }
    Ok(limits)
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct PrometheusParams {
    metrics: Vec<MetricParams>,
    metrics_expiration_policy: Option<Expiration>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Expiration {
    metrics_expiry_duration: config::Duration,
    /// Series are checked when they are read.
    #[serde(default, rename = "expiryCheckIntervalDuration")]
    _expiry_check_interval_duration: config::Duration,
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
enum BucketParams {
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
const DEFAULT_BUCKETS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

impl BucketParams {
    fn bounds(&self) -> Result<Buckets, String> {
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

fn metrics(params: PrometheusParams) -> Result<Vec<MetricDefinition>, Problem> {
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
        let definition = metric_definition(metric, &path, expiry)?;
        if let Some(first) = seen.insert(definition.name.clone(), i) {
            let message = format!("{} is the name of metrics[{first}] already", definition.name);
            return Err(Problem::new(format!("{path}.name"), message));
        }
        definitions.push(definition);
    }
    Ok(definitions)
}

fn metric_definition(
    metric: MetricParams,
    path: &str,
    expiry: Option<i64>,
) -> Result<MetricDefinition, Problem> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn handler(adapter: &str, params: &str) -> Result<Handler, Problem> {
        let name = Name {
            namespace: "shop".into(),
            name: "h".into(),
            kind: "handler".into(),
        };
        let params = serde_json::from_str(params).unwrap();
        Handler::new(
            &name,
            &mixer::Handler {
                compiled_adapter: adapter.into(),
                params,
                ..Default::default()
            },
        )
    }

    #[test]
    fn deniers() {
        let check = |params: &str, code: i32, message: &str| {
            let Adapter::Denier(denial) = handler("denier", params).unwrap().adapter else {
                panic!("no denier")
            };
            assert_eq!((denial.code, denial.message.as_str()), (Code(code), message));
        };
        check("{}", 9, "");
        check(
            r#"{"status":{"code":7,"message":"Not allowed"}}"#,
            7,
            "Not allowed",
        );
        check(
            r#"{"status":{"code":16},"valid_duration":"5s","valid_use_count":"10"}"#,
            16,
            "",
        );
        assert_eq!(
            handler("denier", r#"{"status":{"code":0}}"#).unwrap_err().path,
            "status.code"
        );
        let problem = handler("denier", r#"{"status":{"cod":7}}"#).unwrap_err();
        assert!(
            problem.path == "status.cod" && problem.message.contains("unknown field"),
            "{problem:?}"
        );
    }

    #[test]
    fn a_denier_may_answer_with_a_response_of_its_own() {
        let params = r#"{"status":{"code":7,"details":[{"@type":"type.googleapis.com/istio.policy.v1beta1.DirectHttpResponse",
            "code":"Unauthorized","body":"log in","headers":{"X-Why":"you"}}]}}"#;
        let Adapter::Denier(denial) = handler("denier", params).unwrap().adapter else {
            panic!("no denier")
        };
        let direct = denial.direct.unwrap();
        assert_eq!((direct.status, direct.body.as_str()), (Some(401), "log in"));
        assert_eq!(direct.headers.get("x-why").map(String::as_str), Some("you"));
    }

    #[test]
    fn metrics_get_istios_names() {
        let params = r#"{"metrics":[
            {"name":"requests_total","instance_name":"requestcount.metric.istio-system","kind":"COUNTER","label_names":["reporter","source-app"]},
            {"namespace":"my","instanceName":"a.b","kind":"DISTRIBUTION","buckets":{"exponential_buckets":{"num_finite_buckets":3,"scale":1,"growth_factor":10}}}]}"#;
        let Adapter::Prometheus(metrics) = handler("prometheus", params).unwrap().adapter else {
            panic!("no metrics")
        };
        let names: Vec<&str> = metrics.iter().map(|m| m.name.as_str()).collect();
        assert_eq!(names, ["istio_requests_total", "my_a_b"]);
        assert_eq!(metrics[0].label_names, ["reporter", "sourceapp"]);
        assert_eq!(metrics[1].buckets, [1.0, 10.0, 100.0, 1000.0]);
    }

    #[test]
    fn bad_parameters_are_named() {
        let check = |adapter: &str, params: &str, path: &str| {
            let problem = handler(adapter, params).unwrap_err();
            assert_eq!(problem.path, path, "{problem:?}");
        };
        check(
            "prometheus",
            r#"{"metrics":[{"instance_name":"a","kind":"COUNT"}]}"#,
            "metrics[0].kind",
        );
        check(
            "prometheus",
            r#"{"metrics":[{"instance_name":"a","kind":"GAUGE","label_names":["a","a"]}]}"#,
            "metrics[0].labelNames[1]",
        );
        check(
            "memquota",
            r#"{"quotas":[{"name":"q","maxAmount":-1}]}"#,
            "quotas[0].maxAmount",
        );
        check(
            "memquota",
            r#"{"quotas":[{"name":"q","validDuration":"x"}]}"#,
            "quotas[0].validDuration",
        );
        check("listchecker", r#"{"providerUrl":"http://x"}"#, "providerUrl");
        assert!(
            handler("opa", "{}")
                .unwrap_err()
                .message
                .contains("opa is not served yet")
        );
    }
}
