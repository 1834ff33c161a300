//! The webhook against a real Kubernetes API: a pod that is made in a namespace of the mesh comes back with its proxy.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests may fail loudly"
)]

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::{Namespace, Pod, ServiceAccount};
use kube::Client;
use kube::api::{Api, Patch, PatchParams, PostParams};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};
use runtime::logging::LogHandle;
use runtime::tls::TrustBundle;
use runtime::{Context, Identity, Svid, TrustDomain};
use rustls::pki_types::UnixTime;
use serde_json::{Value, json};
use testkit::kubernetes::ApiServer;
use zeroize::Zeroizing;

const CONFIGURATION: &str = "argosy-injector";
const LONG: Duration = Duration::from_secs(60);

/// The injector's identity, as Citadel gives it, but for a host that a test can reach.
fn identity() -> Identity {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let pem = params.self_signed(&key).unwrap().pem();
    let bundle = TrustBundle::from_pem(TrustDomain::default(), pem.as_bytes()).unwrap();
    let issuer = Issuer::new(params, key);
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![
        SanType::URI(
            "spiffe://cluster.local/ns/argosy-system/sa/injector"
                .try_into()
                .unwrap(),
        ),
        SanType::DnsName("localhost".try_into().unwrap()),
    ];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    let key = KeyPair::generate().unwrap();
    let leaf = params.signed_by(&key, &issuer).unwrap();
    let key = Zeroizing::new(key.serialize_der());
    let svid = Svid::new(key, vec![leaf.der().clone()], Arc::new(bundle), UnixTime::now()).unwrap();
    Identity::fixed(svid)
}

async fn apply(client: &Client, object: Value) {
    let params = PatchParams::apply("test").force();
    let name = object["metadata"]["name"].as_str().unwrap().to_owned();
    let patch = Patch::Apply(&object);
    match object["kind"].as_str().unwrap() {
        "Namespace" => {
            let api: Api<Namespace> = Api::all(client.clone());
            api.patch(&name, &params, &patch).await.unwrap();
        }
        "ServiceAccount" => {
            let namespace = object["metadata"]["namespace"].as_str().unwrap();
            let api: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
            api.patch(&name, &params, &patch).await.unwrap();
        }
        _ => {
            let api: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
            api.patch(&name, &params, &patch).await.unwrap();
        }
    }
}

/// The configuration as an installer writes it.
fn configuration(address: SocketAddr) -> Value {
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": CONFIGURATION},
        "webhooks": [{
            "name": "namespace.injector.argosy.io",
            "admissionReviewVersions": ["v1"],
            "sideEffects": "None",
            "failurePolicy": "Fail",
            "reinvocationPolicy": "IfNeeded",
            "clientConfig": {"url": format!("https://localhost:{}/inject", address.port())},
            "namespaceSelector": {"matchLabels": {"istio-injection": "enabled"}},
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"], "scope": "*"}],
        }],
    })
}

fn pod(name: &str, annotations: &Value) -> Pod {
    serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": "web"}, "annotations": annotations},
        "spec": {"serviceAccountName": "default", "containers": [{"name": "app", "image": "app:1", "livenessProbe": {"httpGet": {"port": 80}}}]},
    }))
    .unwrap()
}

async fn eventually<T, F: Future<Output = Result<T, String>>>(mut attempt: impl FnMut() -> F) -> T {
    let end = tokio::time::Instant::now() + LONG;
    loop {
        match attempt().await {
            Ok(found) => return found,
            Err(state) if tokio::time::Instant::now() > end => panic!("{state}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_in_a_labelled_namespace_comes_back_with_its_proxy() {
    let Some(server) = ApiServer::shared().await.unwrap() else {
        return;
    };
    let client = server.client().await.unwrap();
    for (name, label) in [("mesh", "enabled"), ("plain", "disabled")] {
        let labels = json!({"istio-injection": label});
        apply(
            &client,
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}),
        )
        .await;
        apply(&client, json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": name}})).await;
    }
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = listener.local_addr().unwrap();
    drop(listener);
    let args = injector::Args {
        listen,
        kubernetes: true,
        kubeconfig: Some(server.kubeconfig()),
        webhook_host: Some("localhost".to_owned()),
        ..injector::Args::default()
    };
    let context = Context::new("injector", LogHandle::detached(), Duration::from_secs(1));
    apply(&client, configuration(listen)).await;
    let prepared = injector::webhook::prepare(&args, &context).await.unwrap();
    let pods: Api<Pod> = Api::namespaced(client.clone(), "mesh");
    let params = PostParams::default();

    // Before there is an identity nothing trusts the webhook, and no pod gets past it.
    let early = pods
        .create(&params, &pod("early", &json!({})))
        .await
        .unwrap_err()
        .to_string();
    assert!(early.contains("failed calling webhook"), "{early}");

    let running = tokio::spawn(injector::webhook::run_prepared(
        args,
        prepared,
        identity(),
        context.clone(),
    ));
    let made = eventually(|| async {
        let made = pods.create(&params, &pod("web", &json!({}))).await;
        made.map_err(|error| error.to_string())
    })
    .await;
    let made = serde_json::to_value(made).unwrap();
    assert_eq!(made["spec"]["initContainers"][0]["name"], "istio-init");
    let proxy = &made["spec"]["initContainers"][1];
    assert_eq!(
        (&proxy["name"], &proxy["restartPolicy"]),
        (&json!("istio-proxy"), &json!("Always"))
    );
    let probe = &made["spec"]["containers"][0]["livenessProbe"]["httpGet"];
    assert_eq!(probe["path"], "/app-health/app/livez");
    assert!(made["metadata"]["annotations"]["sidecar.istio.io/status"].is_string());

    // What cannot be is refused in the injector's words.
    let wrong = pod("wrong", &json!({"status.sidecar.istio.io/port": "x"}));
    let refusal = pods.create(&params, &wrong).await.unwrap_err().to_string();
    assert!(
        refusal.contains("denied the request: Pod mesh/wrong: annotation status.sidecar.istio.io/port"),
        "{refusal}"
    );

    // Others are not asked about.
    let plain: Api<Pod> = Api::namespaced(client.clone(), "plain");
    let made = plain.create(&params, &pod("web", &json!({}))).await.unwrap();
    assert_eq!(made.spec.unwrap().init_containers, None);

    // An installer that writes again takes nothing away.
    apply(&client, configuration(listen)).await;
    let api: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    let live = api.get(CONFIGURATION).await.unwrap();
    let webhook = live.webhooks.unwrap().remove(0);
    assert!(webhook.client_config.ca_bundle.is_some());
    assert_eq!(webhook.failure_policy.as_deref(), Some("Fail"));
    let text = context.metrics.encode();
    for counted in [
        "sidecar_injection_success_total 1",
        "sidecar_injection_failure_total 1",
    ] {
        assert!(text.contains(counted), "{text}");
    }
    api.delete(CONFIGURATION, &kube::api::DeleteParams::default())
        .await
        .unwrap();
    context.shutdown.cancel();
    running.await.unwrap().unwrap();
}
