//! Istio 1.4's Policy, MeshPolicy and RBAC kinds, with what replaces them.

use std::collections::BTreeSet;

use super::authentication::{https_url, inline_keys};
use super::common::no_empty_values;
use crate::legacy::{
    AccessRule, Jwt, Policy, RbacConfig, RbacMode, ServiceRole, ServiceRoleBinding, Subject, TargetSelector,
};
use crate::path::At;
use crate::{Kind, Meta, syntax};

/// The name that the one object of a namespace or of the mesh must have.
const DEFAULT: &str = "default";

/// Checks a Policy or MeshPolicy.
pub(super) fn policy(kind: Kind, spec: &Policy, meta: &Meta, at: &At<'_>) {
    at.warning(
        "a kind of Istio 1.4; use PeerAuthentication and RequestAuthentication of security.istio.io/v1",
    );
    if kind == Kind::MeshPolicy {
        if meta.name != DEFAULT {
            at.error(format!(
                "the one MeshPolicy is named {DEFAULT:?}, not {:?}",
                meta.name
            ));
        }
        at.key("targets").require(
            spec.targets.is_empty(),
            "a MeshPolicy is for all services; use Policy for some",
        );
    } else if spec.targets.is_empty() && meta.name != DEFAULT {
        at.key("targets").error(format!(
            "without targets a Policy is for its namespace, and is named {DEFAULT:?}"
        ));
    } else if !spec.targets.is_empty() && meta.name == DEFAULT {
        at.key("targets").error(format!(
            "the Policy {DEFAULT:?} is for its namespace and has no targets; give it another name"
        ));
    }
    at.each("targets", &spec.targets, target);
    let mut issuers = BTreeSet::new();
    for (index, method) in spec.peers.iter().enumerate() {
        let at = at.key("peers");
        jwt(method.jwt.as_ref(), &mut issuers, &at.index(index));
    }
    for (index, method) in spec.origins.iter().enumerate() {
        let at = at.key("origins");
        at.index(index)
            .key("jwt")
            .require(method.jwt.is_some(), "this field is required");
        jwt(method.jwt.as_ref(), &mut issuers, &at.index(index));
    }
}

fn target(target: &TargetSelector, at: &At<'_>) {
    if !syntax::is_host_label(&target.name) {
        at.key("name")
            .error(format!("{:?} is not the short name of a service", target.name));
    }
    at.each("ports", &target.ports, |port, at| {
        at.some("number", port.number.as_ref(), |number, at| {
            super::common::port(*number, at)
        });
        at.some("name", port.name.as_ref(), |name, at| {
            super::common::port_name(name, at)
        });
        at.require(
            port.number.is_some() || port.name.is_some(),
            "number or name is needed",
        );
    });
}

fn jwt<'a>(jwt: Option<&'a Jwt>, issuers: &mut BTreeSet<&'a str>, at: &At<'_>) {
    let Some(jwt) = jwt else { return };
    let at = at.key("jwt");
    at.key("issuer")
        .require(!jwt.issuer.is_empty(), "this field is required");
    if !issuers.insert(&jwt.issuer) {
        at.key("issuer").error(format!("{:?} is given twice", jwt.issuer));
    }
    no_empty_values("audiences", &jwt.audiences, &at);
    no_empty_values("jwtHeaders", &jwt.jwt_headers, &at);
    no_empty_values("jwtParams", &jwt.jwt_params, &at);
    if !jwt.jwks_uri.is_empty() {
        https_url(&jwt.jwks_uri, &at.key("jwksUri"));
    }
    if !jwt.jwks.is_empty() {
        inline_keys(&jwt.jwks, &at.key("jwks"));
    }
}

/// Checks a ServiceRole.
pub(super) fn service_role(spec: &ServiceRole, at: &At<'_>) {
    at.warning("a kind of Istio 1.4; use AuthorizationPolicy of security.istio.io/v1");
    at.key("rules")
        .require(!spec.rules.is_empty(), "at least one rule is needed");
    at.each("rules", &spec.rules, role_rule);
}

fn role_rule(rule: &AccessRule, at: &At<'_>) {
    if rule.services.is_empty() {
        at.key("services")
            .warning("without services the rule applies to none; use \"*\" for all of the namespace");
    }
    access_rule(rule, at);
}

fn access_rule(rule: &AccessRule, at: &At<'_>) {
    if !rule.methods.is_empty() && !rule.not_methods.is_empty() {
        at.error("methods and notMethods exclude one another; keep one of them");
    }
    if !rule.ports.is_empty() && !rule.not_ports.is_empty() {
        at.error("ports and notPorts exclude one another; keep one of them");
    }
    for (key, ports) in [("ports", &rule.ports), ("notPorts", &rule.not_ports)] {
        at.each(key, ports, |port, at| {
            at.require((0..=65535).contains(port), "must be from 0 to 65535");
        });
    }
    at.each("constraints", &rule.constraints, |constraint, at| {
        at.key("key")
            .require(!constraint.key.is_empty(), "this field is required");
        at.key("values")
            .require(!constraint.values.is_empty(), "at least one value is needed");
        let twice =
            constraint.key == "destination.port" && !(rule.ports.is_empty() && rule.not_ports.is_empty());
        at.key("key")
            .require(!twice, "the rule's ports say it already; keep one of them");
    });
}

/// Checks a ServiceRoleBinding.
pub(super) fn service_role_binding(spec: &ServiceRoleBinding, at: &At<'_>) {
    at.warning("a kind of Istio 1.4; use AuthorizationPolicy of security.istio.io/v1");
    at.key("subjects")
        .require(!spec.subjects.is_empty(), "at least one subject is needed");
    at.each("subjects", &spec.subjects, subject);
    let given = [
        spec.role_ref.is_some(),
        !spec.actions.is_empty(),
        !spec.role.is_empty(),
    ];
    if given.iter().filter(|given| **given).count() != 1 {
        at.error("exactly one of roleRef, role and actions is needed");
    }
    at.some("roleRef", spec.role_ref.as_ref(), |role, at| {
        at.key("kind")
            .require(role.kind == "ServiceRole", "must be ServiceRole");
        at.key("name")
            .require(!role.name.is_empty(), "this field is required");
    });
    at.key("role")
        .require(spec.role != "/", "a role's name follows the slash");
    at.each("actions", &spec.actions, access_rule);
}

fn subject(subject: &Subject, at: &At<'_>) {
    if *subject == Subject::default() {
        at.error("no condition is given; give one or remove the entry");
    }
    for (key, names) in [("names", &subject.names), ("notNames", &subject.not_names)] {
        at.each(key, names, |name, at| {
            at.require(name != "*", "* is not a name; use user: \"*\" for all");
        });
    }
    let fields = [
        ("source.principal", "names", &subject.names),
        ("request.auth.claims[groups]", "groups", &subject.groups),
        ("source.namespace", "namespaces", &subject.namespaces),
        ("source.ip", "ips", &subject.ips),
    ];
    for (property, field, _) in fields
        .iter()
        .filter(|(name, _, v)| subject.properties.contains_key(*name) && !v.is_empty())
    {
        at.key("properties")
            .key(property)
            .error(format!("{field} says it already; keep one of them"));
    }
}

/// Checks an RbacConfig or ClusterRbacConfig.
pub(super) fn rbac_config(kind: Kind, spec: &RbacConfig, meta: &Meta, at: &At<'_>) {
    at.warning("a kind of Istio 1.4; AuthorizationPolicy of security.istio.io/v1 needs no switch");
    if meta.name != DEFAULT {
        at.error(format!(
            "the one {kind} is named {DEFAULT:?}, not {:?}",
            meta.name
        ));
    }
    if spec.mode == RbacMode::OnWithInclusion && spec.inclusion.is_none() {
        at.key("inclusion")
            .error("needed by mode ON_WITH_INCLUSION; {} stands for none");
    }
    if spec.mode == RbacMode::OnWithExclusion && spec.exclusion.is_none() {
        at.key("exclusion")
            .error("needed by mode ON_WITH_EXCLUSION; {} stands for none");
    }
}
