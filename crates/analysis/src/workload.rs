//! Whether a workload is in the mesh, as far as its own object and its namespace tell.

use config::kube::{Container, PodSpec};
use config::{Object, kube};

use crate::Set;
use crate::selector::Labels;

/// The sidecar's container.
pub(crate) const PROXY: &str = "istio-proxy";
/// Label of namespaces, and older than revisions.
pub(crate) const INJECTION: &str = "istio-injection";
/// Label and annotation of pods.
pub(crate) const INJECT: &str = "sidecar.istio.io/inject";
/// Label of namespaces and pods that chooses a control plane.
pub(crate) const REVISION: &str = "istio.io/rev";
/// Label of namespaces and pods.
pub(crate) const DATAPLANE_MODE: &str = "istio.io/dataplane-mode";

/// All containers, init containers last.
pub(crate) fn containers(spec: &PodSpec) -> impl Iterator<Item = &Container> {
    spec.containers.iter().chain(&spec.init_containers)
}

/// The image of the first container that is named as the sidecar is, when it has one.
pub(crate) fn proxy_image(spec: &PodSpec) -> Option<&str> {
    let proxy = containers(spec).find(|container| container.name == PROXY)?;
    Some(proxy.image.as_str()).filter(|image| !image.is_empty())
}

/// Whether a pod is in the mesh with a sidecar.
pub(crate) fn pod_in_mesh(set: &Set<'_>, object: &Object, pod: &kube::Pod) -> bool {
    let meta = &object.meta;
    in_mesh(set, &pod.spec, &meta.labels, &meta.annotations, &meta.namespace)
}

/// Whether pods made from a Deployment's template are.
pub(crate) fn deployment_in_mesh(set: &Set<'_>, object: &Object, deployment: &kube::Deployment) -> bool {
    let template = &deployment.spec.template;
    let meta = &template.metadata;
    in_mesh(
        set,
        &template.spec,
        &meta.labels,
        &meta.annotations,
        &object.meta.namespace,
    )
}

fn in_mesh(set: &Set<'_>, spec: &PodSpec, labels: &Labels, annotations: &Labels, namespace: &str) -> bool {
    if proxy_image(spec).is_some() {
        return true;
    }
    if let Some(inject) = labels.get(INJECT).or_else(|| annotations.get(INJECT)) {
        return inject == "true";
    }
    set.namespace(namespace)
        .is_some_and(|namespace| label(namespace, INJECTION) == Some("enabled"))
}

/// Whether a pod is in the mesh by ambient mode.
pub(crate) fn pod_is_ambient(object: &Object) -> bool {
    let redirection = object.meta.annotations.get("ambient.istio.io/redirection");
    redirection.is_some_and(|value| value == "enabled")
}

/// Whether a namespace is in ambient mode; a label that asks for sidecars is stronger.
pub(crate) fn namespace_is_ambient(object: &Object) -> bool {
    label(object, INJECTION) != Some("enabled")
        && label(object, REVISION).is_none_or(str::is_empty)
        && label(object, DATAPLANE_MODE) == Some("ambient")
}

/// Whether an object is part of Istio's control plane.
pub(crate) fn is_control_plane(object: &Object) -> bool {
    object.meta.labels.contains_key("istio") || label(object, "release") == Some("istio")
}

/// A label's value.
pub(crate) fn label<'a>(object: &'a Object, key: &str) -> Option<&'a str> {
    object.meta.labels.get(key).map(String::as_str)
}
