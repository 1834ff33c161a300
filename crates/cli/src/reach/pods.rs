//! Which pods are meant: one that a person names, and those of the control plane.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use serde_json::Value;

/// What all pods of the control plane are labelled with.
const OURS: &str = "app.kubernetes.io/part-of=argosy";
/// The name of the admin server's port in pods of the control plane.
const ADMIN: &str = "http-admin";
/// Most pods of the control plane, or of one workload, that are asked for.
const MOST: u32 = 1000;

/// A pod of the control plane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    /// `galley`, `pilot`, …: the name of its container.
    pub(crate) service: String,
    pub(crate) pod: String,
    /// The port of its admin server.
    pub(crate) port: u16,
}

/// The running pods of the control plane in a namespace, by service and name.
///
/// # Errors
/// The API server refuses to list pods.
pub(crate) async fn members(client: &Client, namespace: &str) -> Result<Vec<Member>> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let list = pods.list(&ListParams::default().labels(OURS).limit(MOST)).await;
    let list = list.with_context(|| format!("listing pods of namespace {namespace}"))?;
    let mut members: Vec<Member> = list.items.iter().filter_map(member).collect();
    members.sort_by(|a, b| (&a.service, &a.pod).cmp(&(&b.service, &b.pod)));
    Ok(members)
}

fn member(pod: &Pod) -> Option<Member> {
    if !runs(pod) {
        return None;
    }
    let mut containers = pod.spec.as_ref()?.containers.iter();
    containers.find_map(|container| {
        let ports = container.ports.as_ref()?;
        let admin = ports.iter().find(|port| port.name.as_deref() == Some(ADMIN))?;
        Some(Member {
            service: container.name.clone(),
            pod: pod.name_any(),
            port: u16::try_from(admin.container_port).ok()?,
        })
    })
}

fn runs(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    phase == Some("Running") && pod.metadata.deletion_timestamp.is_none()
}

/// A pod, or a workload that has some, as a person writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named {
    kind: Kind,
    pub(crate) name: String,
    /// Where it was written with the name.
    pub(crate) namespace: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Pod,
    Deployment,
    StatefulSet,
    DaemonSet,
    Service,
}

impl Kind {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "pod" | "pods" | "po" => Self::Pod,
            "deployment" | "deployments" | "deploy" => Self::Deployment,
            "statefulset" | "statefulsets" | "sts" => Self::StatefulSet,
            "daemonset" | "daemonsets" | "ds" => Self::DaemonSet,
            "service" | "services" | "svc" => Self::Service,
            _ => return None,
        })
    }

    /// The path of its collection, and the field that says which pods are its own.
    fn place(self, namespace: &str) -> (String, &'static str) {
        let apps = |plural: &str| {
            let path = format!("/apis/apps/v1/namespaces/{namespace}/{plural}");
            (path, "/spec/selector/matchLabels")
        };
        match self {
            Self::Deployment => apps("deployments"),
            Self::StatefulSet => apps("statefulsets"),
            Self::DaemonSet => apps("daemonsets"),
            Self::Service => (
                format!("/api/v1/namespaces/{namespace}/services"),
                "/spec/selector",
            ),
            Self::Pod => (format!("/api/v1/namespaces/{namespace}/pods"), ""),
        }
    }
}

impl std::str::FromStr for Named {
    type Err = anyhow::Error;

    /// `[KIND/]NAME[.NAMESPACE]`, as istioctl takes it.
    fn from_str(text: &str) -> Result<Self> {
        let (kind, rest) = match text.split_once('/') {
            Some((kind, rest)) => {
                let known = "pod, deployment, statefulset, daemonset or service";
                let parsed = Kind::parse(&kind.to_ascii_lowercase());
                (
                    parsed.with_context(|| format!("{kind:?} in {text:?} is not one of {known}"))?,
                    rest,
                )
            }
            None => (Kind::Pod, text),
        };
        let (name, namespace) = match rest.rsplit_once('.') {
            Some((name, namespace)) => (name, Some(namespace)),
            None => (rest, None),
        };
        let plain = |part: &str| {
            !part.is_empty()
                && part
                    .chars()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c))
        };
        ensure!(
            plain(name) && namespace.is_none_or(plain),
            "{text:?} is not [KIND/]NAME[.NAMESPACE], such as catalog-v1-6d5f.shop or deployment/catalog-v1"
        );
        Ok(Self {
            kind,
            name: name.to_owned(),
            namespace: namespace.map(str::to_owned),
        })
    }
}

impl Named {
    /// The name of the pod itself, or of the first running one of the workload.
    ///
    /// # Errors
    /// There is none; the API server refuses.
    pub(crate) async fn pod(&self, client: &Client, namespace: &str) -> Result<String> {
        if self.kind == Kind::Pod {
            return Ok(self.name.clone());
        }
        let (collection, field) = self.kind.place(namespace);
        let path = format!("{collection}/{}", self.name);
        let request = http::Request::get(&path).body(Vec::new())?;
        let workload: Value = client
            .request(request)
            .await
            .with_context(|| format!("reading {path}"))?;
        let labels = workload.pointer(field).cloned().unwrap_or_default();
        let labels: BTreeMap<String, String> = serde_json::from_value(labels).unwrap_or_default();
        ensure!(!labels.is_empty(), "{path} selects no pods by labels; name a pod");
        let selector: Vec<String> = labels
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
        let params = ListParams::default().labels(&selector.join(",")).limit(MOST);
        let list = pods.list(&params).await.context("listing pods")?;
        let mut names: Vec<String> = list
            .items
            .iter()
            .filter(|pod| runs(pod))
            .map(Pod::name_any)
            .collect();
        names.sort();
        match names.into_iter().next() {
            Some(name) => Ok(name),
            None => bail!("{path} has no running pod"),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may fail loudly")]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<(Kind, &str, Option<&str>)>) {
        let parsed = text.parse::<Named>().ok();
        let parsed = parsed
            .as_ref()
            .map(|n| (n.kind, &*n.name, n.namespace.as_deref()));
        assert_eq!(parsed, expected, "{text}");
    }

    #[test]
    fn pods_are_named_as_people_name_them() {
        check("web-1", Some((Kind::Pod, "web-1", None)));
        check("web-1.shop", Some((Kind::Pod, "web-1", Some("shop"))));
        check("web.v1.shop", Some((Kind::Pod, "web.v1", Some("shop"))));
        check("deploy/web.shop", Some((Kind::Deployment, "web", Some("shop"))));
        check("Service/web", Some((Kind::Service, "web", None)));
        for wrong in ["", "/", "job/web", "deploy/", "web.", "a/b/c", "web?x", "../x"] {
            check(wrong, None);
        }
    }

    fn pod(value: Value) -> Pod {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn pods_of_the_control_plane_are_known_by_their_admin_port_while_they_run() {
        let ports =
            json!([{"name": "grpc", "containerPort": 15012}, {"name": "http-admin", "containerPort": 15014}]);
        let mut one = json!({
            "metadata": {"name": "pilot-1"},
            "spec": {"containers": [{"name": "other"}, {"name": "pilot", "ports": ports}]},
            "status": {"phase": "Running"},
        });
        let expected = Member {
            service: "pilot".to_owned(),
            pod: "pilot-1".to_owned(),
            port: 15014,
        };
        assert_eq!(member(&pod(one.clone())), Some(expected));
        one["status"]["phase"] = json!("Pending");
        assert_eq!(member(&pod(one.clone())), None);
        one["status"]["phase"] = json!("Running");
        one["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        assert_eq!(member(&pod(one)), None);
    }
}
