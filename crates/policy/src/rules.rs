//! The rules of a mesh, ready to be asked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use config::ObjectKey;
use config::mixer::HeaderOperation;
use expr::{EvalError, Expression, Use};

use crate::api_spec::ApiSpecs;
use crate::backend::BackendHandler;
use crate::condition::Condition;
use crate::header::Operation;
use crate::instance::Instance;
use crate::quota_spec::QuotaSpecs;
use crate::request::{Api, Request};
use crate::sampling::{Aspect, Sampling};
use config::adapters::{Denial, List, MetricDefinition, QuotaLimit, RedisServer};

/// A mesh's rules, checked and compiled. Immutable: a change of configuration makes new ones.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Apply to destinations in every namespace.
    pub(crate) root: Vec<Arc<Rule>>,
    /// Apply to destinations in the rule's own namespace.
    pub(crate) by_namespace: BTreeMap<String, Vec<Arc<Rule>>>,
    pub(crate) quota_specs: QuotaSpecs,
    pub(crate) api_specs: ApiSpecs,
    pub(crate) metrics: Vec<MetricDefinition>,
    /// Handlers beside the decision that rules name, by name.
    pub(crate) backends: BTreeMap<String, Arc<BackendHandler>>,
}

/// A rule with its actions by what they do.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) key: ObjectKey,
    pub(crate) condition: Condition,
    pub(crate) sampling: Option<Sampling>,
    pub(crate) checks: Vec<CheckAction>,
    pub(crate) quotas: Vec<QuotaAction>,
    pub(crate) metrics: Vec<MetricAction>,
    pub(crate) reports: Vec<ReportAction>,
    pub(crate) request_headers: Vec<Operation>,
    pub(crate) response_headers: Vec<Operation>,
    /// Whether requests pass when Mixer cannot be asked.
    pub(crate) fail_open: bool,
    /// Whether Mixer is told of its requests, whatever proxies could do by themselves ([`crate::REPORTS_ANNOTATION`]).
    pub(crate) told: bool,
    /// Why its quotas cannot be asked by rate limit descriptors, when they cannot.
    pub(crate) remote_quota: Option<String>,
}

/// A handler that may refuse.
#[derive(Clone, Debug)]
pub(crate) struct CheckAction {
    /// The handler, as shown to users.
    pub(crate) handler: String,
    pub(crate) check: Checker,
}

/// How a handler decides.
#[derive(Clone, Debug)]
pub(crate) enum Checker {
    Deny(Denial),
    /// The value is looked up.
    List(List, Expression),
    /// An adapter beside the decision is asked about the instance.
    Ask(Arc<BackendHandler>, Arc<Instance>),
}

/// An adapter that hears of finished requests.
#[derive(Clone, Debug)]
pub(crate) struct ReportAction {
    pub(crate) handler: Arc<BackendHandler>,
    pub(crate) instance: Arc<Instance>,
    /// The name by which the handler's parameters speak of the instance.
    pub(crate) key: Option<Arc<str>>,
}

/// A quota that may be used up.
#[derive(Clone, Debug)]
pub(crate) struct QuotaAction {
    pub(crate) handler: String,
    /// The instance's own name, to which QuotaSpecs refer.
    pub(crate) quota: String,
    pub(crate) dimensions: BTreeMap<String, Expression>,
    /// `None` for a denier, which grants nothing.
    pub(crate) limit: Option<QuotaLimit>,
    /// Whether each proxy may count it for itself.
    pub(crate) per_proxy: bool,
    /// The Redis that counts it; Mixer's memory without.
    pub(crate) redis: Option<Arc<RedisServer>>,
    /// The adapter outside of the process that grants it, and what it is asked about.
    pub(crate) outside: Option<(Arc<BackendHandler>, Arc<Instance>)>,
}

/// A metric that is fed.
#[derive(Clone, Debug)]
pub(crate) struct MetricAction {
    /// Its place in [`Rules::metrics`].
    pub(crate) metric: usize,
    pub(crate) value: Expression,
    /// One for each label; `None` for a label without dimension.
    pub(crate) labels: Vec<Option<Expression>>,
}

impl Rule {
    /// `NAME.NAMESPACE`, as descriptors carry it.
    pub(crate) fn full_name(&self) -> String {
        format!("{}.{}", self.key.name, self.key.namespace)
    }

    /// Whether `full_name` is this rule's.
    pub(crate) fn is_named(&self, full_name: &str) -> bool {
        let rest = full_name
            .strip_prefix(self.key.name.as_str())
            .and_then(|rest| rest.strip_prefix('.'));
        rest == Some(self.key.namespace.as_str())
    }

    /// Whether its actions are carried out for a request.
    pub(crate) fn holds(&self, aspect: Aspect, request: &Request<'_>) -> Result<bool, EvalError> {
        let holds = self.condition.holds(request)?;
        let sampling = self.sampling.as_ref().filter(|_| holds);
        Ok(holds && sampling.is_none_or(|sampling| sampling.takes(aspect, request)))
    }

    /// What decides whether it holds.
    fn holds_by(&self) -> impl Iterator<Item = Use> {
        let condition = self.condition.0.iter().flat_map(Expression::uses);
        condition.chain(self.sampling.iter().flat_map(Sampling::uses))
    }

    /// Whether a check must be asked for it; its quotas set aside.
    pub(crate) fn has_check(&self) -> bool {
        !(self.checks.is_empty() && self.request_headers.is_empty() && self.response_headers.is_empty())
    }

    /// The response's headers that it takes away.
    pub(crate) fn removes(&self) -> impl Iterator<Item = String> {
        let removals = self.response_headers.iter();
        let removals = removals.filter(|operation| operation.operation == HeaderOperation::Remove);
        removals.map(|operation| operation.name.clone())
    }

    /// What its predicate and checks read.
    pub(crate) fn check_uses(&self) -> BTreeSet<Use> {
        let lists = self.checks.iter().filter_map(|action| match &action.check {
            Checker::List(_, value) => Some(value),
            Checker::Deny(_) | Checker::Ask(..) => None,
        });
        let asked = self.checks.iter().filter_map(|action| match &action.check {
            Checker::Ask(_, instance) => Some(instance.uses()),
            _ => None,
        });
        let headers = self
            .request_headers
            .iter()
            .chain(&self.response_headers)
            .flat_map(|op| &op.values);
        // What values are appended to, by who carries out the check (`Operation`).
        let appended = self
            .request_headers
            .iter()
            .filter(|operation| operation.operation == HeaderOperation::Append)
            .map(|operation| Use::Entry("request.headers".to_owned(), operation.name.clone()));
        lists
            .chain(headers)
            .flat_map(Expression::uses)
            .chain(appended)
            .chain(asked.flatten())
            .chain(self.holds_by())
            .collect()
    }

    /// What its predicate and quotas read.
    pub(crate) fn quota_uses(&self) -> BTreeSet<Use> {
        let dimensions = self.quotas.iter().flat_map(|action| action.dimensions.values());
        let outside = self.quotas.iter().filter_map(|action| action.outside.as_ref());
        dimensions
            .flat_map(Expression::uses)
            .chain(outside.flat_map(|(_, instance)| instance.uses()))
            .chain(self.holds_by())
            .collect()
    }

    /// Whether anyone hears of finished requests.
    pub(crate) fn has_report(&self) -> bool {
        self.told || !(self.metrics.is_empty() && self.reports.is_empty())
    }

    /// What its predicate, metrics and other reports read.
    pub(crate) fn report_uses(&self) -> BTreeSet<Use> {
        let labels = self
            .metrics
            .iter()
            .flat_map(|action| action.labels.iter().flatten());
        let values = self.metrics.iter().map(|action| &action.value);
        labels
            .chain(values)
            .flat_map(Expression::uses)
            .chain(self.reports.iter().flat_map(|action| action.instance.uses()))
            .chain(self.holds_by())
            .collect()
    }
}

impl Rules {
    /// The rules for destinations in `namespace`: the root namespace's first, then by name.
    pub(crate) fn of<'a>(&'a self, namespace: Option<&str>) -> impl Iterator<Item = &'a Arc<Rule>> + use<'a> {
        let own = namespace.and_then(|namespace| self.by_namespace.get(namespace));
        self.root.iter().chain(own.into_iter().flatten())
    }

    /// Calls `then` with the request and what HTTPAPISpecs say of it.
    pub(crate) fn told<T>(&self, request: &Request<'_>, then: impl FnOnce(&Request<'_>) -> T) -> T {
        match self.api_specs.facts(request) {
            None => then(request),
            Some(facts) => then(&Request {
                api: Api(Some(&facts)),
                ..request.clone()
            }),
        }
    }

    /// Whether a rule (`NAME.NAMESPACE`) may refuse requests, change their headers or charge quotas.
    pub fn decides(&self, rule: &str) -> bool {
        let mut all = self.root.iter().chain(self.by_namespace.values().flatten());
        all.any(|known| known.is_named(rule) && (known.has_check() || !known.quotas.is_empty()))
    }

    /// The metrics that reports feed, in the order of [`crate::Sample::metric`].
    pub fn metrics(&self) -> &[MetricDefinition] {
        &self.metrics
    }

    /// The handlers that run beside the decision.
    pub fn backends(&self) -> impl Iterator<Item = &Arc<BackendHandler>> {
        self.backends.values()
    }

    /// The Redis servers that quotas are counted in.
    pub fn redis_servers(&self) -> Vec<Arc<RedisServer>> {
        let all = self.root.iter().chain(self.by_namespace.values().flatten());
        let quotas = all.flat_map(|rule| &rule.quotas);
        quotas.filter_map(|quota| quota.redis.clone()).collect()
    }

    /// How many rules there are.
    pub fn len(&self) -> usize {
        self.root.len() + self.by_namespace.values().map(Vec::len).sum::<usize>()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
