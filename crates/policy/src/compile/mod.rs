//! What a workload's proxy can decide by itself: rules whose handlers refuse by conditions that Envoy has matchers for.
//!
//! A rule is compiled whole or not at all, and only where the proxy gives the same verdict as Mixer for every request: absent
//! attributes, malformed values, the status and the body included. For the rest Mixer is asked, and [`Reason`] says why; but
//! only about requests for which one of its rules may hold ([`crate::Check::when`]).
//!
//! Pure, and without a word of Envoy's configuration: that is made of [`Refusal`] and [`Matcher`] by those who serve it.

mod attribute;
mod explain;
mod expression;
mod matcher;
mod pattern;
#[cfg(test)]
mod properties;
mod reason;
mod refusal;

pub use explain::{Part, Place};
pub use matcher::{Fact, Matcher, Test};
pub use reason::Reason;
pub use refusal::{BodyPart, Refusal};

use expr::Node;

use self::attribute::Environment;
use crate::partial::services;
use crate::requirements::{Ports, Traffic};
use crate::rules::{Rule, Rules};
use crate::workload::WorkloadView;

/// Most parts of a rule's matchers; more would make proxies slower than a call.
pub(crate) const MAX_SIZE: usize = 1_000;

/// Compiles the rules of one workload for one kind of its traffic.
pub(crate) struct Compiler<'a> {
    rules: &'a Rules,
    own: &'a WorkloadView,
    environment: Environment<'a>,
}

impl<'a> Compiler<'a> {
    pub(crate) fn new(rules: &'a Rules, own: &'a WorkloadView, traffic: Traffic, ports: Ports) -> Self {
        let environment = Environment::new(own, &services(own, ports), ports.number(), traffic.tcp);
        Self {
            rules,
            own,
            environment,
        }
    }

    /// The refusals that a rule's checks come to.
    ///
    /// # Errors
    /// Why Mixer must be asked.
    pub(crate) fn refusals(&self, rule: &Rule) -> Result<Vec<Refusal>, Reason> {
        if !(rule.request_headers.is_empty() && rule.response_headers.is_empty()) {
            return Err(Reason::Headers);
        }
        if rule.remote_quota.is_some() && self.rules.may_charge(rule, self.own) {
            return Err(Reason::Quota);
        }
        let condition = match &rule.condition.0 {
            Some(expression) => self.environment.truth(expression.root())?.yes,
            None => Matcher::Always,
        };
        let name = rule.full_name();
        let mut refusals = Vec::new();
        for action in &rule.checks {
            refusals.extend(self.environment.refusals(&name, &condition, action)?);
        }
        match refusals.iter().map(|refusal| refusal.when.size()).sum::<usize>() {
            size if size > MAX_SIZE => Err(Reason::Large),
            _ => Ok(refusals),
        }
    }

    /// A condition that holds for every request to which the rule applies, or of which that cannot be told.
    pub(crate) fn may_apply(&self, rule: &Rule) -> Matcher {
        let bound = rule
            .condition
            .0
            .as_ref()
            .map(|expression| self.bound(expression.root()));
        bound
            .filter(|bound| bound.size() <= MAX_SIZE)
            .unwrap_or(Matcher::Always)
    }

    /// Holds wherever the node is true or fails for malformed values: operands are looked at from the left, so what stands
    /// right of one that may fail says nothing.
    fn bound(&self, node: &Node) -> Matcher {
        match (node, self.environment.truth(node)) {
            (_, Ok(truth)) => truth.yes,
            (Node::And(left, right), Err(_)) => match self.environment.truth(left) {
                Ok(truth) => truth.yes.and(&self.bound(right)),
                Err(_) => self.bound(left),
            },
            (Node::Or(left, right), Err(_)) => self.bound(left).or(&self.bound(right)),
            (_, Err(_)) => Matcher::Always,
        }
    }
}
