//! Which adapter takes which template, and what comes of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::backend::{BackendHandler, Variety};
use crate::build::Builder;
use crate::handler::{Adapter, Handler};
use crate::instance::{Instance, Template};
use crate::rules::{CheckAction, Checker, MetricAction, QuotaAction, ReportAction, Rule};
use config::adapters::MetricDefinition;
use config::adapters::QuotaLimit;

impl Builder<'_> {
    /// Adds what a handler does with an instance.
    pub(crate) fn join(
        &mut self,
        rule: &mut Rule,
        handler: &Arc<Handler>,
        instance: &Arc<Instance>,
    ) -> Result<(), String> {
        let check = |check: Checker| CheckAction {
            handler: handler.full_name.clone(),
            check,
        };
        match (&handler.adapter, &instance.template) {
            (Adapter::Denier(denial), Template::CheckNothing | Template::ListEntry(_)) => {
                rule.checks.push(check(Checker::Deny(denial.clone())));
            }
            (Adapter::List(list), Template::ListEntry(value)) => {
                rule.checks
                    .push(check(Checker::List(list.clone(), value.clone())));
            }
            (adapter, Template::Quota(dimensions))
                if !matches!(adapter, Adapter::Noop | Adapter::Backend(_)) =>
            {
                let (limit, redis) = match adapter {
                    Adapter::Denier(_) => (None, None),
                    Adapter::MemQuota(limits) => (Some(self.limit(limits, handler, instance)?), None),
                    Adapter::RedisQuota(server, limits) => {
                        (Some(self.limit(limits, handler, instance)?), Some(server.clone()))
                    }
                    _ => return Err(takes_no(handler, &instance.template)),
                };
                rule.quotas.push(QuotaAction {
                    handler: handler.full_name.clone(),
                    quota: instance.short_name.clone(),
                    dimensions: dimensions.clone(),
                    limit,
                    per_proxy: handler.per_proxy,
                    redis,
                    outside: None,
                });
            }
            (Adapter::Prometheus(metrics), Template::Metric { value, dimensions }) => {
                let mut found = false;
                for metric in metrics {
                    if self.names(&metric.instance, handler, instance) {
                        found = true;
                        let metric_index = self.metric(handler, metric)?;
                        let labels = metric
                            .labels
                            .iter()
                            .map(|label| dimensions.get(label).cloned())
                            .collect();
                        rule.metrics.push(MetricAction {
                            metric: metric_index,
                            value: value.clone(),
                            labels,
                        });
                    }
                }
                if !found {
                    return Err(format!(
                        "the handler {} has no metric for {}",
                        handler.full_name,
                        instance.name.full()
                    ));
                }
            }
            (Adapter::Backend(backend), template) => {
                return self.beside(rule, handler, backend, instance, template);
            }
            (Adapter::Noop, _) | (Adapter::KubernetesEnv, Template::Kubernetes) => {}
            (_, template) => return Err(takes_no(handler, template)),
        }
        Ok(())
    }

    /// Adds what a handler beside the decision does with an instance.
    fn beside(
        &mut self,
        rule: &mut Rule,
        handler: &Handler,
        backend: &Arc<BackendHandler>,
        instance: &Arc<Instance>,
        template: &Template,
    ) -> Result<(), String> {
        let variety = backend.backend.takes(template.name());
        let variety = variety.ok_or_else(|| takes_no(handler, template))?;
        let mut key = None;
        if let Some(named) = backend.backend.named(template.name()) {
            let found = named.into_iter().find(|name| self.names(name, handler, instance));
            let none = || {
                let instance = instance.name.full();
                format!("the handler {} has no metric for {instance}", handler.full_name)
            };
            key = Some(found.ok_or_else(none)?.clone());
        }
        match variety {
            Variety::Quota => rule.quotas.push(QuotaAction {
                handler: handler.full_name.clone(),
                quota: instance.short_name.clone(),
                dimensions: BTreeMap::new(),
                limit: None,
                per_proxy: false,
                redis: None,
                outside: Some((backend.clone(), instance.clone())),
            }),
            Variety::Check => rule.checks.push(CheckAction {
                handler: handler.full_name.clone(),
                check: Checker::Ask(backend.clone(), instance.clone()),
            }),
            Variety::Report => rule.reports.push(ReportAction {
                handler: backend.clone(),
                instance: instance.clone(),
                key,
            }),
        }
        self.rules.backends.insert(backend.name.clone(), backend.clone());
        Ok(())
    }

    /// The limit that a handler sets for the instance.
    fn limit(
        &self,
        limits: &[QuotaLimit],
        handler: &Handler,
        instance: &Arc<Instance>,
    ) -> Result<QuotaLimit, String> {
        let named = limits
            .iter()
            .find(|limit| self.names(&limit.name, handler, instance));
        let none = || {
            let instance = instance.name.full();
            format!("the handler {} has no quota for {instance}", handler.full_name)
        };
        named.cloned().ok_or_else(none)
    }

    /// Whether a handler's parameter names the instance.
    fn names(&self, reference: &str, handler: &Handler, instance: &Arc<Instance>) -> bool {
        let found = self.instances.resolve(reference, &handler.namespace).flatten();
        found.is_some_and(|found| Arc::ptr_eq(&found, instance))
    }

    /// The metric's place among all; two handlers may not give one name.
    fn metric(&mut self, handler: &Handler, metric: &MetricDefinition) -> Result<usize, String> {
        if let Some((index, owner)) = self.metrics.get(&metric.name) {
            if *owner == handler.full_name {
                return Ok(*index);
            }
            return Err(format!(
                "the metric {} is one of {owner}'s already; give it another name",
                metric.name
            ));
        }
        let index = self.rules.metrics.len();
        self.rules.metrics.push(metric.clone());
        self.metrics
            .insert(metric.name.clone(), (index, handler.full_name.clone()));
        Ok(index)
    }
}

fn takes_no(handler: &Handler, template: &Template) -> String {
    format!(
        "the handler {} takes no instances of {}",
        handler.full_name,
        template.name()
    )
}
