//! `argosy` as its user meets it: the sample folder, and what is said about bad configuration.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail loudly")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

fn argosy(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_argosy"))
        .args(args)
        .output()
        .expect("argosy runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A sample folder inside `dir`.
fn sample(dir: &Path) -> String {
    let folder = dir.join("mesh").display().to_string();
    let output = argosy(&["init", &folder]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    folder
}

#[test]
fn the_sample_has_no_errors_and_its_keys_are_private() {
    let dir = tempfile::tempdir().unwrap();
    let folder = sample(dir.path());
    let output = argosy(&["validate", &folder]);
    assert!(output.status.success(), "{}", text(&output.stdout));
    for secret in [
        "ca/root-key.pem",
        "issuer-key.pem",
        "tokens/shop/catalog.jwt",
        "tokens/argosy-system/pilot.jwt",
    ] {
        let mode = fs::metadata(Path::new(&folder).join("identity").join(secret))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{secret}");
    }
}

#[test]
fn explain_says_where_a_rule_is_decided() {
    let dir = tempfile::tempdir().unwrap();
    let folder = sample(dir.path());
    let explain = |rule: &str| {
        let output = argosy(&["explain", "--config", &folder, "rule", rule, "-n", "istio-system"]);
        text(&output.stdout)
    };
    let denier = explain("deny-mallory");
    assert!(
        denier.contains("at shop/catalog-v1")
            && denier.contains("check by doorman.istio-system: in the proxy, without a call")
            && !denier.contains("Mixer is asked"),
        "{denier}"
    );
    let quota = explain("limit-catalog");
    assert!(
        quota.contains(
            "quota catalogquota by quotas.istio-system: in Mixer, since all proxies share its units"
        ),
        "{quota}"
    );
    assert!(
        denier.contains("at gateways: they ask Mixer") && quota.contains("at gateways: they ask Mixer"),
        "{quota}"
    );
    let counted = explain("count-requests");
    assert!(!counted.contains("at gateways"), "it reports alone");
    assert!(
        counted.contains("requests that it sends: Mixer is told (access log service"),
        "{counted}"
    );
    let callers = "apiVersion: config.istio.io/v1alpha2\nkind: rule\nmetadata: {name: callers, namespace: istio-system}\nspec:\n  match: context.reporter.kind == \"outbound\"\n  actions: [{handler: doorman, instances: [visit]}]\n";
    fs::write(Path::new(&folder).join("callers.yaml"), callers).unwrap();
    let callers = explain("callers");
    let gateway = callers
        .lines()
        .find(|line| line.contains(": where a route of it leads to "));
    assert!(
        gateway.is_some_and(
            |line| line.contains("istio-system/") && line.contains("catalog.shop.svc.cluster.local")
        ),
        "{callers}"
    );
}

#[test]
fn init_leaves_a_used_folder_alone() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("mine"), "x").unwrap();
    let output = argosy(&["init", &dir.path().display().to_string()]);
    assert!(!output.status.success());
    assert!(
        text(&output.stderr).contains("is not empty"),
        "{}",
        text(&output.stderr)
    );
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

/// Puts `yaml` into a sample folder as `bad.yaml`; what `argosy validate` says of it.
fn check(yaml: &str, expected: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let folder = sample(dir.path());
    fs::write(Path::new(&folder).join("bad.yaml"), yaml).unwrap();
    let output = argosy(&["validate", &folder]);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for words in expected {
        assert!(said.contains(words), "{words:?} is not in: {said}");
    }
}

#[test]
fn errors_name_file_line_object_field_and_the_way_out() {
    let service = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: x, namespace: shop}\nspec:\n  hosts: [catalog]\n";
    check(
        &format!("{service}  http:\n  - rout:\n    - destination: {{host: catalog}}\n"),
        &[
            "bad.yaml:7",
            "VirtualService shop/x",
            "spec.http[0].rout",
            "route",
        ],
    );
    check(
        "apiVersion: networking.istio.io/v1\nkind: VirtualServise\nmetadata: {name: x}\n",
        &["bad.yaml:", "VirtualService"],
    );
    check(
        "apiVersion: v1\nkind: Service\nmetadata: {name: catalog, namespace: shop}\nspec: {ports: [{port: 1}]}\n",
        &["Service shop/catalog", "bad.yaml", "services.yaml"],
    );
    check(
        "a: &a [x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a]\nc: &c [*b, *b, *b, *b, *b, *b, *b, *b]\nd: &d [*c, *c, *c, *c, *c, *c, *c, *c]\ne: &e [*d, *d, *d, *d, *d, *d, *d, *d]\nf: &f [*e, *e, *e, *e, *e, *e, *e, *e]\ng: &g [*f, *f, *f, *f, *f, *f, *f, *f]\nh: [*g, *g, *g, *g, *g, *g, *g, *g]\n",
        &["bad.yaml"],
    );
}

#[test]
fn findings_come_as_json_too() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x.yaml");
    let text = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a}\nspec: {hosts: [a], htttp: []}\n";
    fs::write(&file, text).unwrap();
    let output = argosy(&["validate", "--output", "json", &file.display().to_string()]);
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let findings = said["findings"].as_array().expect("a list");
    let unknown = findings
        .iter()
        .find(|finding| finding["path"] == "spec.htttp")
        .expect("the unknown field");
    assert_eq!(unknown["object"], "VirtualService default/a");
    assert_eq!(unknown["severity"], "error");
    assert_eq!(unknown["line"], 4);
}

#[test]
fn a_path_that_cannot_be_read_is_told_apart() {
    let output = argosy(&["validate", "/no/such/file.yaml"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("/no/such/file.yaml"));
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let dir = tempfile::tempdir().unwrap();
    let folder = sample(dir.path());
    for command in ["validate", "analyze"] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut argosy = Command::new(env!("CARGO_BIN_EXE_argosy"));
        let child = argosy.args([command, "-f", &folder, "-o", "json"]).stdout(writer);
        let output = child.stderr(std::process::Stdio::piped()).output().unwrap();
        assert!(output.status.success(), "{command}: {}", text(&output.stderr));
    }
}

#[test]
fn files_of_a_folder_may_be_named_one_by_one() {
    let dir = tempfile::tempdir().unwrap();
    let folder = sample(dir.path());
    let mut files: Vec<String> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .map(|path| path.display().to_string())
        .collect();
    files.sort();
    for command in ["validate", "analyze"] {
        let args: Vec<&str> = [command]
            .into_iter()
            .chain(files.iter().map(String::as_str))
            .collect();
        let output = argosy(&args);
        let said = text(&output.stdout) + &text(&output.stderr);
        assert!(output.status.success(), "{command}: {said}");
        assert!(!said.contains("IST0162"), "{said}");
    }
}

#[test]
fn whom_citadel_trusts_is_checked_too() {
    let dir = tempfile::tempdir().unwrap();
    let folder = sample(dir.path());
    let file = Path::new(&folder).join("identity.yaml");
    fs::write(&file, "trustDomian: a\n").unwrap();
    let file = file.display().to_string();
    for path in [&folder, &file] {
        let output = argosy(&["validate", path]);
        let said = text(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(&file) && said.contains("trustDomian"), "{said}");
        let output = argosy(&["analyze", path]);
        assert_eq!(output.status.code(), Some(65), "{}", text(&output.stderr));
        assert!(text(&output.stderr).contains("trustDomian"));
    }
}

#[test]
fn objects_of_one_name_are_told_of_as_run_serves_them() {
    let dir = tempfile::tempdir().unwrap();
    let service = |port: u32| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: a, namespace: shop}}\nspec: {{ports: [{{name: http, port: {port}}}]}}\n"
        )
    };
    for (file, port) in [("one/a.yaml", 80), ("one/b.yaml", 81), ("two/c.yaml", 82)] {
        let file = dir.path().join(file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, service(port)).unwrap();
    }
    let path = |name: &str| dir.path().join(name).display().to_string();
    for command in ["validate", "analyze"] {
        let said = text(&argosy(&[command, &path("one")]).stdout);
        assert!(
            said.contains("one/b.yaml:") && said.contains("a second time"),
            "{said}"
        );
        let said = text(&argosy(&[command, &path("one"), &path("two")]).stdout);
        let covered = format!("{} has an object of the same name", path("two"));
        assert!(said.contains(&covered) && said.contains("one/a.yaml:"), "{said}");
    }
    assert_eq!(
        argosy(&["validate", &path("one"), &path("two")]).status.code(),
        Some(1)
    );
}

#[test]
fn what_never_ends_and_what_is_not_there_are_errors() {
    let output = argosy(&["validate", "/dev/zero"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("MiB"), "{}", text(&output.stderr));
    for path in ["/no/such/folder", "/no/such/file.txt", "/etc/passwd"] {
        let output = argosy(&["analyze", path]);
        assert_eq!(output.status.code(), Some(1), "{path}");
        assert!(text(&output.stderr).contains(path));
    }
}

#[test]
fn findings_in_a_folder_name_its_files_as_a_shell_would() {
    let dir = tempfile::tempdir().unwrap();
    let folder = sample(dir.path());
    let file = Path::new(&folder).join("bad.yaml");
    fs::write(&file, "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a}\nspec: {hosts: [a], http: [{match: [{uri: {regex: 'a++'}}], route: [{destination: {host: a}}]}]}\n").unwrap();
    let said = text(&argosy(&["validate", &folder]).stdout);
    assert!(said.contains(&file.display().to_string()), "{said}");
    assert!(
        said.contains("spec.http[0].match[0].uri.regex") && said.contains("++"),
        "{said}"
    );
    let said = text(&argosy(&["analyze", &folder]).stdout);
    assert!(said.contains(") spec.http[0].match[0].uri.regex: "), "{said}");
}
