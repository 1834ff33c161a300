//! AuthorizationPolicies that select nobody or name namespaces that are not there.

use std::collections::BTreeMap;

use config::{Kind, Object, security::AuthorizationPolicy};

use crate::selector;
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
    run,
)
.alias("auth.AuthorizationPoliciesAnalyzer");

/// The mesh's workloads, by namespace.
type Workloads<'a> = BTreeMap<&'a str, Vec<Workload<'a>>>;

fn run(set: &Set<'_>, report: &mut Report) {
    let mut members = Workloads::new();
    for workload in set.all_workloads() {
        let object = workload.object;
        let in_mesh = |pod| pod_in_mesh(set, object, pod) || pod_is_ambient(object);
        if workload.pod.is_none_or(in_mesh) {
            let near = members.entry(object.meta.namespace.as_str()).or_default();
            near.push(workload);
        }
    }
    for (object, policy) in set.authorization_policies() {
        workloads(set, object, policy, &members, report);
        namespaces(set, object, policy, report);
    }
}

fn workloads(
    set: &Set<'_>,
    object: &Object,
    policy: &AuthorizationPolicy,
    members: &Workloads<'_>,
    report: &mut Report,
) {
    if policy.target_ref.is_some() || !policy.target_refs.is_empty() {
        return;
    }
    let namespace = object.meta.namespace.as_str();
    let everywhere = namespace == set.mesh().root_namespace;
    let mut seen = members
        .iter()
        .filter(|(of, _)| everywhere || **of == namespace)
        .flat_map(|(_, workloads)| workloads);
    let (found, wanted) = match &policy.selector {
        None => (everywhere || seen.next().is_some(), "the namespace".to_owned()),
        Some(wanted) => (
            seen.any(|workload| workload.has(&wanted.match_labels)),
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

fn namespaces(set: &Set<'_>, object: &Object, policy: &AuthorizationPolicy, report: &mut Report) {
    for (i, rule) in policy.rules.iter().enumerate() {
        for (j, from) in rule.from.iter().enumerate() {
            let Some(source) = &from.source else { continue };
            for (field, patterns) in [
                ("namespaces", &source.namespaces),
                ("notNamespaces", &source.not_namespaces),
            ] {
                for (k, pattern) in patterns.iter().enumerate() {
                    let known = set
                        .of(Kind::Namespace)
                        .any(|namespace| covers(pattern, &namespace.meta.name));
                    if !known {
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
