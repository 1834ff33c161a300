//! What made a pod, as far as the pod itself tells: telemetry names workloads by it.

use k8s_openapi::api::core::v1::Pod;

/// Label whose value ends the name of a Deployment's ReplicaSet.
const TEMPLATE_HASH: &str = "pod-template-hash";

/// The workload that a pod belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owner {
    /// Such as `apps/v1`.
    pub(crate) api_version: String,
    /// Such as `Deployment`.
    pub(crate) kind: String,
    /// Its name.
    pub(crate) name: String,
}

impl Owner {
    /// The controller of a pod, or for a ReplicaSet and a Job what made those, told by their names; else the pod itself.
    pub(crate) fn of(pod: &Pod) -> Self {
        let references = pod.metadata.owner_references.iter().flatten();
        let Some(controller) = references
            .into_iter()
            .find(|reference| reference.controller == Some(true))
        else {
            return Self::new("v1", "Pod", pod_name(pod));
        };
        let name = controller.name.as_str();
        match controller.kind.as_str() {
            "ReplicaSet" => match deployment(pod, name) {
                Some(deployment) => Self::new("apps/v1", "Deployment", deployment),
                None => Self::new(&controller.api_version, "ReplicaSet", name),
            },
            "Job" => match cron_job(name) {
                Some(cron_job) => Self::new("batch/v1", "CronJob", cron_job),
                None => Self::new(&controller.api_version, "Job", name),
            },
            kind => Self::new(&controller.api_version, kind, name),
        }
    }

    pub(crate) fn new(api_version: &str, kind: &str, name: &str) -> Self {
        let [api_version, kind, name] = [api_version, kind, name].map(str::to_owned);
        Self {
            api_version,
            kind,
            name,
        }
    }

    /// As proxies tell it in their metadata.
    pub(crate) fn url(&self, namespace: &str) -> String {
        let plural = self.kind.to_lowercase();
        format!(
            "kubernetes://apis/{}/namespaces/{namespace}/{plural}s/{}",
            self.api_version, self.name
        )
    }
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

fn deployment<'a>(pod: &Pod, replica_set: &'a str) -> Option<&'a str> {
    let hash = pod.metadata.labels.as_ref()?.get(TEMPLATE_HASH)?;
    replica_set.strip_suffix(hash.as_str())?.strip_suffix('-')
}

/// A CronJob names its Jobs after the minute, ten digits at least.
fn cron_job(job: &str) -> Option<&str> {
    let (name, minute) = job.rsplit_once('-')?;
    let is_minute = minute.len() >= 8 && minute.bytes().all(|byte| byte.is_ascii_digit());
    is_minute.then_some(name)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_workload_is_what_the_user_made() {
        let check = |kind: &str, name: &str, expected: (&str, &str)| {
            let owner =
                json!({"apiVersion": "x/v1", "kind": kind, "name": name, "uid": "1", "controller": true});
            let labels = json!({TEMPLATE_HASH: "7f9c"});
            let pod =
                json!({"metadata": {"generateName": "p-", "labels": labels, "ownerReferences": [owner]}});
            let found = Owner::of(&serde_json::from_value(pod).unwrap());
            assert_eq!((found.kind.as_str(), found.name.as_str()), expected);
        };
        check("ReplicaSet", "web-7f9c", ("Deployment", "web"));
        check("ReplicaSet", "web-other", ("ReplicaSet", "web-other"));
        check("Job", "backup-29384756", ("CronJob", "backup"));
        check("Job", "import-2", ("Job", "import-2"));
        check("StatefulSet", "db", ("StatefulSet", "db"));
    }

    #[test]
    fn a_pod_of_its_own_is_its_own_workload() {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"generateName": "probe-"}})).unwrap();
        assert_eq!(Owner::of(&pod), Owner::new("v1", "Pod", "probe"));
        let url = Owner::new("apps/v1", "Deployment", "web").url("shop");
        assert_eq!(url, "kubernetes://apis/apps/v1/namespaces/shop/deployments/web");
    }
}
