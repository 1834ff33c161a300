//! Manifests through injection.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may fail loudly"
)]

use injector::documents::{Outcome, inject_object};
use injector::{Settings, Skipped};
use serde_json::{Value, json};

fn run(object: &mut Value) -> Result<Vec<Outcome>, String> {
    inject_object(object, "default", &Settings::default()).map_err(|error| error.to_string())
}

fn template() -> Value {
    json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "app", "image": "app"}]}})
}

#[test]
fn every_kind_with_pods_gets_proxies_and_keeps_the_rest() {
    let check = |kind: &str, spec: Value, place: &str| {
        let mut object =
            json!({"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": "web"}, "spec": spec});
        assert_eq!(run(&mut object), Ok(vec![Outcome::Injected]), "{kind}");
        let pods = object.pointer(place).unwrap();
        assert_eq!(pods["spec"]["initContainers"][1]["name"], "istio-proxy", "{kind}");
        assert!(pods.get("kind").is_none(), "a template is no object: {pods}");
        let env = pods["spec"]["initContainers"][1]["env"].as_array().unwrap();
        let owner = env.iter().find(|v| v["name"] == "ISTIO_META_OWNER").unwrap();
        let plural = kind.to_lowercase();
        assert_eq!(
            owner["value"],
            format!("kubernetes://apis/apps/v1/namespaces/default/{plural}s/web")
        );
    };
    for kind in ["Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job"] {
        let spec = json!({"unknown": 1, "template": template()});
        check(kind, spec, "/spec/template");
    }
    let cron = json!({"jobTemplate": {"spec": {"template": template()}}});
    check("CronJob", cron, "/spec/jobTemplate/spec/template");
}

#[test]
fn lists_are_gone_through_and_other_objects_left_alone() {
    let pod =
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": template()["spec"]});
    let quiet = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "b", "labels": {"sidecar.istio.io/inject": "false"}},
        "spec": template()["spec"]});
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}});
    let mut list = json!({"kind": "List", "items": [pod, quiet, service]});
    let expected = vec![
        Outcome::Injected,
        Outcome::Skipped(Skipped::Asked),
        Outcome::NoPods,
    ];
    assert_eq!(run(&mut list), Ok(expected));
    assert_eq!(list["items"][0]["kind"], "Pod");
    assert_eq!((&list["items"][1], &list["items"][2]), (&quiet, &service));
}

#[test]
fn errors_name_the_object() {
    let mut object = json!({"kind": "Deployment", "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"template": {"spec": {"containers": 1}}}});
    let error = run(&mut object).unwrap_err();
    assert!(
        error.starts_with("Deployment shop/web: its pod is not one that Kubernetes knows"),
        "{error}"
    );
}
