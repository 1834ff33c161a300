//! `argosy analyze --cluster` and `argosy validate -f -` with a real Kubernetes API: what is found there, what files change
//! of it, and what a caller with few rights is told.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may fail loudly"
)]

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use config::Kind;
use http::Request;
use serde_json::{Value, json};
use testkit::kubernetes::{ApiServer, Client};
use testkit::wait::until;

const NAMESPACE: &str = "analysed";
const ROUTES: &str = "/apis/networking.istio.io/v1/namespaces/analysed/virtualservices";
const SERVICE: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: wbe, namespace: analysed}\nspec: {ports: [{name: http, port: 80}]}\n";

fn argosy(command: &str, kubeconfig: &Path, args: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_argosy"))
        .arg(command)
        .args(args)
        .env("KUBECONFIG", kubeconfig)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("argosy runs");
    _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().expect("argosy ends")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The codes of the messages, with their objects.
fn messages(output: &Output) -> Vec<(String, String)> {
    let list: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!("{error}: {}{}", text(&output.stdout), text(&output.stderr));
    });
    let field = |message: &Value, name: &str| message[name].as_str().unwrap().to_owned();
    let list = list.as_array().unwrap().iter();
    list.map(|message| (field(message, "code"), field(message, "origin")))
        .collect()
}

async fn call(client: &Client, request: http::request::Builder, body: &Value) -> Result<Value, String> {
    let request = request.body(body.to_string().into_bytes()).unwrap();
    client.request(request).await.map_err(|error| error.to_string())
}

async fn apply(client: &Client, path: &str, object: &Value) {
    let path = format!(
        "{path}/{}?fieldManager=test&force=true",
        object["metadata"]["name"].as_str().unwrap()
    );
    until("the object to be taken", Duration::from_secs(60), || async {
        let patch = Request::patch(&path).header("content-type", "application/apply-patch+yaml");
        call(client, patch, object).await.map(drop)
    })
    .await
    .unwrap();
}

fn route(name: &str, host: &str) -> Value {
    json!({
        "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"hosts": [format!("{name}.example.com")], "http": [{"route": [{"destination": {"host": host}}]}]},
    })
}

/// A cluster with a VirtualService whose destination is missing.
async fn cluster() -> Option<(&'static ApiServer, Client)> {
    let server = ApiServer::shared().await.unwrap()?;
    let client = server.client().await.unwrap();
    let definition = config::crd::of(Kind::VirtualService).unwrap();
    apply(
        &client,
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
        &definition,
    )
    .await;
    let namespace = json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": NAMESPACE, "labels": {"istio-injection": "enabled"}},
    });
    apply(&client, "/api/v1/namespaces", &namespace).await;
    apply(&client, ROUTES, &route("web", "wbe")).await;
    Some((server, client))
}

#[tokio::test]
async fn a_cluster_is_analysed_as_it_is_and_as_files_would_change_it() {
    let Some((server, client)) = cluster().await else {
        return;
    };
    let kubeconfig = server.kubeconfig();
    let missing = ("IST0101".to_owned(), "VirtualService analysed/web".to_owned());
    let output = argosy(
        "analyze",
        &kubeconfig,
        &["--cluster", "-n", NAMESPACE, "-o", "json"],
        "",
    );
    assert_eq!(
        messages(&output),
        std::slice::from_ref(&missing),
        "{}",
        text(&output.stderr)
    );
    assert_eq!(output.status.code(), Some(79));
    let output = argosy("analyze", &kubeconfig, &["--cluster", "-A", "-o", "json"], "");
    assert!(messages(&output).contains(&missing));
    let output = argosy(
        "analyze",
        &kubeconfig,
        &["-k", "-n", NAMESPACE, "-f", "-", "-o", "json"],
        SERVICE,
    );
    assert_eq!(messages(&output), [], "the file's Service is what was missing");
    assert_eq!(output.status.code(), Some(0));
    let output = argosy("analyze", &kubeconfig, &["--cluster", "-n", "nowhere"], "");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("namespace \"nowhere\" not found"));

    // What the API server gives, with all that it adds, is as valid as what was applied.
    let held = call(&client, Request::get(format!("{ROUTES}/web")), &Value::Null)
        .await
        .unwrap();
    let list =
        json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": [held]});
    let output = argosy("validate", &kubeconfig, &["-f", "-"], &list.to_string());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
    assert!(
        text(&output.stdout).starts_with("1 object accepted, 0 errors"),
        "{}",
        text(&output.stdout)
    );
    let refused = list.to_string().replace("\"wbe\"", "\"w_b_e\"");
    let output = argosy("validate", &kubeconfig, &["-f", "-"], &refused);
    assert_eq!(output.status.code(), Some(1));
    let words = "VirtualService analysed/web: spec.http[0].route[0].destination.host: ";
    assert!(text(&output.stdout).contains(words), "{}", text(&output.stdout));
}

#[tokio::test]
async fn a_caller_without_rights_is_told_what_was_not_looked_at() {
    let Some((server, client)) = cluster().await else {
        return;
    };
    // Nothing at all may be read.
    let nobody = server.kubeconfig_of("analyze-nobody", None).unwrap();
    let output = argosy("analyze", &nobody, &["--cluster", "-n", NAMESPACE], "");
    let told = text(&output.stderr);
    for words in [
        "virtualservices: ",
        "\"analyze-nobody\" cannot list resource",
        "analyzers that read VirtualService are skipped",
        "No validation issues found when analyzing namespace: analysed, but 0 documents could not be parsed and",
    ] {
        assert!(told.contains(words), "{words:?} is not in: {told}");
    }
    assert_eq!(output.status.code(), Some(0), "{told}");

    // Routes may be read, and Services not: that a Service is missing is not said.
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "analyze-routes"},
        "rules": [{"apiGroups": ["networking.istio.io"], "resources": ["*"], "verbs": ["list"]}],
    });
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "analyze-routes"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "analyze-routes"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "analyze-routes"}],
    });
    apply(&client, "/apis/rbac.authorization.k8s.io/v1/clusterroles", &role).await;
    apply(
        &client,
        "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
        &binding,
    )
    .await;
    let some = server.kubeconfig_of("analyze-routes", None).unwrap();
    until("the rights to be there", Duration::from_secs(60), || async {
        let output = argosy("analyze", &some, &["--cluster", "-n", NAMESPACE, "-v"], "");
        let told = text(&output.stderr);
        let skipped = told.contains("services: ") && !told.contains("virtualservices: ");
        assert!(
            !text(&output.stdout).contains("IST0101"),
            "{}",
            text(&output.stdout)
        );
        match skipped
            && told.contains("Skipped analyzers:")
            && told.contains("virtualservice.DestinationHostAnalyzer")
        {
            true => Ok(()),
            false => Err(told),
        }
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn before_an_installation_rights_and_what_is_in_the_way_are_looked_at() {
    if !ApiServer::available().await.unwrap() {
        return;
    }
    let server = ApiServer::start().await.unwrap();
    let check = |kubeconfig: &Path| {
        let output = argosy("check", kubeconfig, &["--before-install"], "");
        (output.status.code(), text(&output.stdout))
    };
    let (code, told) = check(&server.kubeconfig());
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("may be created"), "{told}");
    let nobody = server.kubeconfig_of("nobody", None).unwrap();
    let (code, told) = check(&nobody);
    assert_eq!(code, Some(1), "{told}");
    assert!(
        told.contains("you may not create customresourcedefinitions.apiextensions.k8s.io")
            && told.contains("unknown"),
        "{told}"
    );
    let client = server.client().await.unwrap();
    let definition = config::crd::all()
        .into_iter()
        .find(|one| one["metadata"]["name"] == "virtualservices.networking.istio.io")
        .map(|mut one| {
            one["metadata"]["labels"] = json!({"chart": "istio"});
            one
        });
    let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    apply(&client, path, &definition.unwrap()).await;
    let (code, told) = check(&server.kubeconfig());
    assert_eq!(code, Some(1), "{told}");
    assert!(
        told.contains("virtualservices.networking.istio.io and 0 others were installed by somebody else"),
        "{told}"
    );
}

#[test]
fn a_cluster_that_does_not_answer_is_told_of() {
    let dir = tempfile::tempdir().unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let kubeconfig = dir.path().join("kubeconfig");
    let text_of = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "none",
        "clusters": [{"name": "none", "cluster": {"server": format!("http://{free}")}}],
        "contexts": [{"name": "none", "context": {"cluster": "none", "user": "none"}}],
        "users": [{"name": "none", "user": {}}],
    });
    std::fs::write(&kubeconfig, text_of.to_string()).unwrap();
    let output = argosy("analyze", &kubeconfig, &["--cluster", "--timeout", "60s"], "");
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(
        told.contains("argosy: reading ") && told.to_lowercase().contains("connect"),
        "{told}"
    );
}
