//! Sidecars that select nobody, the same pods as others, or workloads without a sidecar.

use std::collections::{BTreeMap, BTreeSet};

use config::{Kind, Object, ObjectKey, Spec};

use super::names;
use crate::analyzer::Check;
use crate::selector;
use crate::workload::{namespace_is_ambient, pod_is_ambient};
use crate::{Analyzer, Code, Report, Set};

/// Whether each pod has one Sidecar, and each Sidecar a pod.
pub(crate) const SELECTORS: Analyzer = Analyzer::new(
    "sidecar.SelectorAnalyzer",
    "Sidecars that select nobody, the same pods as others, or workloads in ambient mode",
    &[
        Code::ReferencedResourceNotFound,
        Code::ConflictingSidecarWorkloadSelectors,
        Code::MultipleSidecarsWithoutWorkloadSelectors,
        Code::IneffectivePolicy,
    ],
    &[Kind::Sidecar, Kind::Pod, Kind::WorkloadEntry, Kind::Namespace],
    Check::Namespace(Kind::Sidecar, run),
);

fn run(set: &Set<'_>, namespace: &str, report: &mut Report) {
    let mut by_pod: BTreeMap<ObjectKey, (&Object, Vec<&Object>)> = BTreeMap::new();
    let mut of_all: Vec<&Object> = Vec::new();
    for object in set.of_namespace(Kind::Sidecar, namespace) {
        let Spec::Sidecar(sidecar) = &object.spec else {
            continue;
        };
        let wanted = sidecar.workload_selector.as_ref();
        let wanted = wanted.map(|selector| &selector.labels);
        let Some(wanted) = wanted.filter(|labels| !labels.is_empty()) else {
            of_all.push(object);
            continue;
        };
        let mut selected = false;
        for workload in set.workloads(wanted, Some(namespace)) {
            selected = true;
            let key = workload.object.key();
            let known = by_pod.entry(key).or_insert((workload.object, Vec::new()));
            known.1.push(object);
        }
        if !selected {
            let code = Code::ReferencedResourceNotFound;
            let path = "spec.workloadSelector.labels";
            report.say(code, object, path, &[&"pod with labels", &selector::text(wanted)]);
        }
    }
    of_pods(&by_pod, report);
    if !of_all.is_empty() {
        of_namespace(set, namespace, &of_all, report);
    }
}

/// Of Sidecars that select pods.
fn of_pods(by_pod: &BTreeMap<ObjectKey, (&Object, Vec<&Object>)>, report: &mut Report) {
    let mut ambient = BTreeSet::new();
    for (pod, sidecars) in by_pod.values() {
        if pod_is_ambient(pod) {
            let reason = "the selected workload is in ambient mode";
            ineffective(sidecars, reason, &mut ambient, report);
        } else if sidecars.len() > 1 {
            let all = names(sidecars.iter().copied());
            for object in sidecars {
                let args: [&dyn std::fmt::Display; 3] = [&all, &pod.meta.namespace, &pod.meta.name];
                let code = Code::ConflictingSidecarWorkloadSelectors;
                report.say(code, object, "spec.workloadSelector.labels", &args);
            }
        }
    }
}

/// Of Sidecars for all pods of a namespace.
fn of_namespace(set: &Set<'_>, namespace: &str, sidecars: &[&Object], report: &mut Report) {
    let known = set.get(Kind::Namespace, "", namespace);
    if known.is_some_and(namespace_is_ambient) {
        let reason = "the namespace is in ambient mode";
        ineffective(sidecars, reason, &mut BTreeSet::new(), report);
    } else if sidecars.len() > 1 {
        let all = names(sidecars.iter().copied());
        for object in sidecars {
            let code = Code::MultipleSidecarsWithoutWorkloadSelectors;
            report.say(code, object, "", &[&all, &namespace]);
        }
    }
}

/// Says once of each Sidecar that it has no effect.
fn ineffective(sidecars: &[&Object], reason: &str, said: &mut BTreeSet<ObjectKey>, report: &mut Report) {
    for object in sidecars {
        if said.insert(object.key()) {
            report.say(Code::IneffectivePolicy, object, "", &[&reason]);
        }
    }
}
