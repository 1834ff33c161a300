//! Galley and a real Citadel over loopback: what gateways' credentials are good for is analysed without Galley ever seeing a
//! key.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

mod common;

use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::ConnectInfo;
use axum::http::Request;
use citadel::Ca;
use clap::Parser;
use common::{address, context, eventually};
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams};
use rcgen::{CertificateParams, KeyPair};
use runtime::Context;
use serde_json::{Value, json};
use testkit::kubernetes::ApiServer;
use tokio::task::JoinHandle;
use tower::ServiceExt;

/// The largest page of the admin server that is read here, in bytes.
const MAX_PAGE: usize = 1 << 20;

const GATEWAY: &str = "apiVersion: networking.istio.io/v1
kind: Gateway
metadata:
  name: front
  namespace: shop
  # No Service is there: another message than those that this is about.
  annotations: {galley.istio.io/analyze-suppress: IST0162}
spec:
  selector: {app: front}
  servers:
  - port: {number: 443, name: https, protocol: HTTPS}
    hosts: [web.example.com]
    tls: {mode: SIMPLE, credentialName: web}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: front, namespace: shop, labels: {app: front}}
spec: {address: 192.0.2.1}
";

#[derive(clap::Parser)]
struct Flags {
    #[command(flatten)]
    galley: galley::Args,
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        for name in ["config", "secrets"] {
            std::fs::create_dir(folder.path(name)).unwrap();
        }
        let private = std::fs::Permissions::from_mode(0o700);
        std::fs::set_permissions(folder.path("secrets"), private).unwrap();
        std::fs::write(folder.path("config").join("gateway.yaml"), GATEWAY).unwrap();
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Puts the Secret shop/web there, with a certificate for that name.
    fn secret(&self, dns_name: &str) {
        write_private(&self.path("new"), &secret(dns_name).to_string());
        std::fs::rename(self.path("new"), self.path("secrets").join("web.json")).unwrap();
    }

    fn galley(&self, citadel: SocketAddr) -> galley::Args {
        let config = self.path("config").display().to_string();
        let (listen, citadel) = (address().to_string(), citadel.to_string());
        let flags = [
            "galley",
            "--config",
            &config,
            "--listen",
            &listen,
            "--secret-facts-address",
            &citadel,
        ];
        Flags::parse_from(flags).galley
    }

    fn citadel(&self, listen: SocketAddr) -> citadel::Args {
        citadel::Args {
            listen,
            secrets_dir: Some(self.path("secrets")),
            ..citadel::Args::new(self.path("ca"))
        }
    }
}

/// The Secret shop/web, with a certificate for that name.
fn secret(dns_name: &str) -> Value {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new([dns_name.to_owned()]).unwrap();
    let pem = certificate.self_signed(&key).unwrap().pem();
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {"name": "web", "namespace": "shop"},
        "stringData": {"tls.crt": pem, "tls.key": key.serialize_pem()},
    })
}

fn write_private(path: &Path, text: &str) {
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600);
    std::io::Write::write_all(&mut file.open(path).unwrap(), text.as_bytes()).unwrap();
}

fn start(ca: Ca, args: citadel::Args, context: &Context) -> JoinHandle<()> {
    let context = context.clone();
    tokio::spawn(async move { citadel::run_with(ca, args, context).await.unwrap() })
}

/// What analysis says now of the gateway, as texts.
async fn said(galley: &Context) -> Vec<String> {
    let mut request = Request::get("/debug/analysis").body(Body::empty()).unwrap();
    // The page is for callers of this machine.
    let here = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    request.extensions_mut().insert(ConnectInfo(here));
    let answer = galley.admin.router().oneshot(request).await.unwrap();
    let body = to_bytes(answer.into_body(), MAX_PAGE).await.unwrap();
    let Ok(page) = serde_json::from_slice::<Value>(&body) else {
        return vec![format!("no page: {}", String::from_utf8_lossy(&body))];
    };
    let messages = page["messages"].as_array().cloned().unwrap_or_default();
    let about = messages
        .iter()
        .filter(|message| message["origin"] == "Gateway shop/front");
    let mut texts: Vec<String> = about.map(|message| message["message"].to_string()).collect();
    if page["complete"] != true || page["skipped"].to_string().contains("gateway.SecretAnalyzer") {
        texts.push("not analysed yet".to_owned());
    }
    texts
}

/// Waits until analysis says one thing with these words in it, or nothing.
async fn says(galley: &Context, words: Option<&str>) {
    eventually(|| async {
        let texts = said(galley).await;
        let holds = match (words, texts.as_slice()) {
            (None, []) => true,
            (Some(words), [one]) => one.contains(words),
            _ => false,
        };
        if holds {
            Ok(())
        } else {
            Err(format!("{texts:?}, expected {words:?}"))
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_are_analysed_by_what_citadel_tells() {
    let folder = Folder::new();
    let listen = address();
    let (citadel_context, galley_context) = (context("citadel"), context("galley"));
    let _end = galley_context.shutdown.clone().drop_guard();
    let args = folder.citadel(listen);
    let ca = Ca::open(&args).await.unwrap();
    let hour = Duration::from_secs(3600);
    let identity = ca.identity("galley", hour, &galley_context).await.unwrap();
    let citadel = start(ca, args, &citadel_context);
    let galley_args = folder.galley(listen);
    let running = tokio::spawn(galley::run(galley_args, identity, galley_context.clone()));
    says(&galley_context, Some("there is no Secret shop/web")).await;
    folder.secret("api.example.com");
    says(
        &galley_context,
        Some("no certificate of this server has a name for its host"),
    )
    .await;
    folder.secret("*.example.com");
    says(&galley_context, None).await;

    // What was said last holds while Citadel is away, and what changed meanwhile is heard afterwards.
    citadel_context.shutdown.cancel();
    citadel.await.unwrap();
    eventually(|| async {
        let metrics = galley_context.metrics.encode();
        match metrics.contains("galley_secret_facts_connected 0") {
            true => Ok(()),
            false => Err(metrics),
        }
    })
    .await;
    assert!(said(&galley_context).await.is_empty());
    std::fs::remove_file(folder.path("secrets").join("web.json")).unwrap();
    let again = context("citadel");
    let _end_too = again.shutdown.clone().drop_guard();
    let args = folder.citadel(listen);
    let citadel = start(Ca::open(&args).await.unwrap(), args, &again);
    says(&galley_context, Some("there is no Secret shop/web")).await;

    galley_context.shutdown.cancel();
    running.await.unwrap().unwrap();
    again.shutdown.cancel();
    citadel.await.unwrap();
}

/// Applies an object as kubectl does; waits for kinds that were defined a moment ago.
async fn apply(client: &Client, object: &Value) {
    let api_version = object["apiVersion"].as_str().unwrap();
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let kind = object["kind"].as_str().unwrap();
    let mut resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    if let Some(known) = config::Kind::find(group, kind) {
        resource.plural = known.plural().to_owned();
    }
    let api: Api<DynamicObject> = match object["metadata"]["namespace"].as_str() {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    let (name, params) = (
        object["metadata"]["name"].as_str().unwrap(),
        PatchParams::apply("test").force(),
    );
    eventually(|| async {
        let applied = api.patch(name, &params, &Patch::Apply(object)).await;
        applied.map(drop).map_err(|error| format!("{object}: {error}"))
    })
    .await;
}

/// Waits until the gateway's status has one message with these words, or none.
async fn status_says(client: &Client, words: Option<&str>) {
    let kind = GroupVersionKind::gvk("networking.istio.io", "v1", "Gateway");
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), "shop", &ApiResource::from_gvk(&kind));
    eventually(|| async {
        let gateway = api.get("front").await.map_err(|error| error.to_string())?;
        let status = &gateway.data["status"];
        let messages = status["validationMessages"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let holds = match (words, messages.as_slice()) {
            (None, []) => status["conditions"].is_array(),
            (Some(words), [one]) => one["message"].to_string().contains(words),
            _ => false,
        };
        if holds {
            Ok(())
        } else {
            Err(format!("{status}, expected {words:?}"))
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_cluster_the_gateways_status_tells_what_its_secret_lacks() {
    let Some(server) = ApiServer::shared().await.unwrap() else {
        return;
    };
    let client = server.client().await.unwrap();
    for kind in [config::Kind::Gateway, config::Kind::WorkloadEntry] {
        apply(&client, &config::crd::of(kind).unwrap()).await;
    }
    for name in ["shop", "istio-system", "argosy-system"] {
        apply(
            &client,
            &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}),
        )
        .await;
    }
    let objects: Vec<Value> = serde_saphyr::from_multiple(GATEWAY).unwrap();
    for object in &objects {
        apply(&client, object).await;
    }

    let folder = Folder::new();
    let (listen, kubeconfig) = (address(), server.kubeconfig());
    let (citadel_context, galley_context) = (context("citadel"), context("galley"));
    let _ends = [&citadel_context, &galley_context].map(|context| context.shutdown.clone().drop_guard());
    let args = citadel::Args {
        kubernetes: citadel::kubernetes::Options {
            kubernetes: true,
            kubeconfig: Some(kubeconfig.clone()),
            ca_secret: String::new(),
            root_config_maps: false,
            ..Default::default()
        },
        secrets_dir: None,
        ..folder.citadel(listen)
    };
    let ca = Ca::open(&args).await.unwrap();
    let hour = Duration::from_secs(3600);
    let identity = ca.identity("galley", hour, &galley_context).await.unwrap();
    let citadel = start(ca, args, &citadel_context);
    let galley_args = galley::Args {
        config: Vec::new(),
        kubernetes: galley::kubernetes::Options {
            kubernetes: true,
            kubeconfig: Some(kubeconfig),
            ..Default::default()
        },
        ..folder.galley(listen)
    };
    let running = tokio::spawn(galley::run(galley_args, identity, galley_context.clone()));
    status_says(&client, Some("there is no Secret shop/web")).await;
    apply(&client, &secret("api.example.com")).await;
    status_says(
        &client,
        Some("no certificate of this server has a name for its host"),
    )
    .await;
    apply(&client, &secret("*.example.com")).await;
    status_says(&client, None).await;

    galley_context.shutdown.cancel();
    running.await.unwrap().unwrap();
    citadel_context.shutdown.cancel();
    citadel.await.unwrap();
}
