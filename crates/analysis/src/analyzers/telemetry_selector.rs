//! Telemetries that select nobody or the same pods as others.

use std::collections::BTreeMap;

use config::telemetry::Telemetry;
use config::{Kind, Object, ObjectKey, Spec};

use super::names;
use crate::analyzer::Check;
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
    Check::Namespace(Kind::Telemetry, selectors),
);

/// Whether at most one Telemetry is meant for a whole namespace.
pub(crate) const DEFAULTS: Analyzer = Analyzer::new(
    "telemetry.DefaultSelectorAnalyzer",
    "Several Telemetries for one whole namespace",
    &[Code::MultipleTelemetriesWithoutWorkloadSelectors],
    &[Kind::Telemetry],
    Check::Namespace(Kind::Telemetry, defaults),
);

/// The Telemetries of a namespace.
fn all<'a>(set: &Set<'a>, namespace: &str) -> impl Iterator<Item = (&'a Object, &'a Telemetry)> + use<'a> {
    let objects = set.of_namespace(Kind::Telemetry, namespace);
    objects.filter_map(|object| match &object.spec {
        Spec::Telemetry(telemetry) => Some((object, &**telemetry)),
        _ => None,
    })
}

fn selectors(set: &Set<'_>, namespace: &str, report: &mut Report) {
    let mut by_pod: BTreeMap<ObjectKey, Vec<&Object>> = BTreeMap::new();
    for (object, telemetry) in all(set, namespace) {
        let wanted = telemetry.selector.as_ref().map(|selector| &selector.match_labels);
        let Some(wanted) = wanted.filter(|labels| !labels.is_empty()) else {
            continue;
        };
        let mut selected = false;
        for workload in set.workloads(wanted, Some(namespace)) {
            selected = true;
            by_pod.entry(workload.object.key()).or_default().push(object);
        }
        if !selected {
            let code = Code::ReferencedResourceNotFound;
            let path = "spec.selector.matchLabels";
            report.say(code, object, path, &[&"pod with labels", &selector::text(wanted)]);
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

fn defaults(set: &Set<'_>, namespace: &str, report: &mut Report) {
    let for_all = all(set, namespace).filter(|(_, telemetry)| {
        let attached = telemetry.target_ref.is_some() || !telemetry.target_refs.is_empty();
        telemetry.selector.is_none() && !attached
    });
    let telemetries: Vec<&Object> = for_all.map(|(object, _)| object).collect();
    if telemetries.len() > 1 {
        let all = names(telemetries.iter().copied());
        for object in telemetries {
            let code = Code::MultipleTelemetriesWithoutWorkloadSelectors;
            report.say(code, object, "", &[&all, &namespace]);
        }
    }
}
