//! AuthorizationPolicies that select nobody or name namespaces that are not there.

use config::{Kind, Object, Spec, security::AuthorizationPolicy};

use crate::analyzer::Check;
use crate::selector::{self, Labels};
use crate::set::Workload;
use crate::workload::{pod_in_mesh, pod_is_ambient};
use crate::{Analyzer, Code, Report, Set};

/// Whether each policy has workloads and knows its namespaces.
pub(crate) const POLICIES: Analyzer = Analyzer::new(
    "authz.AuthorizationPoliciesAnalyzer",
    "AuthorizationPolicies that select nobody or name namespaces that are not there",
    &[Code::NoMatchingWorkloadsFound, Code::ReferencedResourceNotFound],
    &[
        Kind::MeshConfig,
        Kind::AuthorizationPolicy,
        Kind::Namespace,
        Kind::Pod,
        Kind::WorkloadEntry,
    ],
    Check::Each(&[Kind::AuthorizationPolicy], run),
)
.alias("auth.AuthorizationPoliciesAnalyzer");

fn run(set: &Set<'_>, object: &Object, report: &mut Report) {
    if let Spec::AuthorizationPolicy(policy) = &object.spec {
        workloads(set, object, policy, report);
        namespaces(set, object, policy, report);
    }
}

fn workloads(set: &Set<'_>, object: &Object, policy: &AuthorizationPolicy, report: &mut Report) {
    if policy.target_ref.is_some() || !policy.target_refs.is_empty() {
        return;
    }
    let namespace = object.meta.namespace.as_str();
    let everywhere = namespace == set.mesh().root_namespace;
    let seen = (!everywhere).then_some(namespace);
    let (found, wanted) = match &policy.selector {
        None => (
            everywhere || selects_member(set, &Labels::new(), seen),
            "the namespace".to_owned(),
        ),
        Some(wanted) => (
            selects_member(set, &wanted.match_labels, seen),
            selector::text(&wanted.match_labels),
        ),
    };
    if !found {
        report.say(
            Code::NoMatchingWorkloadsFound,
            object,
            "spec.selector",
            &[&wanted],
        );
    }
}

/// Whether one of the mesh's workloads is selected.
fn selects_member(set: &Set<'_>, selector: &Labels, namespace: Option<&str>) -> bool {
    set.workloads(selector, namespace).any(|workload: Workload<'_>| {
        let object = workload.object;
        let in_mesh = |pod| pod_in_mesh(set, object, pod) || pod_is_ambient(object);
        workload.pod.is_none_or(in_mesh)
    })
}

fn namespaces(set: &Set<'_>, object: &Object, policy: &AuthorizationPolicy, report: &mut Report) {
    for (i, rule) in policy.rules.iter().enumerate() {
        for (j, from) in rule.from.iter().enumerate() {
            let Some(source) = &from.source else { continue };
            for (field, patterns) in [
                ("namespaces", &source.namespaces),
                ("notNamespaces", &source.not_namespaces),
            ] {
                for (k, pattern) in patterns.iter().enumerate() {
                    if !is_known(set, pattern) {
                        let path = format!("spec.rules[{i}].from[{j}].source.{field}[{k}]");
                        report.say(
                            Code::ReferencedResourceNotFound,
                            object,
                            path,
                            &[&"namespace", pattern],
                        );
                    }
                }
            }
        }
    }
}

/// Whether some namespace is covered by a pattern.
fn is_known(set: &Set<'_>, pattern: &str) -> bool {
    match pattern.contains('*') {
        true => set.names(Kind::Namespace).any(|name| covers(pattern, name)),
        // Names of namespaces are in lower case.
        false => set
            .get(Kind::Namespace, "", &pattern.to_ascii_lowercase())
            .is_some(),
    }
}

/// Whether a pattern (a name, or one with `*` first or last) covers a namespace.
fn covers(pattern: &str, namespace: &str) -> bool {
    if let Some(suffix) = pattern.strip_prefix('*') {
        namespace.ends_with(suffix)
    } else if let Some(prefix) = pattern.strip_suffix('*') {
        namespace.starts_with(prefix)
    } else {
        namespace.eq_ignore_ascii_case(pattern)
    }
}
