//! Namespaces that ask for injection in no way or in too many, and pods that missed it.

use config::kube::{ConfigMap, Pod};
use config::{Kind, Object, Spec};
use serde_json::Value;

use super::full_name;
use crate::analyzer::Check;
use crate::workload::{DATAPLANE_MODE, INJECT, INJECTION as LABEL, REVISION, label, proxy_image};
use crate::{Analyzer, Code, Report, Set};

/// Whether namespaces and pods are injected as they ask for.
pub(crate) const INJECTION: Analyzer = Analyzer::new(
    "injection.Analyzer",
    "Namespaces that ask for injection in no way or in too many, and pods that missed it",
    &[
        Code::NamespaceNotInjected,
        Code::PodMissingProxy,
        Code::NamespaceMultipleInjectionLabels,
        Code::NamespaceInjectionEnabledByDefault,
    ],
    &[Kind::Namespace, Kind::Pod, Kind::ConfigMap],
    Check::Each(&[Kind::Namespace, Kind::Pod], run),
);

/// Where the control plane is; it is not injected.
const CONTROL_PLANE: &str = "istio-system";

fn run(set: &Set<'_>, object: &Object, report: &mut Report) {
    match &object.spec {
        Spec::Pod(pod) => check_pod(set, object, pod, report),
        _ if object.meta.name != CONTROL_PLANE => check_namespace(set, object, report),
        _ => {}
    }
}

fn check_pod(set: &Set<'_>, object: &Object, pod: &Pod, report: &mut Report) {
    let namespace = object.meta.namespace.as_str();
    if namespace == CONTROL_PLANE || opts_out(object) || pod.spec.host_network {
        return;
    }
    let asks = |n: &Object| label(n, LABEL) == Some("enabled") && label(n, DATAPLANE_MODE) != Some("ambient");
    if proxy_image(&pod.spec).is_none() && set.get(Kind::Namespace, "", namespace).is_some_and(asks) {
        report.say(Code::PodMissingProxy, object, "", &[&full_name(object)]);
    }
}

fn check_namespace(set: &Set<'_>, namespace: &Object, report: &mut Report) {
    let injection = label(namespace, LABEL);
    let mut asked: Vec<String> = injection
        .map(|value| format!("{LABEL}={value}"))
        .into_iter()
        .collect();
    if injection.is_none_or(|value| value == "enabled") {
        let others = [REVISION, DATAPLANE_MODE];
        asked.extend(
            others
                .iter()
                .filter_map(|key| Some(format!("{key}={}", label(namespace, key)?))),
        );
    }
    if asked.len() > 1 {
        let code = Code::NamespaceMultipleInjectionLabels;
        report.say(code, namespace, "metadata.labels", &[&asked.join(", ")]);
    }
    let silent = injection.unwrap_or_default().is_empty() && label(namespace, REVISION).is_none();
    if silent && label(namespace, DATAPLANE_MODE) != Some("ambient") {
        let code = match by_default(set) {
            true => Code::NamespaceInjectionEnabledByDefault,
            false => Code::NamespaceNotInjected,
        };
        report.say(code, namespace, "metadata.labels", &[]);
    }
}

fn opts_out(object: &Object) -> bool {
    let annotation = object.meta.annotations.get(INJECT).map(String::as_str);
    label(object, INJECT)
        .or(annotation)
        .is_some_and(|inject| inject.eq_ignore_ascii_case("false"))
}

/// Whether the injector's ConfigMap says that namespaces without labels are injected.
fn by_default(set: &Set<'_>) -> bool {
    let mut injectors = set
        .config_maps()
        .filter(|(object, _)| object.meta.name == config_map_name(""));
    injectors.any(|(_, map)| {
        values(map).is_some_and(|values| {
            values.pointer("/sidecarInjectorWebhook/enableNamespacesByDefault") == Some(&Value::Bool(true))
        })
    })
}

/// The name of a revision's injector ConfigMap.
pub(super) fn config_map_name(revision: &str) -> String {
    match revision {
        "" | "default" => "istio-sidecar-injector".to_owned(),
        revision => format!("istio-sidecar-injector-{revision}"),
    }
}

/// The Helm values that an injector's ConfigMap holds.
pub(super) fn values(map: &ConfigMap) -> Option<Value> {
    serde_json::from_str(map.data.get("values")?).ok()
}
