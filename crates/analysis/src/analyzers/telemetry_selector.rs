//! Telemetries that select nobody or the same pods as others.

use std::collections::BTreeMap;

use config::{Kind, Object, ObjectKey};

use super::names;
use crate::selector;
use crate::{Analyzer, Code, Report, Set};

/// Whether selectors select pods, and different ones.
pub(crate) const SELECTORS: Analyzer = Analyzer::new(
    "telemetry.SelectorAnalyzer",
    "Telemetries that select nobody, or the same pods as others",
    &[
        Code::ReferencedResourceNotFound,
        Code::ConflictingTelemetryWorkloadSelectors,
    ],
    &[Kind::Telemetry, Kind::Pod, Kind::WorkloadEntry],
    selectors,
);

/// Whether at most one Telemetry is meant for a whole namespace.
pub(crate) const DEFAULTS: Analyzer = Analyzer::new(
    "telemetry.DefaultSelectorAnalyzer",
    "Several Telemetries for one whole namespace",
    &[Code::MultipleTelemetriesWithoutWorkloadSelectors],
    &[Kind::Telemetry],
    defaults,
);

fn selectors(set: &Set<'_>, report: &mut Report) {
    let mut by_pod: BTreeMap<ObjectKey, Vec<&Object>> = BTreeMap::new();
    for (object, telemetry) in set.telemetries() {
        let wanted = telemetry.selector.as_ref().map(|selector| &selector.match_labels);
        let Some(wanted) = wanted.filter(|labels| !labels.is_empty()) else {
            continue;
        };
        let workloads = set.workloads(wanted, Some(&object.meta.namespace));
        if workloads.is_empty() {
            let code = Code::ReferencedResourceNotFound;
            let path = "spec.selector.matchLabels";
            report.say(code, object, path, &[&"pod with labels", &selector::text(wanted)]);
        }
        for workload in workloads {
            by_pod.entry(workload.object.key()).or_default().push(object);
        }
    }
    for (pod, telemetries) in by_pod.iter().filter(|(_, telemetries)| telemetries.len() > 1) {
        let all = names(telemetries.iter().copied());
        for object in telemetries {
            let code = Code::ConflictingTelemetryWorkloadSelectors;
            let path = "spec.selector.matchLabels";
            report.say(code, object, path, &[&all, &pod.namespace, &pod.name]);
        }
    }
}

fn defaults(set: &Set<'_>, report: &mut Report) {
    let mut by_namespace: BTreeMap<&str, Vec<&Object>> = BTreeMap::new();
    for (object, telemetry) in set.telemetries() {
        let attached = telemetry.target_ref.is_some() || !telemetry.target_refs.is_empty();
        if telemetry.selector.is_none() && !attached {
            let of_namespace = by_namespace.entry(object.meta.namespace.as_str()).or_default();
            of_namespace.push(object);
        }
    }
    for (namespace, telemetries) in by_namespace.iter().filter(|(_, all)| all.len() > 1) {
        let all = names(telemetries.iter().copied());
        for object in telemetries {
            let code = Code::MultipleTelemetriesWithoutWorkloadSelectors;
            report.say(code, object, "", &[&all, namespace]);
        }
    }
}
