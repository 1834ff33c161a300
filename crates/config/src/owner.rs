//! What made a Pod, as far as the Pod itself tells: policies and telemetry name workloads by it.

use std::collections::BTreeMap;

/// Label whose value ends the name of a Deployment's ReplicaSet.
const TEMPLATE_HASH: &str = "pod-template-hash";
/// Fewest digits of the minute at the end of the name of a CronJob's Job.
const MINUTE: usize = 8;

/// An object that owns others: the controller that an owner reference names, or the workload that a user made.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner {
    /// Such as `apps/v1`.
    pub api_version: String,
    /// Such as `Deployment`.
    pub kind: String,
    /// Its name.
    pub name: String,
}

impl Owner {
    /// An owner.
    pub fn new(api_version: &str, kind: &str, name: &str) -> Self {
        let [api_version, kind, name] = [api_version, kind, name].map(str::to_owned);
        Self {
            api_version,
            kind,
            name,
        }
    }

    /// What made a Pod: its controller, or for a ReplicaSet and a Job what made those, told by their names. A Pod of a
    /// Deployment is known without a controller too, by its own name (`NAME-HASH-SUFFIX`). None for a Pod of its own.
    pub fn of_pod(controller: Option<&Owner>, labels: &BTreeMap<String, String>, name: &str) -> Option<Self> {
        let hash = labels.get(TEMPLATE_HASH).filter(|hash| !hash.is_empty());
        let deployment = |name| Self::new("apps/v1", "Deployment", name);
        let Some(controller) = controller else {
            let (owner, _) = name.rsplit_once(&format!("-{}-", hash?))?;
            return Some(deployment(owner));
        };
        let root = match controller.kind.as_str() {
            "ReplicaSet" => {
                let of_hash = |hash: &String| controller.name.strip_suffix(hash)?.strip_suffix('-');
                hash.and_then(of_hash).map(deployment)
            }
            "Job" => cron_job(&controller.name).map(|name| Self::new("batch/v1", "CronJob", name)),
            _ => None,
        };
        Some(root.unwrap_or_else(|| controller.clone()))
    }

    /// As Istio tells it in attributes and in the metadata of proxies:
    /// `kubernetes://apis/apps/v1/namespaces/shop/deployments/web`.
    pub fn url(&self, namespace: &str) -> String {
        let plural = self.kind.to_lowercase();
        format!(
            "kubernetes://apis/{}/namespaces/{namespace}/{plural}s/{}",
            self.api_version, self.name
        )
    }
}

/// A CronJob names its Jobs after the minute.
fn cron_job(job: &str) -> Option<&str> {
    let (name, minute) = job.rsplit_once('-')?;
    let is_minute = minute.len() >= MINUTE && minute.bytes().all(|byte| byte.is_ascii_digit());
    is_minute.then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workload_is_what_the_user_made() {
        let labels = BTreeMap::from([(TEMPLATE_HASH.to_owned(), "7f9c".to_owned())]);
        let check = |kind: &str, name: &str, expected: (&str, &str)| {
            let controller = Owner::new("x/v1", kind, name);
            let found = Owner::of_pod(Some(&controller), &labels, "p-1").unwrap();
            assert_eq!((found.kind.as_str(), found.name.as_str()), expected);
        };
        check("ReplicaSet", "web-7f9c", ("Deployment", "web"));
        check("ReplicaSet", "web-other", ("ReplicaSet", "web-other"));
        check("Job", "backup-29384756", ("CronJob", "backup"));
        check("Job", "import-2", ("Job", "import-2"));
        check("StatefulSet", "db", ("StatefulSet", "db"));
        check("DaemonSet", "node", ("DaemonSet", "node"));
    }

    #[test]
    fn without_a_controller_the_name_of_a_deployments_pod_tells() {
        let labels = BTreeMap::from([(TEMPLATE_HASH.to_owned(), "6d4b".to_owned())]);
        let of = |name: &str| Owner::of_pod(None, &labels, name);
        let deployment = Owner::new("apps/v1", "Deployment", "reviews-v1");
        assert_eq!(of("reviews-v1-6d4b-x2x4"), Some(deployment));
        assert_eq!(of("probe"), None);
        assert_eq!(Owner::of_pod(None, &BTreeMap::new(), "a-b-c"), None);
    }

    #[test]
    fn owners_are_told_as_istio_tells_them() {
        let url = Owner::new("apps/v1", "StatefulSet", "mysql").url("shop");
        assert_eq!(
            url,
            "kubernetes://apis/apps/v1/namespaces/shop/statefulsets/mysql"
        );
    }
}
