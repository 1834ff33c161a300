//! Handlers: the adapters that are served, with their parameters read and checked.

use std::sync::Arc;

use config::adapters::{self, Denial, List, MetricDefinition, Problem, QuotaLimit, RedisServer};
use config::mixer;

use crate::backend::{Backend, BackendHandler, Remotes};
use crate::reference::Name;

/// A handler.
#[derive(Clone, Debug)]
pub(crate) struct Handler {
    /// As shown to users: `NAME.NAMESPACE`.
    pub(crate) full_name: String,
    pub(crate) namespace: String,
    pub(crate) adapter: Adapter,
    /// Whether each proxy may count its quotas for itself ([`crate::QUOTA_SCOPE_ANNOTATION`]).
    pub(crate) per_proxy: bool,
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

impl Handler {
    /// Reads a handler. The error names the parameter, or the adapter that is not served.
    pub(crate) fn new(name: &Name, spec: &mixer::Handler, remotes: &Remotes<'_>) -> Result<Self, Problem> {
        let backend = |backend| {
            let name = name.full();
            Adapter::Backend(Arc::new(BackendHandler { name, backend }))
        };
        let adapter = match spec.compiled_adapter.as_str() {
            "" if !spec.adapter.is_empty() => {
                backend(Backend::Remote(remotes.handler(&name.namespace, spec)?))
            }
            "" => return Err(Problem::new("", "names no adapter; set compiledAdapter")),
            known => match adapters::Adapter::read(known, &spec.params) {
                Some(read) => Adapter::of(read?, backend),
                None => {
                    let what =
                        format!("there is no adapter {known}; docs/adapters has those that are served");
                    return Err(Problem::new("", what));
                }
            },
        };
        Ok(Self {
            full_name: name.full(),
            namespace: name.namespace.clone(),
            adapter,
            per_proxy: false,
        })
    }
}

impl Adapter {
    /// What stands behind the parameters; `beside` makes one that runs beside the decision.
    fn of(read: adapters::Adapter, beside: impl FnOnce(Backend) -> Self) -> Self {
        use adapters::Adapter as Read;
        match read {
            Read::Denier(denial) => Self::Denier(denial),
            Read::List(list) => Self::List(list),
            Read::MemQuota(limits) => Self::MemQuota(limits),
            Read::RedisQuota(server, limits) => Self::RedisQuota(Arc::new(server), limits),
            Read::Prometheus(metrics) => Self::Prometheus(metrics),
            Read::Noop => Self::Noop,
            Read::KubernetesEnv => Self::KubernetesEnv,
            Read::ListSource(source) => beside(Backend::List(source)),
            Read::Opa(opa) => beside(Backend::Opa(opa)),
            Read::Rbac(rbac) => beside(Backend::Rbac(rbac)),
            Read::Stdio(stdio) => beside(Backend::Stdio(stdio)),
            Read::Statsd(statsd) => beside(Backend::Statsd(statsd)),
            Read::Dogstatsd(dogstatsd) => beside(Backend::Dogstatsd(dogstatsd)),
            Read::Fluentd(fluentd) => beside(Backend::Fluentd(fluentd)),
            Read::Zipkin(zipkin) => beside(Backend::Zipkin(zipkin)),
            Read::OpenTelemetry(otlp) => beside(Backend::OpenTelemetry(otlp)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::adapters::Code;

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
