//! AuthorizationPolicies that select nobody or name namespaces that are not there.

use std::collections::BTreeMap;

use config::{Kind, Object, security::AuthorizationPolicy};
use model::selects;

use crate::selector::{self, Labels};
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
    ],
    run,
)
.alias("auth.AuthorizationPoliciesAnalyzer");

/// Labels of the mesh's pods, by namespace.
type Pods<'a> = BTreeMap<&'a str, Vec<&'a Labels>>;

fn run(set: &Set<'_>, report: &mut Report) {
    let mut pods = Pods::new();
    for (object, pod) in set.all_pods() {
        if pod_in_mesh(set, object, pod) || pod_is_ambient(object) {
            let labels = pods.entry(object.meta.namespace.as_str()).or_default();
            labels.push(&object.meta.labels);
        }
    }
    for (object, policy) in set.authorization_policies() {
        workloads(set, object, policy, &pods, report);
        namespaces(set, object, policy, report);
    }
}

fn workloads(
    set: &Set<'_>,
    object: &Object,
    policy: &AuthorizationPolicy,
    pods: &Pods<'_>,
    report: &mut Report,
) {
    if policy.target_ref.is_some() || !policy.target_refs.is_empty() {
        return;
    }
    let namespace = object.meta.namespace.as_str();
    let everywhere = namespace == set.mesh().root_namespace;
    let mut seen = pods
        .iter()
        .filter(|(of, _)| everywhere || **of == namespace)
        .flat_map(|(_, labels)| labels);
    let (found, wanted) = match &policy.selector {
        None => (everywhere || seen.next().is_some(), "the namespace".to_owned()),
        Some(wanted) => (
            seen.any(|labels| selects(&wanted.match_labels, labels)),
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
