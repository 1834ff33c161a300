//! `argosy analyze` over files, as its user meets it: what is printed, in which form, and the exit status.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail loudly")]

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

const ROUTE: &str = "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web, namespace: shop}
spec:
  hosts: [web.example.com]
  http:
  - route: [{destination: {host: wbe}}]
---
apiVersion: v1
kind: Namespace
metadata: {name: shop}
";

fn argosy(args: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_argosy"))
        .arg("analyze")
        .args(args)
        .env_remove("KUBECONFIG")
        .env("HOME", "/nonexistent")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("argosy runs");
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .expect("it reads its input");
    child.wait_with_output().expect("argosy ends")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The lines and the exit status for input on standard input.
fn check(args: &[&str], input: &str, status: i32, lines: &[&str]) {
    let output = argosy(&[&["-f", "-"], args].concat(), input);
    let said = text(&output.stdout);
    assert_eq!(said.lines().collect::<Vec<_>>(), lines, "{args:?}");
    assert_eq!(
        output.status.code(),
        Some(status),
        "{args:?}: {}",
        text(&output.stderr)
    );
}

const MISSING: &str = "Error [IST0101] (VirtualService shop/web -:7) spec.http[0].route[0].destination.host: there is no service for the host wbe";
const SILENT: &str =
    "Info [IST0102] (Namespace shop -:11) metadata.labels: pods of this namespace get no sidecar";

#[test]
fn thresholds_and_suppressions_decide_what_is_shown_and_the_status() {
    check(&[], ROUTE, 79, &[MISSING, SILENT]);
    check(&["--output-threshold", "Warning"], ROUTE, 79, &[MISSING]);
    check(&["-S", "IST0101=VirtualService *.shop"], ROUTE, 0, &[SILENT]);
    check(&["-S", "IST0101=VirtualService shop/w*"], ROUTE, 0, &[SILENT]);
    check(
        &["-S", "IST0101=VirtualService *.other"],
        ROUTE,
        79,
        &[MISSING, SILENT],
    );
    let only = ["-S", "IST0101=*", "--failure-threshold", "info"];
    check(&only, ROUTE, 79, &[SILENT]);
    check(&["--analyzer", "injection.Analyzer"], ROUTE, 0, &[SILENT]);
    check(
        &["-n", "other"],
        &ROUTE.replace("shop", "other"),
        79,
        &[
            &MISSING.replace("shop", "other"),
            &SILENT.replace("shop", "other"),
        ],
    );
    let annotated = ROUTE.replace(
        "{name: web, namespace: shop}",
        "{name: web, namespace: shop, annotations: {galley.istio.io/analyze-suppress: '*'}}",
    );
    check(&[], &annotated, 0, &[SILENT]);
}

#[test]
fn what_cannot_be_read_has_a_status_of_its_own() {
    check(&[], "kind: [", 65, &[]);
    check(&["--ignore-unknown"], "kind: [", 0, &[]);
    check(&["--analyzer", "no.Such"], ROUTE, 2, &[]);
    check(&["-S", "IST0101"], ROUTE, 2, &[]);
    let output = argosy(&["-f", "/no/such.yaml"], "");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("/no/such.yaml"));
    let output = argosy(&["--cluster"], "");
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains("--kubeconfig"),
        "{}",
        text(&output.stderr)
    );
    let job = "{apiVersion: batch/v1, kind: Job, metadata: {name: j}, spec: {}}";
    check(&[], job, 0, &[]);
}

#[test]
fn json_has_the_fields_of_istioctl() {
    let output = argosy(&["-f", "-", "-o", "json"], ROUTE);
    assert_eq!(output.status.code(), Some(79));
    let said: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(said[0]["code"], "IST0101");
    assert_eq!(said[0]["level"], "Error");
    assert_eq!(said[0]["origin"], "VirtualService shop/web");
    assert_eq!(said[0]["reference"], "-:7", "the field's line, not the object's");
    assert_eq!(said[0]["path"], "spec.http[0].route[0].destination.host");
    assert!(
        said[0]["documentationUrl"]
            .as_str()
            .unwrap()
            .ends_with("analysis/IST0101.md")
    );
    let none = argosy(&["-f", "-", "-o", "json"], "");
    assert_eq!(text(&none.stdout).trim(), "[]");
}

#[test]
fn sarif_names_rules_levels_files_and_lines() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a b.yaml"), ROUTE).unwrap();
    let output = argosy(&["-f", &dir.path().display().to_string(), "-o", "sarif"], "");
    let log: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(log["version"], "2.1.0");
    let run = &log["runs"][0];
    let results = run["results"].as_array().expect("results");
    assert_eq!(results.len(), 2);
    for result in results {
        let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
        let rule = &run["tool"]["driver"]["rules"][index];
        assert_eq!(rule["id"], result["ruleId"]);
        assert_eq!(rule["defaultConfiguration"]["level"], result["level"]);
        assert!(!result["message"]["text"].as_str().unwrap().is_empty());
    }
    let first = &results[0];
    assert_eq!(
        (&first["ruleId"], &first["level"]),
        (&"IST0101".into(), &"error".into())
    );
    assert_eq!(results[1]["level"], "note");
    let place = &first["locations"][0]["physicalLocation"];
    assert!(
        place["artifactLocation"]["uri"]
            .as_str()
            .unwrap()
            .ends_with("/a%20b.yaml")
    );
    assert_eq!(place["region"]["startLine"], 7);
    assert_eq!(place["region"]["startColumn"], 28);
}

#[test]
fn analyzers_are_listed_by_the_names_that_select_them() {
    let said = text(&argosy(&["-L"], "").stdout);
    for name in [
        "gateway.SecretAnalyzer",
        "schema.ValidationAnalyzer.VirtualService",
    ] {
        assert!(said.contains(&format!("* {name}:\n    ")), "{said}");
    }
    let invalid = ROUTE.replace("wbe", "a_b");
    let output = argosy(
        &[
            "-f",
            "-",
            "--analyzer",
            "schema.ValidationAnalyzer.VirtualService",
        ],
        &invalid,
    );
    assert!(
        text(&output.stdout).starts_with("Error [IST0106] (VirtualService shop/web"),
        "{}",
        text(&output.stdout)
    );
}
