//! Every configuration of the corpora that is accepted gives tables that Envoy accepts. Runs where `ARGOSY_SHARED` says where
//! the corpora are; in CI (`CI` set) it must.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests may fail loudly, and this one reads files and starts Envoys"
)]

mod support;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use config::Object;
use envoygen::{Generator, Interception, Proxy, Scope, Settings};
use model::Snapshot;
use support::envoy::validate;

/// Workloads for the proxies that get each configuration.
const WORKLOADS: &str = r#"
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: gateway, namespace: istio-system}
spec: {address: 127.1.9.1, labels: {istio: ingressgateway, app: istio-ingressgateway}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: reviews, namespace: default}
spec: {address: 127.1.9.2, labels: {app: reviews, version: v1, security.istio.io/tlsMode: istio}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: ratings, namespace: default}
spec: {address: 127.1.9.3, labels: {app: ratings, version: v1, security.istio.io/tlsMode: istio}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: details, namespace: default}
spec: {address: 127.1.9.4, labels: {app: details, version: v1}}
"#;

const PROXIES: [(&str, Interception); 4] = [
    (
        "router~127.1.9.1~gateway.istio-system~istio-system.svc.cluster.local",
        Interception::None,
    ),
    (
        "sidecar~127.1.9.2~reviews.default~default.svc.cluster.local",
        Interception::Redirect,
    ),
    (
        "sidecar~127.1.9.3~ratings.default~default.svc.cluster.local",
        Interception::Tproxy,
    ),
    (
        "sidecar~127.1.9.4~details.default~default.svc.cluster.local",
        Interception::None,
    ),
];

fn objects(file: &str, text: &[u8]) -> Vec<Arc<Object>> {
    config::parse(file, text, "default")
        .objects
        .into_iter()
        .map(Arc::new)
        .collect()
}

/// Generates for all proxies; gives what Envoy says against it.
fn check(texts: &[(String, Vec<u8>)]) {
    let mut all = objects("workloads", WORKLOADS.as_bytes());
    all.extend(texts.iter().flat_map(|(file, text)| objects(file, text)));
    let settings = Settings {
        mixer_address: Some("127.0.0.1:15004".into()),
        ..Settings::default()
    };
    let generator = Generator::new(Arc::new(Snapshot::build(all)), settings);
    for (node, interception) in PROXIES {
        let mut proxy = Proxy::parse(node, None).unwrap();
        proxy.interception = Some(interception);
        validate(&generator.generate(&Scope::of(&proxy, &generator)));
    }
}

fn yaml(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            yaml(&path, found);
        } else if path.extension().is_some_and(|e| e == "yaml") {
            found.push(path);
        }
    }
}

#[test]
fn accepted_configurations_are_accepted_by_envoy() {
    let Some(shared) = std::env::var_os("ARGOSY_SHARED") else {
        let needed = "set ARGOSY_SHARED to the folder that holds corpora";
        assert!(
            std::env::var_os("CI").is_none(),
            "CI must have the corpora: {needed}"
        );
        eprintln!("skipped: {needed}");
        return;
    };
    let corpora = Path::new(&shared).join("corpora");
    let mut failed = Vec::new();
    for folder in ["inputs", "validation", "validation-1.4", "simulate", "analyze"] {
        let mut files = Vec::new();
        yaml(&corpora.join(folder), &mut files);
        files.sort();
        for file in files {
            let text = std::fs::read(&file).unwrap();
            let name = file.display().to_string();
            if std::panic::catch_unwind(|| check(&[(name.clone(), text)])).is_err() {
                failed.push(name);
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}
