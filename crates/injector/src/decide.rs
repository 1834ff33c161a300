//! Whether a pod gets a proxy: the order of label, annotation, selectors and policy is that of Istio's injector
//! (<https://istio.io/latest/docs/setup/additional-setup/sidecar-injection/>).

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

use crate::names::{INJECT, TEMPLATES};
use crate::settings::{Policy, Settings};

/// Namespaces of the cluster itself: nothing there may wait for a mesh that needs them to start.
const SYSTEM_NAMESPACES: [&str; 4] = [
    "kube-system",
    "kube-public",
    "kube-node-lease",
    "local-path-storage",
];

type Labels = BTreeMap<String, String>;

/// What becomes of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It gets a proxy.
    Inject,
    /// It is left as it is.
    Skip(Skipped),
}

/// Why a pod is left as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skipped {
    /// It shares the node's network: redirection would be the node's.
    HostNetwork,
    /// Its namespace is the cluster's or the control plane's own.
    Namespace,
    /// Its label or annotation says so.
    Asked,
    /// The settings' `neverInjectSelector` matches.
    NeverSelected,
    /// It says nothing, and the policy is to ask.
    Policy,
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HostNetwork => "it uses the node's network, which must not be redirected",
            Self::Namespace => "its namespace is never injected",
            Self::Asked => "its label or annotation sidecar.istio.io/inject says so",
            Self::NeverSelected => "it matches neverInjectSelector of the settings",
            Self::Policy => "it does not ask for a proxy, and the settings' policy is disabled",
        })
    }
}

/// Decides on a pod of a namespace. A pod on the node's network that has nothing to redirect, such as a gateway, may have a
/// proxy; see [`takes_no_redirection`].
pub fn decide(pod: &Pod, namespace: &str, settings: &Settings) -> Decision {
    let on_host = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.host_network)
        .unwrap_or_default();
    if on_host && !takes_no_redirection(pod) {
        return Decision::Skip(Skipped::HostNetwork);
    }
    if is_never_injected(namespace, settings) {
        return Decision::Skip(Skipped::Namespace);
    }
    let empty = Labels::new();
    let labels = pod.metadata.labels.as_ref().unwrap_or(&empty);
    let annotations = pod.metadata.annotations.as_ref().unwrap_or(&empty);
    match labels.get(INJECT).or_else(|| annotations.get(INJECT)) {
        Some(value) if is_yes(value) => Decision::Inject,
        Some(value) if !value.is_empty() => Decision::Skip(Skipped::Asked),
        _ => by_settings(labels, settings),
    }
}

/// A gateway is not redirected to: its clients and its Services name the proxy's own ports.
fn takes_no_redirection(pod: &Pod) -> bool {
    let templates = pod.metadata.annotations.as_ref().and_then(|a| a.get(TEMPLATES));
    templates.is_some_and(|names| names.split(',').all(|name| name.trim() == "gateway"))
}

fn is_never_injected(namespace: &str, settings: &Settings) -> bool {
    SYSTEM_NAMESPACES.contains(&namespace)
        || settings.namespace == namespace
        || settings.ignored_namespaces.iter().any(|name| name == namespace)
}

/// YAML 1.1's words for true, as Istio takes them.
fn is_yes(value: &str) -> bool {
    ["y", "yes", "true", "on"]
        .iter()
        .any(|yes| value.eq_ignore_ascii_case(yes))
}

fn by_settings(labels: &Labels, settings: &Settings) -> Decision {
    let any = |selectors: &[LabelSelector]| selectors.iter().any(|selector| selects(selector, labels));
    if any(&settings.never_inject_selector) {
        return Decision::Skip(Skipped::NeverSelected);
    }
    match settings.policy {
        Policy::Enabled => Decision::Inject,
        Policy::Disabled if any(&settings.always_inject_selector) => Decision::Inject,
        Policy::Disabled => Decision::Skip(Skipped::Policy),
    }
}

/// Whether a selector that is not empty matches. An operator that Kubernetes does not know matches nothing.
pub(crate) fn selects(selector: &LabelSelector, labels: &Labels) -> bool {
    let pairs = selector.match_labels.iter().flatten();
    let expressions = selector.match_expressions.as_deref().unwrap_or_default();
    let is_empty = pairs.clone().next().is_none() && expressions.is_empty();
    !is_empty
        && pairs.clone().all(|(key, value)| labels.get(key) == Some(value))
        && expressions.iter().all(|expression| holds(expression, labels))
}

fn holds(expression: &LabelSelectorRequirement, labels: &Labels) -> bool {
    let value = labels.get(&expression.key);
    let listed = || value.is_some_and(|value| expression.values.iter().flatten().any(|v| v == value));
    match expression.operator.as_str() {
        "In" => listed(),
        "NotIn" => !listed(),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[expect(clippy::needless_pass_by_value, reason = "cases read better by value")]
    fn check(pod: serde_json::Value, namespace: &str, settings: serde_json::Value, expected: Decision) {
        let read: Pod = serde_json::from_value(pod.clone()).unwrap();
        let settings: Settings = serde_json::from_value(settings).unwrap();
        assert_eq!(
            decide(&read, namespace, &settings),
            expected,
            "{pod} in {namespace}"
        );
    }

    #[test]
    fn label_then_annotation_then_selectors_then_policy() {
        use Decision::{Inject, Skip};
        let labelled = |value: &str| json!({"metadata": {"labels": {INJECT: value}}});
        let plain = || json!({"metadata": {"labels": {"app": "web"}}});
        check(plain(), "shop", json!({}), Inject);
        check(
            plain(),
            "shop",
            json!({"policy": "disabled"}),
            Skip(Skipped::Policy),
        );
        check(labelled("true"), "shop", json!({"policy": "disabled"}), Inject);
        check(labelled("On"), "shop", json!({"policy": "disabled"}), Inject);
        check(labelled("false"), "shop", json!({}), Skip(Skipped::Asked));
        check(labelled(""), "shop", json!({}), Inject);
        let both = json!({"metadata": {"labels": {INJECT: "true"}, "annotations": {INJECT: "false"}}});
        check(both, "shop", json!({}), Inject);
        let annotated = json!({"metadata": {"annotations": {INJECT: "false"}}});
        check(annotated, "shop", json!({}), Skip(Skipped::Asked));
    }

    #[test]
    fn selectors_stand_in_for_pods_that_say_nothing() {
        use Decision::{Inject, Skip};
        let web = || json!({"metadata": {"labels": {"app": "web"}}});
        let never = json!({"neverInjectSelector": [{"matchExpressions": [{"key": "app", "operator": "In", "values": ["web"]}]}]});
        check(web(), "shop", never.clone(), Skip(Skipped::NeverSelected));
        let asks = json!({"metadata": {"labels": {"app": "web", INJECT: "true"}}});
        check(asks, "shop", never, Inject);
        let always = json!({"policy": "disabled", "alwaysInjectSelector": [{"matchLabels": {"app": "web"}}]});
        check(web(), "shop", always, Inject);
        let empty = json!({"neverInjectSelector": [{}]});
        check(web(), "shop", empty, Inject);
    }

    #[test]
    fn the_clusters_own_namespaces_and_the_nodes_network_are_left_alone() {
        use Decision::{Inject, Skip};
        let asks = || json!({"metadata": {"labels": {INJECT: "true"}}});
        check(asks(), "kube-system", json!({}), Skip(Skipped::Namespace));
        check(asks(), "argosy-system", json!({}), Skip(Skipped::Namespace));
        check(
            asks(),
            "ci",
            json!({"ignoredNamespaces": ["ci"]}),
            Skip(Skipped::Namespace),
        );
        let host = json!({"metadata": {"labels": {INJECT: "true"}}, "spec": {"containers": [], "hostNetwork": true}});
        check(host.clone(), "shop", json!({}), Skip(Skipped::HostNetwork));
        let mut gateway = host;
        gateway["metadata"]["annotations"] = json!({TEMPLATES: "gateway"});
        check(gateway, "shop", json!({}), Inject);
    }
}
