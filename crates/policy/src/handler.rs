//! Handlers: the adapters that are served, with their parameters read and checked.

use std::collections::BTreeMap;
use std::sync::Arc;

use config::mixer;
use serde::Deserialize;

use crate::backend::{Backend, BackendHandler, Remotes};
use crate::denial::Denial;
use crate::list::{self, List};
use crate::metric::{self, MetricDefinition};
use crate::params::{self, Problem};
use crate::redis_quota::{self, Algorithm, RedisServer};
use crate::reference::Name;
use crate::window::Limit;

/// Most quotas, overrides, metrics, labels or buckets of one handler.
pub(crate) const MAX_ITEMS: usize = 1000;

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
    RedisQuota(Arc<RedisServer>, Vec<QuotaLimit>),
    Prometheus(Vec<MetricDefinition>),
    /// Takes everything and does nothing.
    Noop,
    /// Attributes of workloads come from the feed: nothing is left to do.
    KubernetesEnv,
    /// One that runs beside the decision.
    Backend(Arc<BackendHandler>),
}

/// A quota's limit.
#[derive(Clone, Debug)]
pub(crate) struct QuotaLimit {
    /// The instance, as referred to.
    pub(crate) name: String,
    pub(crate) limit: Limit,
    /// How units come back.
    pub(crate) algorithm: Algorithm,
    /// The first whose dimensions all match counts.
    pub(crate) overrides: Vec<(BTreeMap<String, String>, Limit)>,
}

impl Handler {
    /// Reads a handler. The error names the parameter, or the adapter that is not served.
    pub(crate) fn new(name: &Name, spec: &mixer::Handler, remotes: &Remotes<'_>) -> Result<Self, Problem> {
        let backend = |backend| {
            let name = name.full();
            Adapter::Backend(Arc::new(BackendHandler { name, backend }))
        };
        let adapter = match spec.compiled_adapter.as_str() {
            "denier" => Adapter::Denier(Denial::new(params::read(&spec.params)?)?),
            "listchecker" => {
                let list: list::Params = params::read(&spec.params)?;
                match list.provider_url.is_empty() {
                    true => Adapter::List(List::new(&list)?),
                    false => backend(Backend::list(list)?),
                }
            }
            "memquota" => Adapter::MemQuota(quotas(params::read(&spec.params)?)?),
            "redisquota" => {
                let (server, limits) = redis_quota::read(params::read(&spec.params)?)?;
                Adapter::RedisQuota(Arc::new(server), limits)
            }
            "prometheus" => Adapter::Prometheus(metric::definitions(params::read(&spec.params)?)?),
            "noop" => Adapter::Noop,
            "kubernetesenv" => Adapter::KubernetesEnv,
            "" if !spec.adapter.is_empty() => {
                backend(Backend::Remote(remotes.handler(&name.namespace, spec)?))
            }
            "" => return Err(Problem::new("", "names no adapter; set compiledAdapter")),
            other => match Backend::read(other, &spec.params) {
                Some(read) => backend(read?),
                None => {
                    let what =
                        format!("there is no adapter {other}; docs/adapters has those that are served");
                    return Err(Problem::new("", what));
                }
            },
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
    /// Istio's memquota has rolling windows alone; the names are those of its redisquota.
    #[serde(default)]
    rate_limit_algorithm: AlgorithmName,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum AlgorithmName {
    #[default]
    RollingWindow,
    FixedWindow,
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
pub(crate) fn bounded<T>(items: &[T], path: &str) -> Result<(), Problem> {
    if items.len() > MAX_ITEMS {
        return Err(Problem::new(
            path,
            format!("has {} entries, more than {MAX_ITEMS}", items.len()),
        ));
    }
    Ok(())
}

pub(crate) fn limit(max_amount: i64, duration: config::Duration, path: &str) -> Result<Limit, Problem> {
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
            algorithm: match quota.rate_limit_algorithm {
                AlgorithmName::FixedWindow => Algorithm::FixedWindow,
                // The windows choose their own steps.
                AlgorithmName::RollingWindow => Algorithm::RollingWindow { bucket: 0 },
            },
            overrides,
        });
    }
    Ok(limits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::Code;

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
            &Remotes::default(),
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
        check("listchecker", r#"{"providerUrl":"x"}"#, "providerUrl");
        assert!(
            handler("solarwinds", "{}")
                .unwrap_err()
                .message
                .contains("no adapter solarwinds")
        );
    }
}
