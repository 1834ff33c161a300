//! `argosy inject` as its user runs it.

#![allow(clippy::unwrap_used, reason = "a test may fail loudly")]

use std::io::Write;
use std::process::{Command, Output, Stdio};

fn run(manifests: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_argosy"))
        .args(["inject", "-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(manifests.as_bytes())
        .unwrap();
    child.wait_with_output().unwrap()
}

const MANIFESTS: &str = "
apiVersion: v1
kind: Service
metadata: {name: web}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: app, image: app}]}
---
apiVersion: v1
kind: Pod
metadata: {name: quiet, labels: {sidecar.istio.io/inject: 'false'}}
spec: {containers: [{name: app, image: app}]}
";

#[test]
fn pods_get_a_proxy_and_all_objects_are_printed() {
    let output = run(MANIFESTS);
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.matches("name: istio-proxy").count(), 1, "{text}");
    assert!(text.contains("kind: Service"), "{text}");
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.starts_with("Pod quiet: no proxy: "), "{told}");
}

#[test]
fn a_pod_that_cannot_have_its_proxy_fails_by_name() {
    let output = run(&MANIFESTS.replace(
        "labels: {app: web}",
        "annotations: {sidecar.istio.io/interceptionMode: BOTH}",
    ));
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(
        told.contains("Deployment default/web: annotation sidecar.istio.io/interceptionMode"),
        "{told}"
    );
}
