//! Says of each part of a rule where it is carried out, and why there.

use std::fmt;

use super::Compiler;
use crate::partial::may_apply;
use crate::requirements::{Direction, Ports, Traffic};
use crate::rules::{Rule, Rules};
use crate::workload::WorkloadView;

/// A part of a rule at one workload.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Part {
    /// What it is: `check by HANDLER`, `quota NAME by HANDLER`, ….
    pub what: String,
    /// Where it is carried out.
    pub place: Place,
}

/// Where a part of a rule is carried out.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In the workload's proxy, without a call.
    Proxy,
    /// In Mixer, for this reason.
    Mixer(String),
    /// Nowhere, for this reason.
    Nowhere(String),
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Proxy => write!(f, "{}: in the proxy, without a call", self.what),
            Place::Mixer(why) => write!(f, "{}: in Mixer, since {why}", self.what),
            Place::Nowhere(why) => write!(f, "{}: not at all, since {why}", self.what),
        }
    }
}

impl Rules {
    /// The parts of the rule `NAME.NAMESPACE` for traffic to a workload's ports, each with where it is carried out; none if
    /// the rule can never apply there.
    pub fn explain(&self, rule: &str, own: &WorkloadView, tcp: bool, ports: Ports) -> Vec<Part> {
        let traffic = Traffic {
            direction: Direction::Inbound,
            tcp,
        };
        let found = self.of(Some(&own.namespace)).find(|known| known.is_named(rule));
        match found {
            Some(rule) if may_apply(self, &rule.condition, own, traffic, ports) => {
                let compiler = Compiler::new(self, own, traffic, ports);
                self.parts(rule, own, &compiler, tcp)
            }
            _ => Vec::new(),
        }
    }

    /// A rule's parts at a workload to which it may apply.
    pub(crate) fn parts(
        &self,
        rule: &Rule,
        own: &WorkloadView,
        compiler: &Compiler<'_>,
        tcp: bool,
    ) -> Vec<Part> {
        let part = |what: String, place: Place| Part { what, place };
        let decided = match compiler.native(rule) {
            Ok(_) => Place::Proxy,
            Err(reason) => Place::Mixer(reason.to_string()),
        };
        let headers = match tcp {
            true => Place::Nowhere("connections have no headers".to_owned()),
            false => decided.clone(),
        };
        let mut parts: Vec<Part> = rule
            .checks
            .iter()
            .map(|action| part(format!("check by {}", action.handler), decided.clone()))
            .collect();
        let requests = rule.request_headers.iter().map(|op| ("request", &op.name));
        let responses = rule.response_headers.iter().map(|op| ("response", &op.name));
        parts.extend(
            requests
                .chain(responses)
                .map(|(of, name)| part(format!("{of} header {name}"), headers.clone())),
        );
        for action in &rule.quotas {
            let charged = own
                .services
                .iter()
                .any(|service| self.quota_specs.may_charge(service, &action.quota));
            let place = match (&rule.remote_quota, charged) {
                (_, false) => {
                    Place::Nowhere("no QuotaSpec that is bound to a service of the workload names it".into())
                }
                (None, true) if tcp => Place::Nowhere("connections are charged no quotas".into()),
                (by_check, true) => match (compiler.buckets(rule), by_check) {
                    (Ok(_), _) => Place::Proxy,
                    (Err(reason), None) => Place::Mixer(format!("{reason} (rate limit service)")),
                    (Err(reason), Some(why)) => Place::Mixer(format!("{reason}, and {why} (ext_authz)")),
                },
            };
            parts.push(part(
                format!("quota {} by {}", action.quota, action.handler),
                place,
            ));
        }
        let place = match compiler.said(rule) {
            Ok(_) => Place::Proxy,
            Err(reason) => Place::Mixer(format!("{reason} (access log service, off the request's path)")),
        };
        let metrics = rule
            .metrics
            .iter()
            .filter_map(|action| self.metrics.get(action.metric));
        let metrics = metrics.map(|metric| format!("metric {}", metric.name));
        let reports = rule
            .reports
            .iter()
            .map(|action| format!("report to {}", action.handler.name));
        let told = rule.told.then(|| "report for the graph of services".to_owned());
        let all = metrics.chain(reports).chain(told);
        parts.extend(all.map(|what| part(what, place.clone())));
        parts
    }
}
