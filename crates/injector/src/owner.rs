//! What made a pod, of Kubernetes' own types: telemetry names workloads by it. Which one it is, `config` tells.

use config::Owner;
use k8s_openapi::api::core::v1::Pod;

/// The workload that a pod belongs to; a pod of its own is its own.
pub(crate) fn of(pod: &Pod) -> Owner {
    let mut references = pod.metadata.owner_references.iter().flatten();
    let controller = references
        .find(|reference| reference.controller == Some(true))
        .map(|reference| Owner::new(&reference.api_version, &reference.kind, &reference.name));
    let labels = pod.metadata.labels.clone().unwrap_or_default();
    let owner = Owner::of_pod(controller.as_ref(), &labels, pod_name(pod));
    owner.unwrap_or_else(|| Owner::new("v1", "Pod", pod_name(pod)))
}

/// A pod that a controller makes has no name yet when it is admitted.
fn pod_name(pod: &Pod) -> &str {
    let name = pod.metadata.name.as_deref().filter(|name| !name.is_empty());
    let prefix = pod
        .metadata
        .generate_name
        .as_deref()
        .map(|name| name.trim_end_matches('-'));
    name.or(prefix).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_controller_is_the_reference_that_controls() {
        let reference = |name: &str, controller: bool| json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": name, "uid": "1", "controller": controller});
        let references = [reference("other", false), reference("web-7f9c", true)];
        let labels = json!({"pod-template-hash": "7f9c"});
        let pod =
            json!({"metadata": {"generateName": "p-", "labels": labels, "ownerReferences": references}});
        let found = of(&serde_json::from_value(pod).unwrap());
        assert_eq!(found, Owner::new("apps/v1", "Deployment", "web"));
    }

    #[test]
    fn a_pod_of_its_own_is_its_own_workload() {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"generateName": "probe-"}})).unwrap();
        assert_eq!(of(&pod), Owner::new("v1", "Pod", "probe"));
    }
}
