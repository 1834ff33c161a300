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

use std::net::SocketAddr;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use citadel::Ca;
use clap::Parser;
use common::{address, context, eventually};
use http_body_util::BodyExt;
use rcgen::{CertificateParams, KeyPair};
use runtime::Context;
use serde_json::Value;
use tokio::task::JoinHandle;
use tower::ServiceExt;

const GATEWAY: &str = "apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: front, namespace: shop}
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
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new([dns_name.to_owned()]).unwrap();
        let pem = certificate.self_signed(&key).unwrap().pem();
        let secret = serde_json::json!({
            "kind": "Secret", "type": "kubernetes.io/tls", "metadata": {"name": "web", "namespace": "shop"},
            "stringData": {"tls.crt": pem, "tls.key": key.serialize_pem()},
        });
        write_private(&self.path("new"), &secret.to_string());
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

fn write_private(path: &Path, text: &str) {
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600);
    std::io::Write::write_all(&mut file.open(path).unwrap(), text.as_bytes()).unwrap();
}

fn start(ca: Ca, args: citadel::Args, context: &Context) -> JoinHandle<()> {
    let context = context.clone();
    tokio::spawn(async move { citadel::run_with(ca, args, context).await.unwrap() })
}

/// What analysis says now, as texts.
async fn said(galley: &Context) -> Vec<String> {
    let request = axum::http::Request::get("/debug/analysis");
    let request = request.body(axum::body::Body::empty()).unwrap();
    let answer = galley.admin.router().oneshot(request).await.unwrap();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    let page: Value = serde_json::from_slice(&body).unwrap_or_default();
    let messages = page["messages"].as_array().cloned().unwrap_or_default();
    let mut texts: Vec<String> = messages
        .iter()
        .map(|message| message["message"].to_string())
        .collect();
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
    let args = folder.citadel(listen);
    let citadel = start(Ca::open(&args).await.unwrap(), args, &again);
    says(&galley_context, Some("there is no Secret shop/web")).await;

    galley_context.shutdown.cancel();
    running.await.unwrap().unwrap();
    again.shutdown.cancel();
    citadel.await.unwrap();
}
