//! Objects of kinds that the mesh does not read: what to say about each. Kubernetes' own are no mistake, since people keep
//! them beside the mesh's configuration; a kind that nobody knows is.

use crate::Kind;
use crate::kube::gateway_api;
use crate::path::At;
use crate::structure::nearest;

/// Kinds of Kubernetes' core group that the mesh does not read.
const CORE: &[&str] = &[
    "Binding",
    "ComponentStatus",
    "Endpoints",
    "Event",
    "LimitRange",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "PodTemplate",
    "ReplicationController",
    "ResourceQuota",
];

/// The group that Ingress, Deployment and DaemonSet were in; Kubernetes serves it no longer (since 1.22).
const EXTENSIONS: &str = "extensions";
/// The group of Gateway API's experimental kinds, such as XListenerSet.
const EXPERIMENTAL_GATEWAY_API: &str = "gateway.networking.x-k8s.io";

/// Whether a group is one of the mesh's own, of which every kind is known here.
fn is_mesh_group(group: &str) -> bool {
    group.ends_with(".istio.io") && group != "install.istio.io"
}

/// Says what is to be said about an object whose kind is not in the table.
pub(crate) fn report(group: &str, api_version: &str, name: &str, at: &At<'_>) {
    if group == "install.istio.io" {
        let message = format!("{name} describes Istio's own installation and is not read");
        return at
            .key("kind")
            .warning(message + "; put its meshConfig into mesh.yaml");
    }
    if group == EXTENSIONS
        && let Some(kind) = Kind::ALL
            .iter()
            .find(|kind| kind.is_kubernetes() && kind.as_str() == name)
    {
        let message = format!("{api_version} {name} is a former version that is not read");
        let help = format!("use {}", kind.api_version());
        return at.key("apiVersion").error_help(message, help);
    }
    if group == EXPERIMENTAL_GATEWAY_API {
        let message = format!("{api_version} {name}: {}", gateway_api::NO_EFFECT);
        return at.key("apiVersion").warning_help(
            message,
            "use VirtualService and Gateway of networking.istio.io where it is meant for the mesh",
        );
    }
    if (group.is_empty() && CORE.contains(&name)) || !(group.is_empty() || is_mesh_group(group)) {
        return of_others(group, api_version, name, &at.key("kind"));
    }
    if let Some(other) = Kind::ALL.iter().find(|kind| kind.as_str() == name) {
        let message = format!(
            "{name} is not in the group {group:?}; its apiVersion is {}",
            other.api_version()
        );
        return at.key("apiVersion").error(message);
    }
    let of_group = Kind::ALL
        .iter()
        .filter(|kind| kind.group() == group)
        .map(|kind| kind.as_str());
    let core = CORE.iter().copied().filter(|_| group.is_empty());
    let message = format!("unknown kind {name:?} in {api_version}");
    match nearest(name, of_group.clone().chain(core)) {
        Some(meant) => at
            .key("kind")
            .error_help(message, format!("did you mean {meant}?")),
        None => {
            let known: Vec<&str> = of_group.collect();
            match known.is_empty() {
                true => at
                    .key("kind")
                    .error_help(message, format!("no kind of the group {group:?} is known")),
                false => at
                    .key("kind")
                    .error_help(message, format!("known here are {}", known.join(", "))),
            }
        }
    }
}

/// A kind of Kubernetes that the mesh does not read: no mistake, unless it is spelt much like one that the mesh reads.
fn of_others(group: &str, api_version: &str, name: &str, at: &At<'_>) {
    let message = format!("{api_version} {name} is not a kind that the mesh reads");
    let read = Kind::ALL
        .iter()
        .filter(|kind| kind.group() == group && !kind.group().is_empty())
        .map(|kind| kind.as_str());
    match nearest(name, read) {
        Some(meant) if strsim::damerau_levenshtein(name, meant) <= 2 => {
            at.warning_help(message, format!("did you mean {meant}?"));
        }
        _ => at.info(message),
    }
}

#[cfg(test)]
mod tests {
    use crate::{Severity, parse};

    /// What is said of an object of that kind, and how bad it is at worst.
    fn said(api_version: &str, kind: &str) -> (Option<Severity>, String) {
        let text = format!("{{apiVersion: {api_version}, kind: {kind}, metadata: {{name: a}}}}");
        let findings = parse("a.yaml", text.as_bytes(), "default").findings;
        let words: Vec<String> = findings.iter().map(ToString::to_string).collect();
        (
            findings.iter().map(|finding| finding.severity).max(),
            words.join("; "),
        )
    }

    #[test]
    fn kinds_that_are_misspelt_are_told_from_those_of_others() {
        for (api_version, kind, meant) in [
            ("gateway.networking.k8s.io/v1", "HTTPRout", "HTTPRoute"),
            ("apps/v1", "Deployments", "Deployment"),
            ("networking.k8s.io/v1", "Ingres", "Ingress"),
        ] {
            let (severity, text) = said(api_version, kind);
            assert_eq!(severity, Some(Severity::Warning), "{kind}: {text}");
            assert!(text.contains(&format!("did you mean {meant}?")), "{text}");
        }
        for (api_version, kind) in [
            ("apps/v1", "StatefulSet"),
            ("apps/v1", "ReplicaSet"),
            ("networking.k8s.io/v1", "NetworkPolicy"),
            ("gateway.networking.k8s.io/v1", "HTTPRoutePolicy"),
            ("v1", "Endpoints"),
        ] {
            let (severity, text) = said(api_version, kind);
            assert!(
                !text.contains("did you mean") && severity < Some(Severity::Warning),
                "{text}"
            );
        }
    }
}
