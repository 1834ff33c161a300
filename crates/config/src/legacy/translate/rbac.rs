//! ServiceRole, ServiceRoleBinding, RbacConfig and ClusterRbacConfig: for each service where access is controlled one
//! AuthorizationPolicy of its workloads, which allows what roles and bindings allow and nothing else. Gateways were never
//! controlled by these kinds, and are not.

use std::collections::BTreeMap;

use super::Out;
use super::rule::{self, Asked};
use super::set::{Labels, Set};
use crate::legacy::{
    AccessRule, EnforcementMode, RbacConfig, RbacMode, RbacTarget, ServiceRoleBinding, Subject,
};
use crate::security::{AuthorizationPolicy, Rule};
use crate::selector::WorkloadSelector;
use crate::{Kind, Object, Spec};

/// Adds what the kinds of rbac.istio.io are today.
pub(super) fn translate(set: &Set<'_>, out: &mut Out) {
    let Some((switch, config)) = switch(set, out) else {
        for object in [Kind::ServiceRole, Kind::ServiceRoleBinding]
            .into_iter()
            .flat_map(|kind| set.of(kind))
        {
            out.ignored(
                object,
                "",
                "has no effect: no ClusterRbacConfig turns access control on",
            );
        }
        return;
    };
    if config.enforcement_mode == EnforcementMode::Permissive {
        return out.ignored(
            switch,
            "spec.enforcementMode",
            "PERMISSIVE only tried out, so nothing is enforced",
        );
    }
    unknown_services(set, switch, config, out);
    out.translated(switch, "an AuthorizationPolicy for the workloads of each service");
    let roles = Roles::new(set, out);
    for (namespace, name, labels) in set
        .sidecar_services()
        .filter(|(of, name, _)| is_on(set, config, of, name))
    {
        if set.is_covered(Kind::AuthorizationPolicy, namespace, labels) {
            continue;
        }
        let mut from = vec![switch];
        let rules = roles.rules(
            &Asked {
                set,
                namespace,
                name,
                labels,
            },
            &mut from,
            out,
        );
        let spec = AuthorizationPolicy {
            selector: Some(WorkloadSelector {
                match_labels: Labels::clone(labels),
            }),
            rules,
            ..AuthorizationPolicy::default()
        };
        out.add(
            Kind::AuthorizationPolicy,
            namespace,
            format!("legacy-rbac.{name}"),
            spec.into(),
            &from,
        );
    }
}

/// The object that turns access control on, if any does. ClusterRbacConfig comes before the older RbacConfig.
fn switch<'a>(set: &Set<'a>, out: &mut Out) -> Option<(&'a Object, &'a RbacConfig)> {
    let mut configs = set.of(Kind::ClusterRbacConfig).chain(set.of(Kind::RbacConfig));
    let first = configs.next()?;
    for other in configs {
        out.ignored(other, "", format!("has no effect beside {}", first.key()));
    }
    match &first.spec {
        Spec::RbacConfig(config) if config.mode != RbacMode::Off => Some((first, config)),
        _ => None,
    }
}

/// Whether access to a service is controlled.
fn is_on(set: &Set<'_>, config: &RbacConfig, namespace: &str, name: &str) -> bool {
    let named = |target: Option<&RbacTarget>| {
        target.is_some_and(|target| {
            let host = set.host(namespace, name);
            target.namespaces.iter().any(|of| of == namespace) || target.services.contains(&host)
        })
    };
    match config.mode {
        RbacMode::Off => false,
        RbacMode::On => true,
        RbacMode::OnWithInclusion => named(config.inclusion.as_ref()),
        RbacMode::OnWithExclusion => !named(config.exclusion.as_ref()),
    }
}

/// Names an inclusion's services and namespaces that are not there: what they were to protect may be there later, or be
/// misspelt.
fn unknown_services(set: &Set<'_>, object: &Object, config: &RbacConfig, out: &mut Out) {
    let Some(target) = config
        .inclusion
        .as_ref()
        .filter(|_| config.mode == RbacMode::OnWithInclusion)
    else {
        return;
    };
    let hosts: Vec<String> = set
        .sidecar_services()
        .map(|(namespace, name, _)| set.host(namespace, name))
        .collect();
    for (index, _) in target
        .services
        .iter()
        .enumerate()
        .filter(|(_, host)| !hosts.contains(host))
    {
        let message = "no Service with a selector has this name, so nothing is controlled by it";
        out.ignored(object, &format!("spec.inclusion.services[{index}]"), message);
    }
    let namespaces = set.namespaces();
    for (index, _) in target
        .namespaces
        .iter()
        .enumerate()
        .filter(|(_, of)| !namespaces.contains(of.as_str()))
    {
        let message = "no Service with a selector is in this namespace, so nothing is controlled there";
        out.ignored(object, &format!("spec.inclusion.namespaces[{index}]"), message);
    }
}

/// One binding of subjects to rules.
struct Grant<'a> {
    binding: &'a Object,
    role: Option<&'a Object>,
    /// Where the rules stand: `rules` of a role, `actions` of a binding.
    field: &'static str,
    subjects: &'a [Subject],
    rules: &'a [AccessRule],
}

/// All bindings by their namespace.
struct Roles<'a> {
    grants: BTreeMap<&'a str, Vec<Grant<'a>>>,
}

impl<'a> Roles<'a> {
    fn new(set: &Set<'a>, out: &mut Out) -> Self {
        let roles: BTreeMap<(&str, &str), &Object> = set
            .of(Kind::ServiceRole)
            .map(|role| ((role.meta.namespace.as_str(), role.meta.name.as_str()), role))
            .collect();
        let mut grants: BTreeMap<&str, Vec<Grant<'_>>> = BTreeMap::new();
        for object in set.of(Kind::ServiceRoleBinding) {
            let Spec::ServiceRoleBinding(binding) = &object.spec else {
                continue;
            };
            if binding.mode == EnforcementMode::Permissive {
                out.ignored(
                    object,
                    "spec.mode",
                    "PERMISSIVE only tried out, so nothing is allowed by it",
                );
                continue;
            }
            out.translated(object, "rules of AuthorizationPolicies");
            grants
                .entry(&object.meta.namespace)
                .or_default()
                .extend(grant(set, object, binding, &roles, out));
        }
        Self { grants }
    }

    /// The rules that allow something at a service.
    fn rules(&self, asked: &Asked<'_, 'a>, from: &mut Vec<&'a Object>, out: &mut Out) -> Vec<Rule> {
        let mut rules = Vec::new();
        for grant in self.grants.get(asked.namespace).into_iter().flatten() {
            let made = from.len();
            for (index, access) in grant
                .rules
                .iter()
                .enumerate()
                .filter(|(_, access)| asked.is_meant(access))
            {
                let place = rule::Place {
                    object: grant.role.unwrap_or(grant.binding),
                    path: format!("spec.{}[{index}]", grant.field),
                };
                for (number, subject) in grant.subjects.iter().enumerate() {
                    let who = rule::Place {
                        object: grant.binding,
                        path: format!("spec.subjects[{number}]"),
                    };
                    rules.extend(rule::of(asked, access, &place, subject, &who, out));
                    if from.len() == made {
                        from.extend(grant.role);
                        from.push(grant.binding);
                    }
                }
            }
        }
        rules
    }
}

/// What a binding grants: a role's rules, or rules of its own.
fn grant<'a>(
    set: &Set<'_>,
    object: &'a Object,
    binding: &'a ServiceRoleBinding,
    roles: &BTreeMap<(&str, &str), &'a Object>,
    out: &mut Out,
) -> Option<Grant<'a>> {
    let subjects = binding.subjects.as_slice();
    let name = binding
        .role_ref
        .as_ref()
        .map_or(binding.role.as_str(), |role| role.name.as_str());
    if name.is_empty() {
        let rules = binding.actions.as_slice();
        return Some(Grant {
            binding: object,
            role: None,
            field: "actions",
            subjects,
            rules,
        });
    }
    // A role's name after a slash is one of the root namespace.
    let (namespace, name) = match name.strip_prefix('/') {
        Some(name) => (set.mesh.root_namespace, name),
        None => (object.meta.namespace.as_str(), name),
    };
    let role = roles.get(&(namespace, name)).copied();
    match role.map(|role| (role, &role.spec)) {
        Some((role, Spec::ServiceRole(spec))) => Some(Grant {
            binding: object,
            role: Some(role),
            field: "rules",
            subjects,
            rules: &spec.rules,
        }),
        _ => {
            out.ignored(
                object,
                "spec",
                format!("the ServiceRole {namespace}/{name} is not there, so nothing is allowed"),
            );
            None
        }
    }
}
