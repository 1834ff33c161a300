//! The CustomResourceDefinitions at a real API server: it establishes them, finds their schemas structural, and takes every
//! object that Argosy's own validation takes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may fail loudly"
)]

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use config::{Kind, Scope};
use http::Request;
use serde_json::{Value, json};
use testkit::kubernetes::{ApiServer, Client};
use testkit::wait::until;

/// Objects that files in practice do not have, and that are accepted all the same.
const UNUSUAL: &str = "
apiVersion: networking.istio.io/v1beta1
kind: VirtualService
metadata: {name: nulls}
spec: {hosts: [a], gateways: null, http: [{match: null, timeout: +1.5h, route: [{destination: {host: a, subset: null}, weight: 1.0}]}]}
---
apiVersion: networking.istio.io/v1alpha3
kind: DestinationRule
metadata: {name: texts}
spec: {host: a, trafficPolicy: {loadBalancer: {consistentHash: {useSourceIp: true, ringHash: {minimumRingSize: '4096'}}}}}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: nothing}
spec: null
---
apiVersion: security.istio.io/v1beta1
kind: AuthorizationPolicy
metadata: {name: empty-rule}
spec: {rules: [{}]}
---
apiVersion: config.istio.io/v1alpha2
kind: handler
metadata: {name: free-form}
spec: {adapter: outside, connection: {address: 'outside:9070'}, params: {anything: [1, {a: null}]}}
";

type Objects = Vec<(String, Value)>;

async fn call(client: &Client, request: http::request::Builder, body: &Value) -> Result<Value, String> {
    let request = request.body(body.to_string().into_bytes()).unwrap();
    client.request(request).await.map_err(|error| error.to_string())
}

async fn get(client: &Client, path: &str) -> Value {
    client
        .request(Request::get(path).body(Vec::new()).unwrap())
        .await
        .unwrap()
}

#[tokio::test]
async fn a_real_api_server_takes_the_definitions_and_what_validation_takes() {
    let Some(server) = ApiServer::shared().await.unwrap() else {
        return;
    };
    let client = server.client().await.unwrap();
    for definition in config::crd::all() {
        let name = definition["metadata"]["name"].as_str().unwrap();
        let path = format!(
            "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}?fieldManager=test&fieldValidation=Strict"
        );
        let patch = Request::patch(path).header("content-type", "application/apply-patch+yaml");
        call(&client, patch, &definition)
            .await
            .unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    until(
        "all definitions to be established",
        Duration::from_secs(60),
        || established(&client),
    )
    .await
    .unwrap();
    let mut refused = Vec::new();
    let objects = objects();
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for (source, object) in &objects {
        *seen
            .entry(object["kind"].as_str().unwrap().to_owned())
            .or_default() += 1;
        if let Err(error) = create(&client, object).await {
            refused.push(format!(
                "{source}: {} {}: {error}",
                object["kind"], object["metadata"]["name"]
            ));
        }
    }
    assert_eq!(refused, [""; 0], "of {seen:?}");
    let bad = json!({
        "apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"name": "bad"},
        "spec": {"hosts": ["a"], "http": [{"redirect": {"uri": "/"}, "directResponse": {"status": 200}}]},
    });
    let error = create(&client, &bad).await.unwrap_err();
    assert!(
        error.contains("redirect and directResponse exclude one another; keep one of them"),
        "{error}"
    );
}

/// Whether the server serves all definitions, with structural schemas.
async fn established(client: &Client) -> Result<(), String> {
    let list = get(client, "/apis/apiextensions.k8s.io/v1/customresourcedefinitions").await;
    let items = list["items"].as_array().cloned().unwrap_or_default();
    for item in &items {
        let structural = condition(item, "NonStructuralSchema").is_none();
        assert!(
            structural,
            "{}: {}",
            item["metadata"]["name"], item["status"]["conditions"]
        );
    }
    let served = items
        .iter()
        .filter(|item| condition(item, "Established") == Some("True"))
        .count();
    match served == config::crd::all().len() {
        true => Ok(()),
        false => Err(format!("{served} of {} are served", items.len())),
    }
}

fn condition<'a>(object: &'a Value, name: &str) -> Option<&'a str> {
    let conditions = object["status"]["conditions"].as_array()?;
    conditions.iter().find(|one| one["type"] == name)?["status"].as_str()
}

/// Asks for the object as `kubectl create --dry-run=server` does, which is strict about fields.
async fn create(client: &Client, object: &Value) -> Result<Value, String> {
    let (kind, version) = kind_of(object).unwrap();
    let namespace = match kind.scope() {
        Scope::Namespaced => "/namespaces/default",
        Scope::Cluster => "",
    };
    let path = format!(
        "/apis/{}/{version}{namespace}/{}?dryRun=All&fieldValidation=Strict",
        kind.group(),
        kind.plural()
    );
    let mut object = object.clone();
    object["metadata"].as_object_mut().unwrap().remove("namespace");
    call(
        client,
        Request::post(path).header("content-type", "application/json"),
        &object,
    )
    .await
}

/// The kind, when Argosy defines it, and the version.
fn kind_of(object: &Value) -> Option<(Kind, &str)> {
    let (group, version) = object["apiVersion"].as_str()?.split_once('/')?;
    let kind = Kind::find(group, object["kind"].as_str()?)?;
    kind.is_defined_here().then_some((kind, version))
}

/// Everything at hand that validation accepts, with where it is from.
fn objects() -> Objects {
    let mut objects = accepted("unusual", UNUSUAL);
    assert_eq!(objects.len(), 5, "all of these are accepted");
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crates/cli/src/sample");
    objects.extend(of_folder(&sample));
    match std::env::var_os("ARGOSY_SHARED").map(PathBuf::from) {
        Some(shared) => {
            for folder in ["validation", "validation-1.4", "inputs"] {
                let of_corpus = of_folder(&shared.join("corpora").join(folder));
                assert!(!of_corpus.is_empty(), "the corpus {folder} is missing");
                objects.extend(of_corpus);
            }
        }
        None => {
            assert!(
                std::env::var_os("CI").is_none(),
                "CI must have the corpora: set ARGOSY_SHARED"
            );
            // Not by eprintln!, which tests that pass swallow.
            let _ = writeln!(
                std::io::stderr(),
                "ARGOSY_SHARED is not set: the corpora are left out of the test of definitions"
            );
        }
    }
    objects
}

fn of_folder(folder: &Path) -> Objects {
    let mut objects = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            objects.extend(of_folder(&path));
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            let text = std::fs::read_to_string(&path).unwrap();
            objects.extend(accepted(&path.display().to_string(), &text));
        }
    }
    objects
}

/// The objects of a file, when all of it is accepted. They are taken as they were written; where validation reads past a
/// slip that only files can have (an IPv6 address without quotes is a map in YAML), as validation reads them.
fn accepted(file: &str, text: &str) -> Objects {
    let parsed = config::parse(file, text.as_bytes(), "default");
    if parsed.has_errors() {
        return Vec::new();
    }
    let slips = parsed
        .findings
        .iter()
        .any(|finding| finding.message.contains("put it in quotes"));
    let as_read = || {
        parsed.objects.iter().map(|object| {
            let mut value: Value = serde_json::from_slice(&object.to_feed().body).unwrap();
            value["apiVersion"] = json!(object.kind.api_version());
            value["kind"] = json!(object.kind.as_str());
            value["metadata"] = json!({"name": object.meta.name});
            value
        })
    };
    let documents: Vec<Value> = match slips {
        true => as_read().collect(),
        false => serde_saphyr::from_multiple(text).unwrap_or_else(|_| as_read().collect()),
    };
    let ours = documents
        .into_iter()
        .filter(|document| kind_of(document).is_some());
    ours.map(|document| (file.to_owned(), document)).collect()
}
