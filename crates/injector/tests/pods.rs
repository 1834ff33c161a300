//! Whole pods through injection: what they have afterwards, and that injecting twice is injecting once.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may fail loudly"
)]

use injector::{InjectError, Injected, Request, Settings, inject, patch};
use k8s_openapi::api::core::v1::Pod;
use proptest::prelude::*;
use serde_json::{Value, json};

fn injected(pod: &Value, settings: &Value) -> Result<Value, InjectError> {
    let pod: Pod = serde_json::from_value(pod.clone()).unwrap();
    let settings: Settings = serde_json::from_value(settings.clone()).unwrap();
    let request = Request {
        pod: &pod,
        namespace: "shop",
        settings: &settings,
    };
    match inject(&request)? {
        Injected::Pod(pod) => Ok(serde_json::to_value(pod).unwrap()),
        Injected::Skipped(reason) => panic!("skipped: {reason}"),
    }
}

fn app() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "web-1", "labels": {"app": "web", "version": "v2"}},
        "spec": {
            "serviceAccountName": "web",
            "initContainers": [{"name": "migrate", "image": "migrate:1"}],
            "containers": [{"name": "app", "image": "app:1", "ports": [{"name": "http", "containerPort": 8080}],
                "readinessProbe": {"httpGet": {"path": "/ready", "port": "http"}}}]
        }
    })
}

fn names(pod: &Value, list: &str) -> Vec<String> {
    let containers = pod["spec"][list].as_array().into_iter().flatten();
    containers
        .map(|c| c["name"].as_str().unwrap().to_owned())
        .collect()
}

fn container<'a>(pod: &'a Value, name: &str) -> &'a Value {
    let all = ["initContainers", "containers"].map(|list| pod["spec"][list].as_array());
    let mut all = all.into_iter().flatten().flatten();
    all.find(|c| c["name"] == name)
        .unwrap_or_else(|| panic!("no container {name}"))
}

fn variable<'a>(pod: &'a Value, name: &str) -> &'a str {
    let env = container(pod, "istio-proxy")["env"].as_array().unwrap();
    let found: Vec<&Value> = env.iter().filter(|variable| variable["name"] == name).collect();
    assert_eq!(found.len(), 1, "{name}");
    found[0]["value"].as_str().unwrap()
}

fn arg<'a>(pod: &'a Value, flag: &str) -> Option<&'a str> {
    let args = container(pod, "istio-init")["args"].as_array().unwrap();
    let at = args.iter().position(|arg| arg == flag)?;
    args[at + 1].as_str()
}

#[test]
fn a_native_sidecar_runs_before_all_that_the_pod_runs() {
    let pod = injected(&app(), &json!({})).unwrap();
    assert_eq!(
        names(&pod, "initContainers"),
        ["istio-init", "istio-proxy", "migrate"]
    );
    assert_eq!(names(&pod, "containers"), ["app"]);
    let proxy = container(&pod, "istio-proxy");
    assert_eq!(proxy["restartPolicy"], "Always");
    assert_eq!(proxy["startupProbe"]["httpGet"]["port"], 15021);
}

#[test]
fn without_native_sidecars_the_application_comes_first_unless_it_is_held() {
    let classic = json!({"nativeSidecars": false});
    let pod = injected(&app(), &classic).unwrap();
    assert_eq!(names(&pod, "initContainers"), ["migrate", "istio-init"]);
    assert_eq!(names(&pod, "containers"), ["app", "istio-proxy"]);
    let mut held = app();
    held["metadata"]["annotations"] =
        json!({"proxy.istio.io/config": "holdApplicationUntilProxyStarts: true"});
    let pod = injected(&held, &classic).unwrap();
    assert_eq!(names(&pod, "containers"), ["istio-proxy", "app"]);
    let hook = &container(&pod, "istio-proxy")["lifecycle"]["postStart"]["exec"]["command"];
    assert_eq!(hook, &json!(["argosy-agent", "wait"]));
}

#[test]
fn the_proxy_has_no_rights_and_redirection_only_those_it_needs() {
    let pod = injected(&app(), &json!({})).unwrap();
    let proxy = &container(&pod, "istio-proxy")["securityContext"];
    assert_eq!(proxy["capabilities"], json!({"drop": ["ALL"]}));
    assert_eq!(
        (&proxy["runAsUser"], &proxy["runAsNonRoot"]),
        (&json!(1337), &json!(true))
    );
    assert_eq!(proxy["readOnlyRootFilesystem"], true);
    let init = &container(&pod, "istio-init")["securityContext"];
    assert_eq!(
        init["capabilities"],
        json!({"add": ["NET_ADMIN", "NET_RAW"], "drop": ["ALL"]})
    );
    let transparent = json!({"interceptionMode": "TPROXY"});
    let pod = injected(&app(), &transparent).unwrap();
    let proxy = &container(&pod, "istio-proxy")["securityContext"];
    assert_eq!(proxy["capabilities"]["add"], json!(["NET_ADMIN"]));
    assert_eq!(arg(&pod, "-m"), Some("TPROXY"));
}

#[test]
fn annotations_decide_what_is_redirected() {
    let mut pod = app();
    pod["metadata"]["annotations"] = json!({
        "traffic.sidecar.istio.io/includeOutboundIPRanges": "10.0.0.0/8",
        "traffic.sidecar.istio.io/excludeInboundPorts": "9000,15020",
        "traffic.sidecar.istio.io/excludeOutboundPorts": "3306",
        "traffic.sidecar.istio.io/excludeInterfaces": "eth1",
    });
    let pod = injected(&pod, &json!({})).unwrap();
    let found = ["-p", "-z", "-u", "-i", "-b", "-d", "-o", "-c", "-q"].map(|flag| arg(&pod, flag));
    let expected = [
        "15001",
        "15006",
        "1337",
        "10.0.0.0/8",
        "*",
        "15090,15021,15020,9000",
        "3306",
        "eth1",
    ];
    assert_eq!(found[..8], expected.map(Some));
    assert_eq!(found[8], None);
}

#[test]
fn nothing_is_redirected_in_mode_none() {
    let mut pod = app();
    pod["metadata"]["annotations"] = json!({"sidecar.istio.io/interceptionMode": "NONE"});
    let pod = injected(&pod, &json!({})).unwrap();
    assert_eq!(names(&pod, "initContainers"), ["istio-proxy", "migrate"]);
    assert_eq!(variable(&pod, "ISTIO_META_INTERCEPTION_MODE"), "NONE");
}

#[test]
fn the_agent_is_told_of_its_pod() {
    let mut pod = app();
    pod["metadata"]["labels"]["pod-template-hash"] = json!("abc");
    pod["metadata"]["ownerReferences"] = json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-abc", "uid": "1", "controller": true}]);
    let pod = injected(&pod, &json!({"network": "east", "trustDomain": "shop.example"})).unwrap();
    assert_eq!(variable(&pod, "ISTIO_META_WORKLOAD_NAME"), "web");
    assert_eq!(
        variable(&pod, "ISTIO_META_OWNER"),
        "kubernetes://apis/apps/v1/namespaces/shop/deployments/web"
    );
    assert_eq!(
        variable(&pod, "ARGOSY_PILOT_ADDRESS"),
        "pilot.argosy-system.svc:15012"
    );
    assert_eq!(variable(&pod, "ISTIO_META_MESH_ID"), "shop.example");
    assert_eq!(pod["metadata"]["labels"]["topology.istio.io/network"], "east");
    assert_eq!(
        pod["metadata"]["labels"]["service.istio.io/canonical-revision"],
        "v2"
    );
    let ports: Value = serde_json::from_str(variable(&pod, "ISTIO_META_POD_PORTS")).unwrap();
    assert_eq!(ports, json!([{"name": "http", "containerPort": 8080}]));
    let probes: Value = serde_json::from_str(variable(&pod, "ISTIO_KUBE_APP_PROBERS")).unwrap();
    assert_eq!(
        probes["/app-health/app/readyz"]["httpGet"],
        json!({"path": "/ready", "port": 8080})
    );
}

#[test]
fn a_container_of_the_users_changes_ours() {
    let mut pod = app();
    pod["spec"]["containers"].as_array_mut().unwrap().push(json!({
        // The API server's default for an image without a tag.
        "name": "istio-proxy", "image": "auto", "imagePullPolicy": "Always",
        "resources": {"limits": {"cpu": "4"}},
        "env": [{"name": "ARGOSY_ENVOY_LOG_LEVEL", "value": "debug"}],
        "securityContext": {"runAsUser": 4000},
    }));
    let never = json!({"imagePullPolicy": "Never"});
    for settings in [
        never,
        json!({"nativeSidecars": false, "imagePullPolicy": "Never"}),
    ] {
        let once = injected(&pod, &settings).unwrap();
        let proxy = container(&once, "istio-proxy");
        assert_eq!(proxy["image"], "argosy/proxy:latest");
        assert_eq!(proxy["imagePullPolicy"], "Never");
        assert_eq!(
            proxy["resources"]["limits"],
            json!({"cpu": "4", "memory": "1024Mi"})
        );
        assert_eq!(variable(&once, "ARGOSY_ENVOY_LOG_LEVEL"), "debug");
        assert_eq!(
            arg(&once, "-u"),
            Some("4000"),
            "redirection leaves out whom the proxy runs as"
        );
        assert_eq!(
            injected(&once, &settings).unwrap(),
            once,
            "the user's wishes outlive another injection"
        );
    }
}

#[test]
fn a_gateway_is_the_pods_only_container_and_is_not_redirected_to() {
    let pod = json!({
        "metadata": {"labels": {"istio": "ingressgateway"}, "annotations": {"inject.istio.io/templates": "gateway"}},
        "spec": {"containers": [{"name": "istio-proxy", "image": "auto", "ports": [{"containerPort": 8443}]}]}
    });
    let once = injected(&pod, &json!({})).unwrap();
    assert_eq!(names(&once, "containers"), ["istio-proxy"]);
    assert!(names(&once, "initContainers").is_empty());
    assert_eq!(variable(&once, "ARGOSY_PROXY_TYPE"), "router");
    let ports = container(&once, "istio-proxy")["ports"].as_array().unwrap();
    assert!(ports.iter().any(|port| port["containerPort"] == 8443));
    assert_eq!(injected(&once, &json!({})).unwrap(), once);
}

#[test]
fn templates_of_the_operators_are_laid_over_in_order() {
    let settings = json!({
        "templates": {"labelled": {"metadata": {"labels": {"team": "x"}}},
            "debug": {"spec": {"containers": [{"name": "istio-proxy", "tty": true}]}}},
        "aliases": {"all": ["sidecar", "labelled", "debug"]}, "nativeSidecars": false,
    });
    let mut pod = app();
    pod["metadata"]["annotations"] = json!({"inject.istio.io/templates": "all"});
    let pod = injected(&pod, &settings).unwrap();
    assert_eq!(pod["metadata"]["labels"]["team"], "x");
    assert_eq!(container(&pod, "istio-proxy")["tty"], true);
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    let check = |annotations: Value, expected: &str| {
        let mut pod = app();
        pod["metadata"]["annotations"] = annotations;
        let error = injected(&pod, &json!({})).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    check(
        json!({"inject.istio.io/templates": "sidecar,grpc-agent"}),
        "there is no template \"grpc-agent\"; there are gateway, sidecar",
    );
    check(
        json!({"sidecar.istio.io/interceptionMode": "BOTH"}),
        "sidecar.istio.io/interceptionMode: \"BOTH\" is none of",
    );
    check(
        json!({"sidecar.istio.io/status": "{"}),
        "sidecar.istio.io/status is not what injection writes",
    );
}

#[test]
fn the_patch_leaves_fields_alone_that_this_release_does_not_know() {
    let mut object = app();
    object["spec"]["fieldOfTomorrow"] = json!({"a": 1});
    let pod: Pod = serde_json::from_value(object.clone()).unwrap();
    let settings = Settings::default();
    let request = Request {
        pod: &pod,
        namespace: "shop",
        settings: &settings,
    };
    let patch = patch(&request).unwrap().unwrap();
    json_patch::patch(&mut object, &patch).unwrap();
    assert_eq!(object["spec"]["fieldOfTomorrow"], json!({"a": 1}));
    assert_eq!(
        names(&object, "initContainers"),
        ["istio-init", "istio-proxy", "migrate"]
    );
}

fn any_container() -> impl Strategy<Value = Value> {
    let name = prop::sample::select(vec!["app", "web", "istio-proxy", "istio-init", "db"]);
    let probe = prop::sample::select(vec![
        json!(null),
        json!({"httpGet": {"path": "/", "port": 8080}}),
        json!({"tcpSocket": {"port": "http"}}),
        json!({"grpc": {"port": 9000}}),
        json!({"exec": {"command": ["true"]}}),
    ]);
    (name, probe.clone(), probe).prop_map(|(name, ready, live)| {
        let mut container =
            json!({"name": name, "image": "x", "ports": [{"name": "http", "containerPort": 8080}]});
        for (field, probe) in [("readinessProbe", ready), ("livenessProbe", live)] {
            if !probe.is_null() {
                container[field] = probe;
            }
        }
        container
    })
}

fn any_pod() -> impl Strategy<Value = Value> {
    let unique = |mut list: Vec<Value>| {
        let mut seen = std::collections::BTreeSet::new();
        list.retain(|c| seen.insert(c["name"].as_str().unwrap().to_owned()));
        list
    };
    let pairs = [
        ("sidecar.istio.io/interceptionMode", "NONE"),
        ("sidecar.istio.io/nativeSidecar", "false"),
        ("status.sidecar.istio.io/port", "0"),
        ("prometheus.io/port", "9090"),
        ("prometheus.io/scrape", "true"),
        ("proxy.istio.io/config", "holdApplicationUntilProxyStarts: true"),
        ("sidecar.istio.io/proxyCPU", "10m"),
    ];
    let annotations = prop::sample::subsequence(pairs.to_vec(), 0..=pairs.len());
    (prop::collection::vec(any_container(), 1..4), annotations).prop_map(move |(containers, annotations)| {
        let annotations: serde_json::Map<String, Value> =
            annotations.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
        json!({"metadata": {"annotations": annotations, "labels": {"app": "x"}}, "spec": {"containers": unique(containers)}})
    })
}

proptest! {
    #[test]
    fn injecting_twice_is_injecting_once(pod in any_pod()) {
        let once = injected(&pod, &json!({})).unwrap();
        let twice = injected(&once, &json!({})).unwrap();
        prop_assert_eq!(twice, once);
    }

    #[test]
    fn the_applications_containers_are_all_there(pod in any_pod()) {
        let once = injected(&pod, &json!({})).unwrap();
        let ours = |name: &String| name == "istio-proxy" || name == "istio-init";
        let mut before = names(&pod, "containers");
        before.retain(|name| !ours(name));
        let mut after = names(&once, "containers");
        after.retain(|name| !ours(name));
        prop_assert_eq!(before, after);
    }
}

#[test]
fn a_native_sidecar_is_told_at_once_that_its_pod_ends() {
    let pod = injected(&app(), &json!({})).unwrap();
    let hook = &container(&pod, "istio-proxy")["lifecycle"]["preStop"]["exec"]["command"];
    assert_eq!(hook, &json!(["argosy-agent", "drain"]));
    assert_eq!(variable(&pod, "ARGOSY_POD_INFO"), "/etc/istio/pod");
    // A volume's own folder belongs to root, and the agent's must be its user's.
    assert_eq!(variable(&pod, "ARGOSY_STATE_DIR"), "/etc/istio/proxy/agent");
}
