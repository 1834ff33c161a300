//! What is answered for a pod. Pure.

use std::collections::BTreeMap;

use admission::review::{Cause, Refused, Request as Review, Verdict};
use config::Object;
use k8s_openapi::api::core::v1::Pod;

use crate::decide::Skipped;
use crate::inject::{Request, difference, inject};
use crate::names;
use crate::proxy_config::settings_for;
use crate::settings::Settings;
use crate::wishes;
use crate::{InjectError, Injected};

/// Longest warning in characters: the API server cuts longer ones.
const MAX_WARNING: usize = 256;
/// Most warnings of an answer.
const MAX_WARNINGS: usize = 20;

/// A verdict, and what became of the pod, for who keeps account.
#[derive(Debug, PartialEq, Eq)]
pub struct Judged {
    /// What is answered.
    pub verdict: Verdict,
    /// What became of the pod.
    pub outcome: Outcome,
}

/// What became of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was none, or is not being made.
    Ignored,
    /// It has a proxy.
    Injected,
    /// It stays as it is.
    Skipped,
    /// It is refused.
    Refused,
}

/// Decides about a request that came to `path`. It never lets a pod pass that asks for a proxy and cannot have one: that pod
/// would be outside of the mesh unseen.
pub fn judge(path: &str, review: &mut Review, settings: &Settings, objects: &[Object]) -> Judged {
    let is_new = review.operation == "CREATE" && review.sub_resource.is_empty();
    if !is_new || !review.kind.group.is_empty() || review.kind.kind != "Pod" {
        return passes(Outcome::Ignored, Vec::new());
    }
    let pod: Pod = match serde_json::from_value(review.object.take().unwrap_or_default()) {
        Ok(pod) => pod,
        Err(error) => return refuses(review, None, &error.to_string()),
    };
    let labels = pod.metadata.labels.clone().unwrap_or_default();
    let mut settings = settings_for(settings, objects, &review.namespace, &labels);
    let named = names_of(path);
    if let Some(cluster) = named.get("cluster") {
        settings.to_mut().cluster_id.clone_from(cluster);
    }
    if let Some(network) = named.get("net") {
        settings.to_mut().network.clone_from(network);
    }
    let request = Request {
        pod: &pod,
        namespace: &review.namespace,
        settings: &settings,
    };
    match inject(&request).and_then(|injected| patch(&pod, injected)) {
        Ok(Ok(patch)) => {
            let mut judged = passes(Outcome::Injected, warnings(&pod, None));
            judged.verdict.patch = Some(patch);
            judged
        }
        Ok(Err(reason)) => passes(Outcome::Skipped, warnings(&pod, Some(reason))),
        Err(error) => refuses(review, Some(&pod), &error.to_string()),
    }
}

fn patch(pod: &Pod, injected: Injected) -> Result<Result<Vec<u8>, Skipped>, InjectError> {
    match injected {
        Injected::Skipped(reason) => Ok(Err(reason)),
        Injected::Pod(injected) => Ok(Ok(serde_json::to_vec(&difference(pod, &injected)?)?)),
    }
}

fn passes(outcome: Outcome, warnings: Vec<String>) -> Judged {
    let verdict = Verdict {
        warnings,
        ..Verdict::default()
    };
    Judged { verdict, outcome }
}

fn refuses(review: &Review, pod: Option<&Pod>, reason: &str) -> Judged {
    let metadata = pod.map(|pod| &pod.metadata);
    let name = metadata.and_then(|metadata| metadata.name.as_deref().or(metadata.generate_name.as_deref()));
    let named = name.unwrap_or(&review.name);
    let refused = Refused {
        message: format!("Pod {}/{named}: {reason}", review.namespace),
        causes: vec![Cause {
            reason: "FieldValueInvalid",
            message: reason.to_owned(),
            field: "metadata.annotations".to_owned(),
        }],
    };
    Judged {
        verdict: Verdict {
            refused: Some(refused),
            ..Verdict::default()
        },
        outcome: Outcome::Refused,
    }
}

/// What the user should know: that a pod which asks for a proxy gets none, and annotations that mean nothing.
fn warnings(pod: &Pod, skipped: Option<Skipped>) -> Vec<String> {
    let empty = BTreeMap::new();
    let labels = pod.metadata.labels.as_ref().unwrap_or(&empty);
    let annotations = pod.metadata.annotations.as_ref().unwrap_or(&empty);
    let asks = labels.contains_key(names::INJECT) || annotations.contains_key(names::INJECT);
    let unasked = skipped.filter(|reason| asks && *reason != Skipped::Asked);
    let left = unasked.map(|reason| format!("the pod gets no proxy: {reason}"));
    let unknown = annotations.keys().filter(|name| names::is_unknown(name));
    let unknown =
        unknown.map(|name| format!("annotation {name} is not known to the injector and has no effect"));
    let own = annotations.get(names::PROXY_CONFIG).filter(|_| skipped.is_none());
    let unfollowed = own.map(|text| wishes::unfollowed(text)).unwrap_or_default();
    let all = left
        .into_iter()
        .chain(unknown)
        .chain(unfollowed)
        .take(MAX_WARNINGS);
    all.map(|text| text.chars().take(MAX_WARNING).collect()).collect()
}

/// Names in Istio's form, `/inject/cluster/ID/net/NETWORK`; `--slash--` stands for a slash in one.
fn names_of(path: &str) -> BTreeMap<&str, String> {
    let rest = path.strip_prefix("/inject/").unwrap_or_default();
    let mut parts = rest.split('/');
    let mut names = BTreeMap::new();
    while let (Some(key), Some(value)) = (parts.next(), parts.next()) {
        names.insert(key, value.replace("--slash--", "/"));
    }
    names
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn judged(path: &str, request: Value) -> Judged {
        let mut review: Review = serde_json::from_value(request).unwrap();
        judge(path, &mut review, &Settings::default(), &[])
    }

    fn creating(pod: &Value, namespace: &str) -> Value {
        json!({"operation": "CREATE", "kind": {"version": "v1", "kind": "Pod"}, "namespace": namespace, "object": pod})
    }

    fn pod() -> Value {
        json!({"metadata": {"generateName": "web-"}, "spec": {"containers": [{"name": "app", "image": "app:1"}]}})
    }

    fn patched(judged: &Judged) -> Value {
        let patch: json_patch::Patch =
            serde_json::from_slice(judged.verdict.patch.as_ref().unwrap()).unwrap();
        let mut pod = pod();
        json_patch::patch(&mut pod, &patch).unwrap();
        pod
    }

    #[test]
    fn a_new_pod_is_patched_and_all_else_passes() {
        let found = judged("/inject", creating(&pod(), "shop"));
        assert_eq!(found.outcome, Outcome::Injected);
        assert_eq!(patched(&found)["spec"]["initContainers"][1]["name"], names::PROXY);
        let mut update = creating(&pod(), "shop");
        update["operation"] = json!("UPDATE");
        assert_eq!(judged("/inject", update), passes(Outcome::Ignored, Vec::new()));
        let mut other = creating(&pod(), "shop");
        other["kind"]["kind"] = json!("Deployment");
        assert_eq!(judged("/inject", other), passes(Outcome::Ignored, Vec::new()));
        let system = judged("/inject", creating(&pod(), "kube-system"));
        assert_eq!(system, passes(Outcome::Skipped, Vec::new()));
    }

    #[test]
    fn what_of_a_pods_proxy_config_nobody_follows_is_named() {
        let mut own = pod();
        let text = "tracing: {sampling: 10}\nproxyHeaders: {server: {disabled: true}}\nconcurrency: 2";
        own["metadata"]["annotations"] = json!({names::PROXY_CONFIG: text});
        let warnings = judged("/inject", creating(&own, "shop")).verdict.warnings;
        let [tracing, headers] = warnings.as_slice() else {
            panic!("two warnings: {warnings:#?}")
        };
        assert!(
            tracing.starts_with("annotation proxy.istio.io/config: tracing: is the mesh's"),
            "{tracing}"
        );
        assert!(
            headers.contains(": proxyHeaders: this field is accepted but has no effect"),
            "{headers}"
        );
    }

    #[test]
    fn the_path_names_cluster_and_network() {
        let found = judged("/inject/cluster/east/net/net--slash--1", creating(&pod(), "shop"));
        let pod = patched(&found);
        let env = pod["spec"]["initContainers"][1]["env"].as_array().unwrap();
        let has = |name: &str, value: &str| env.contains(&json!({"name": name, "value": value}));
        assert!(has("ISTIO_META_CLUSTER_ID", "east") && has("ISTIO_META_NETWORK", "net/1"));
    }

    #[test]
    fn who_asks_for_what_cannot_be_is_refused_or_warned() {
        let mut wrong = pod();
        wrong["metadata"]["annotations"] = json!({names::STATUS_PORT: "x"});
        let found = judged("/inject", creating(&wrong, "shop"));
        let message = found.verdict.refused.unwrap().message;
        assert!(
            message.starts_with("Pod shop/web-: annotation status.sidecar.istio.io/port: "),
            "{message}"
        );
        let broken = judged("/inject", creating(&json!({"spec": {"containers": 3}}), "shop"));
        assert_eq!(broken.outcome, Outcome::Refused);

        let mut host = pod();
        host["spec"]["hostNetwork"] = json!(true);
        host["metadata"]["labels"] = json!({names::INJECT: "true"});
        host["metadata"]["annotations"] = json!({
            "sidecar.istio.io/proxyCpu": "1", "sidecar.istio.io/bootstrapOverride": "mine", "example.com/own": "1",
        });
        let found = judged("/inject", creating(&host, "shop"));
        let expected = [
            "the pod gets no proxy: it uses the node's network, which must not be redirected",
            "annotation sidecar.istio.io/bootstrapOverride is not known to the injector and has no effect",
            "annotation sidecar.istio.io/proxyCpu is not known to the injector and has no effect",
        ];
        assert_eq!(
            found,
            passes(Outcome::Skipped, expected.map(str::to_owned).to_vec())
        );
    }
}
