//! Sidecars that select nobody, the same pods as others, or workloads without a sidecar.

use std::collections::{BTreeMap, BTreeSet};

use config::{Kind, Object, ObjectKey};

use super::names;
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
    run,
);

fn run(set: &Set<'_>, report: &mut Report) {
    let mut by_pod: BTreeMap<ObjectKey, (&Object, Vec<&Object>)> = BTreeMap::new();
    let mut by_namespace: BTreeMap<&str, Vec<&Object>> = BTreeMap::new();
    for (object, sidecar) in set.sidecars() {
        let namespace = object.meta.namespace.as_str();
        let wanted = sidecar
            .workload_selector
            .as_ref()
            .map(|selector| &selector.labels);
        let Some(wanted) = wanted.filter(|labels| !labels.is_empty()) else {
            by_namespace.entry(namespace).or_default().push(object);
            continue;
        };
        let workloads = set.workloads(wanted, Some(namespace));
        if workloads.is_empty() {
            let code = Code::ReferencedResourceNotFound;
            let path = "spec.workloadSelector.labels";
            report.say(code, object, path, &[&"pod with labels", &selector::text(wanted)]);
        }
        for workload in workloads {
            by_pod
                .entry(workload.object.key())
                .or_insert((workload.object, Vec::new()))
                .1
                .push(object);
        }
    }
    let mut ambient = BTreeSet::new();
    for (pod, sidecars) in by_pod.values() {
        let reason = "the selected workload is in ambient mode";
        if pod_is_ambient(pod) {
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
    for (namespace, sidecars) in by_namespace {
        let known = set.get(Kind::Namespace, "", namespace);
        if known.is_some_and(namespace_is_ambient) {
            ineffective(
                &sidecars,
                "the namespace is in ambient mode",
                &mut ambient,
                report,
            );
        } else if sidecars.len() > 1 {
            let all = names(sidecars.iter().copied());
            for object in sidecars {
                let code = Code::MultipleSidecarsWithoutWorkloadSelectors;
                report.say(code, object, "", &[&all, &namespace]);
            }
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
