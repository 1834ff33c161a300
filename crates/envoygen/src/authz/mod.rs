//! AuthorizationPolicies as Envoy's filters: what external authorizers are asked about, then what is audited, then what is
//! denied, then what is allowed. Where a rule
//! cannot be expressed on a connection (HTTP fields on TCP) it fails closed: an ALLOW rule is left out, a DENY rule denies
//! more (Istio does the same).
//!
//! A caller without identity never meets a `not…` condition on identities in an ALLOW rule; in a DENY rule it does, so that
//! `notPrincipals: ["*"]` refuses plaintext.

mod condition;
mod external;
mod matching;
mod path;
mod permission;
mod principal;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use config::security::{Action, AuthorizationPolicy, Rule};
use config::{Finding, ObjectKey};
use envoy_types::pb::envoy::config::listener::v3::Filter;
use envoy_types::pb::envoy::config::rbac::v3::{
    self as pb, Permission, Principal, permission::Rule as PermissionRule, principal::Identifier,
};
use envoy_types::pb::envoy::extensions::filters::http::rbac::v3::Rbac as HttpRbac;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpFilter;
use envoy_types::pb::envoy::extensions::filters::network::rbac::v3::Rbac as NetworkRbac;
use model::{Policy, Snapshot};

pub(crate) use condition::PAYLOAD;
pub(crate) use external::services;

use crate::filter;
use crate::lines;
use crate::selected::attaches;
use crate::wire::any;

/// Annotation that makes a policy a trial: its decisions are counted and logged, not enforced.
const DRY_RUN: &str = "istio.io/dry-run";

/// Filters that enforce a workload's policies.
#[derive(Debug, Clone, Default)]
pub(crate) struct Authz {
    /// What makes one line of each header that rules read, before anybody reads it.
    pub(crate) lines: Option<HttpFilter>,
    /// What refuses paths that can be read in two ways, then what asks external authorizers (CUSTOM); it comes before tokens are
    /// checked (Istio).
    pub(crate) custom: Vec<HttpFilter>,
    /// What decides by the policies' own rules.
    pub(crate) http: Vec<HttpFilter>,
    /// Both, for connections.
    pub(crate) tcp: Vec<Filter>,
    /// The policies.
    pub(crate) origins: Vec<ObjectKey>,
    pub(crate) findings: Vec<Finding>,
}

impl Authz {
    /// Whether requests are decided on.
    pub(crate) fn decides(&self) -> bool {
        !self.http.is_empty() || !self.custom.is_empty()
    }

    /// The filters of a workload with these labels.
    pub(crate) fn new(snapshot: &Snapshot, namespace: &str, labels: &BTreeMap<String, String>) -> Authz {
        let mut out = Authz::default();
        let mut by_action: BTreeMap<u8, Vec<&Policy<AuthorizationPolicy>>> = BTreeMap::new();
        let root = snapshot.root_namespace();
        for policy in snapshot.policies().authorization(namespace, labels) {
            let targets = policy.spec.target_ref.iter().chain(&policy.spec.target_refs);
            if attaches(targets, &policy.key, root, namespace, labels) {
                out.origins.push(policy.key.clone());
                by_action
                    .entry(order(policy.spec.action))
                    .or_default()
                    .push(policy);
            }
        }
        out.lines = lines::joined(filter::HEADER_MUTATION, &headers(by_action.values().flatten()));
        out.custom
            .extend(path::guard(by_action.values().flatten().copied()));
        for policies in by_action.values() {
            match policies.first().map(|policy| policy.spec.action) {
                Some(Action::Custom) => external::add(snapshot, namespace, policies, &mut out),
                Some(action) => out.add(snapshot, action, policies),
                None => {}
            }
        }
        out
    }

    fn add(&mut self, snapshot: &Snapshot, action: Action, policies: &[&Policy<AuthorizationPolicy>]) {
        let compile = |tcp| Compiler::new(snapshot, action, tcp).compile(policies);
        self.http.extend(http_filter(action, compile(false)));
        self.tcp.extend(network_filter(action, compile(true)));
    }
}

/// The headers that policies read. Cookies are parted by other signs, and the host is one; Envoy has these in one line already.
fn headers<'a>(policies: impl Iterator<Item = &'a &'a Policy<AuthorizationPolicy>>) -> BTreeSet<String> {
    let rules = policies.flat_map(|policy| &policy.spec.rules);
    rules
        .flat_map(|rule| &rule.when)
        .filter_map(|when| condition::bracketed(&when.key, "request.headers"))
        .map(str::to_ascii_lowercase)
        .filter(|name| !name.starts_with(':') && name != "cookie" && name != "host")
        .collect()
}

/// The order in which actions decide.
fn order(action: Action) -> u8 {
    match action {
        Action::Custom => 0,
        Action::Audit => 1,
        Action::Deny => 2,
        Action::Allow => 3,
    }
}

/// Policies of one action, enforced and on trial.
#[derive(Debug, Default)]
struct Compiled {
    enforced: Option<pb::Rbac>,
    trial: Option<pb::Rbac>,
}

fn http_filter(action: Action, compiled: Compiled) -> Option<HttpFilter> {
    if compiled.enforced.is_none() && compiled.trial.is_none() {
        return None;
    }
    let config = HttpRbac {
        shadow_rules_stat_prefix: trial_prefix(action, &compiled).to_owned(),
        rules: compiled.enforced,
        shadow_rules: compiled.trial,
        ..Default::default()
    };
    Some(filter::http(filter::HTTP_RBAC, any(&config)))
}

fn network_filter(action: Action, compiled: Compiled) -> Option<Filter> {
    if compiled.enforced.is_none() && compiled.trial.is_none() {
        return None;
    }
    let config = NetworkRbac {
        shadow_rules_stat_prefix: trial_prefix(action, &compiled).to_owned(),
        rules: compiled.enforced,
        shadow_rules: compiled.trial,
        stat_prefix: "tcp.".to_owned(),
        ..Default::default()
    };
    Some(filter::network(filter::NETWORK_RBAC, any(&config)))
}

fn trial_prefix(action: Action, compiled: &Compiled) -> &'static str {
    match (action, &compiled.trial) {
        (_, None) => "",
        (Action::Allow, _) => "istio_dry_run_allow_",
        (Action::Deny, _) => "istio_dry_run_deny_",
        _ => "",
    }
}

/// Turns policies of one action into RBAC policies.
pub(crate) struct Compiler<'a> {
    snapshot: &'a Snapshot,
    action: Action,
    /// Whether for connections rather than requests.
    tcp: bool,
    /// What the names of its policies begin with.
    prefix: String,
}

impl<'a> Compiler<'a> {
    fn new(snapshot: &'a Snapshot, action: Action, tcp: bool) -> Compiler<'a> {
        Compiler {
            snapshot,
            action,
            tcp,
            prefix: String::new(),
        }
    }
}

impl Compiler<'_> {
    fn compile(&self, policies: &[&Policy<AuthorizationPolicy>]) -> Compiled {
        let mut out = Compiled::default();
        for policy in policies {
            let into = if is_trial(policy) {
                &mut out.trial
            } else {
                &mut out.enforced
            };
            let rbac = into.get_or_insert_with(|| pb::Rbac {
                action: self.envoy_action() as i32,
                policies: HashMap::new(),
                ..Default::default()
            });
            let name = |index| format!("{}{}", self.prefix, policy_name(&policy.key, index));
            for (index, rule) in policy.spec.rules.iter().enumerate() {
                if let Some(compiled) = self.rule(&policy.key.namespace, rule) {
                    rbac.policies.insert(name(index), compiled);
                }
            }
            if policy.spec.rules.is_empty() {
                rbac.policies.insert(name(0), never());
            }
        }
        out
    }

    fn envoy_action(&self) -> pb::rbac::Action {
        match self.action {
            Action::Allow => pb::rbac::Action::Allow,
            // Of CUSTOM: what its rules match; who cannot be asked refuses it.
            Action::Deny | Action::Custom => pb::rbac::Action::Deny,
            Action::Audit => pb::rbac::Action::Log,
        }
    }

    /// Whether a part that cannot be expressed takes its rule with it, rather than being passed over.
    fn strict(&self) -> bool {
        self.action == Action::Allow
    }

    /// One rule; `None` if it can match nothing here.
    fn rule(&self, namespace: &str, rule: &Rule) -> Option<pb::Policy> {
        let mut principals = Vec::new();
        let mut permissions = Vec::new();
        let (conditions_on_caller, conditions_on_request) = self.conditions(namespace, &rule.when)?;
        for from in &rule.from {
            let mut all = match &from.source {
                Some(source) => self.source(namespace, source)?,
                None => Vec::new(),
            };
            all.extend(conditions_on_caller.iter().cloned());
            principals.push(all_of(all));
        }
        if rule.from.is_empty() {
            principals.push(all_of(conditions_on_caller));
        }
        for to in &rule.to {
            let mut all = match &to.operation {
                Some(operation) => self.operation(operation)?,
                None => Vec::new(),
            };
            all.extend(conditions_on_request.iter().cloned());
            permissions.push(every(all));
        }
        if rule.to.is_empty() {
            permissions.push(every(conditions_on_request));
        }
        Some(pb::Policy {
            permissions,
            principals,
            ..Default::default()
        })
    }
}

/// Whether a policy is only tried.
fn is_trial(policy: &Policy<AuthorizationPolicy>) -> bool {
    let asked = policy.annotations.get(DRY_RUN);
    asked.is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

fn policy_name(key: &ObjectKey, index: usize) -> String {
    format!("ns[{}]-policy[{}]-rule[{index}]", key.namespace, key.name)
}

/// A policy that matches nothing: a policy without rules.
fn never() -> pb::Policy {
    pb::Policy {
        permissions: vec![not_permission(every(Vec::new()))],
        principals: vec![not_principal(all_of(Vec::new()))],
        ..Default::default()
    }
}

fn principal_of(identifier: Identifier) -> Principal {
    Principal {
        identifier: Some(identifier),
    }
}

fn not_principal(principal: Principal) -> Principal {
    principal_of(Identifier::NotId(Box::new(principal)))
}

/// All must hold; anybody if there is none.
fn all_of(mut ids: Vec<Principal>) -> Principal {
    match (ids.len(), ids.pop()) {
        (_, None) => principal_of(Identifier::Any(true)),
        (1, Some(only)) => only,
        (_, Some(last)) => {
            ids.push(last);
            principal_of(Identifier::AndIds(pb::principal::Set { ids }))
        }
    }
}

/// One must hold.
fn one_of(ids: Vec<Principal>) -> Principal {
    principal_of(Identifier::OrIds(pb::principal::Set { ids }))
}

fn permission_of(rule: PermissionRule) -> Permission {
    Permission { rule: Some(rule) }
}

fn not_permission(permission: Permission) -> Permission {
    permission_of(PermissionRule::NotRule(Box::new(permission)))
}

/// All must hold; anything if there is none.
fn every(mut rules: Vec<Permission>) -> Permission {
    match (rules.len(), rules.pop()) {
        (_, None) => permission_of(PermissionRule::Any(true)),
        (1, Some(only)) => only,
        (_, Some(last)) => {
            rules.push(last);
            permission_of(PermissionRule::AndRules(pb::permission::Set { rules }))
        }
    }
}

/// One must hold.
fn either(rules: Vec<Permission>) -> Permission {
    permission_of(PermissionRule::OrRules(pb::permission::Set { rules }))
}
