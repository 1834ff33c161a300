//! What a workload's proxy can do by itself: decide on rules whose handlers refuse, and whose operations change headers, by
//! conditions that Envoy has matchers for ([`refusal`], [`mutation`]); grant quotas that are counted by each proxy ([`quota`]);
//! and count and log what rules report ([`report`]).
//!
//! A rule is compiled whole or not at all, and only where the proxy gives the same verdict as Mixer for every request: absent
//! attributes, malformed values, the status and the body included. For the rest Mixer is asked, and [`Reason`] says why; but
//! only about requests for which one of its rules may hold ([`crate::Check::when`]).
//!
//! Pure, and without a word of Envoy's configuration: that is made of [`Refusal`], [`Mutation`] and [`Matcher`] by
//! those who serve it.

mod attribute;
mod explain;
mod expression;
mod matcher;
mod mutation;
mod pattern;
#[cfg(test)]
mod properties;
mod quota;
mod reason;
mod refusal;
mod report;

pub use explain::{Part, Place};
pub use matcher::{Fact, Matcher, Test};
pub use mutation::{Change, HeaderText, Mutation, Values};
pub use quota::{Bucket, Dimension};
pub use reason::Reason;
pub use refusal::{BodyPart, Refusal};
pub use report::{Amount, Count, Field, Line, Text};

use expr::Node;

use self::attribute::Environment;
use self::mutation::{Changed, changed};
use crate::partial::{may_apply, services};
use crate::requirements::{Ports, Traffic};
use crate::rules::{Rule, Rules};
use crate::workload::{ServiceView, WorkloadView};

/// Most parts of a rule's matchers; more would make proxies slower than a call.
pub(crate) const MAX_SIZE: usize = 1_000;

/// Compiles the rules of one workload for one kind of its traffic.
pub(crate) struct Compiler<'a> {
    rules: &'a Rules,
    own: &'a WorkloadView,
    environment: Environment<'a>,
    /// The services that a request may mean; `None` is no service.
    services: Vec<Option<&'a ServiceView>>,
    port: Option<u16>,
    tcp: bool,
    by_mixer: Changed,
}

/// What a rule comes to in the proxy.
#[derive(Debug, Default)]
pub(crate) struct Native {
    pub(crate) refusals: Vec<Refusal>,
    pub(crate) mutations: Vec<Mutation>,
}

impl<'a> Compiler<'a> {
    pub(crate) fn new(rules: &'a Rules, own: &'a WorkloadView, traffic: Traffic, ports: Ports) -> Self {
        let services = services(own, ports);
        let given = rules.given(&services, traffic.tcp);
        let environment = Environment::new(own, &services, ports.number(), traffic.tcp, given);
        let mut compiler = Self {
            rules,
            own,
            environment,
            services,
            port: ports.number(),
            tcp: traffic.tcp,
            by_mixer: Changed::new(),
        };
        let all = rules.of(Some(&own.namespace)).map(|rule| &**rule);
        let applying: Vec<&Rule> = all
            .filter(|rule| may_apply(rules, &rule.condition, own, traffic, ports))
            .collect();
        compiler.by_mixer = compiler.changed_by_mixer(&applying);
        compiler
    }

    /// What a rule's checks and header operations come to.
    ///
    /// # Errors
    /// Why Mixer must be asked.
    pub(crate) fn native(&self, rule: &Rule) -> Result<Native, Reason> {
        let native = self.alone(rule)?;
        match changed(rule).find(|header| self.by_mixer.contains(header)) {
            Some((_, header)) if !self.tcp => Err(Reason::Shared(header)),
            _ => Ok(native),
        }
    }

    /// The same, as if there were no other rule.
    fn alone(&self, rule: &Rule) -> Result<Native, Reason> {
        if rule.sampling.is_some() {
            return Err(Reason::Sampled);
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
            _ => Ok(Native {
                refusals,
                // Connections have no headers.
                mutations: match self.tcp {
                    true => Vec::new(),
                    false => self.environment.mutations(rule, &condition)?,
                },
            }),
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
