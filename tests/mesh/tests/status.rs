//! An object's way through a real API server, Galley, Pilot and a real Envoy, and what its `.status` says of it.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may fail loudly"
)]

use std::time::Duration;

use http::Request;
use mesh::{Layout, Mesh, Options};
use serde_json::{Value, json};
use testkit::kubernetes::{ApiServer, Client};
use testkit::net::Block;
use testkit::wait::until;

const PATIENCE: Duration = Duration::from_secs(90);
const HOST: &str = "extra.example.com";
const PORT: u16 = 8081;
const NETWORKING: &str = "/apis/networking.istio.io/v1";

async fn call(client: &Client, request: http::request::Builder, body: &Value) -> Result<Value, String> {
    let request = request.body(body.to_string().into_bytes()).unwrap();
    client.request(request).await.map_err(|error| error.to_string())
}

/// Applies an object as kubectl does; waits for kinds that were defined a moment ago.
async fn apply(client: &Client, collection: &str, object: &Value) {
    let name = object["metadata"]["name"].as_str().unwrap();
    let path = format!("{collection}/{name}?fieldManager=test&force=true");
    until(&format!("{name} to be taken"), PATIENCE, || async {
        let patch = Request::patch(&path).header("content-type", "application/apply-patch+yaml");
        call(client, patch, object).await.map(drop)
    })
    .await
    .unwrap();
}

/// Waits until the condition `Reconciled` of an object is as `check` wants it, of the object's own generation.
async fn reconciled(client: &Client, path: &str, check: impl Fn(&str, &str) -> bool) -> i64 {
    let look = || async {
        let object: Value = client
            .request(Request::get(path).body(Vec::new()).unwrap())
            .await
            .map_err(|error| error.to_string())?;
        let status = &object["status"];
        let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
        let condition = conditions.iter().find(|each| each["type"] == "Reconciled");
        let condition = condition.cloned().unwrap_or_default();
        let text = |field: &str| condition[field].as_str().unwrap_or_default().to_owned();
        let generation = object["metadata"]["generation"].as_i64().unwrap();
        match check(&text("reason"), &text("message")) && status["observedGeneration"] == generation {
            true => Ok(generation),
            false => Err(format!("generation {generation}: {status}")),
        }
    };
    until(&format!("the status of {path}"), PATIENCE, look)
        .await
        .unwrap_or_else(|error| panic!("{error:#}"))
        .0
}

/// A gateway of its own for the route, on the ingress gateway's proxy.
fn gateway(block: &Block) -> Value {
    json!({
        "apiVersion": "networking.istio.io/v1", "kind": "Gateway",
        "metadata": {"name": "extra", "namespace": "istio-system"},
        "spec": {"selector": {"istio": "ingressgateway"}, "servers": [{
            "port": {"number": PORT, "name": "http", "protocol": "HTTP"}, "hosts": [HOST],
            "bind": block.ip(1).to_string(),
        }]},
    })
}

fn route(path: &str) -> Value {
    json!({
        "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
        "metadata": {"name": "extra", "namespace": "istio-system"},
        "spec": {"hosts": [HOST], "gateways": ["extra"], "http": [{
            "match": [{"uri": {"prefix": path}}],
            "route": [{"destination": {"host": "catalog.shop.svc.cluster.local", "port": {"number": 7080}}}],
        }]},
    })
}

/// What is well formed and what only Envoy can refuse: a rewrite by an expression that is none.
fn refused_by_envoy() -> Value {
    json!({
        "apiVersion": "networking.istio.io/v1alpha3", "kind": "EnvoyFilter",
        "metadata": {"name": "broken", "namespace": "istio-system"},
        "spec": {"workloadSelector": {"labels": {"istio": "ingressgateway"}}, "configPatches": [{
            "applyTo": "HTTP_ROUTE",
            "match": {"context": "GATEWAY", "routeConfiguration": {"portNumber": PORT}},
            "patch": {"operation": "MERGE", "value": {"route": {
                "regex_rewrite": {"pattern": {"regex": "("}, "substitution": "x"},
            }}},
        }]},
    })
}

async fn served(mesh: &Mesh, path: &str) -> Result<(), String> {
    let url = format!("http://{}{path}", mesh.block.addr(1, PORT));
    let answer = mesh.client.get(url).header("host", HOST).send().await;
    match answer {
        Ok(answer) if answer.status == 200 => Ok(()),
        Ok(answer) => Err(format!("{}: {}", answer.status, answer.text())),
        Err(error) => Err(format!("{error:#}")),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_tells_what_became_of_an_object_at_a_real_envoy() {
    let Some(server) = ApiServer::shared().await.unwrap() else {
        return;
    };
    let client = server.client().await.unwrap();
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    for definition in config::crd::all() {
        apply(&client, definitions, &definition).await;
    }
    for name in ["shop", "istio-system", "argosy-system"] {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        apply(&client, "/api/v1/namespaces", &namespace).await;
    }
    let options = Options {
        layout: Layout::Separate,
        leaf_ttl: "1h",
        removal_delay: "60s",
        kubeconfig: Some(server.kubeconfig()),
    };
    let mesh = Mesh::start(options, Block::take().unwrap(), |_| ())
        .await
        .unwrap();
    let (gateways, routes, filters) = (
        format!("{NETWORKING}/namespaces/istio-system/gateways"),
        format!("{NETWORKING}/namespaces/istio-system/virtualservices"),
        "/apis/networking.istio.io/v1alpha3/namespaces/istio-system/envoyfilters",
    );
    let of_route = format!("{routes}/extra");
    apply(&client, &gateways, &gateway(&mesh.block)).await;
    apply(&client, &routes, &route("/catalog")).await;

    let up_to_date =
        |reason: &str, message: &str| reason == "UpToDate" && message == "1/1 proxies up to date";
    let first = reconciled(&client, &of_route, up_to_date).await;
    until("the route to serve", PATIENCE, || served(&mesh, "/catalog"))
        .await
        .unwrap();

    // Envoy refuses what a filter made of the route: the status names Envoy's reason, and the route serves on as it was.
    apply(&client, filters, &refused_by_envoy()).await;
    let rejected = |reason: &str, message: &str| {
        reason == "Rejected" && message.contains("1/1 proxies reject it: ") && message.contains("missing )")
    };
    reconciled(&client, &of_route, rejected).await;
    reconciled(&client, &format!("{filters}/broken"), rejected).await;
    served(&mesh, "/catalog").await.unwrap();

    // Without the filter it is accepted again; a new generation is told of as such.
    let delete = Request::delete(format!("{filters}/broken"));
    call(&client, delete, &json!({})).await.unwrap();
    reconciled(&client, &of_route, up_to_date).await;
    apply(&client, &routes, &route("/")).await;
    let second = reconciled(&client, &of_route, up_to_date).await;
    assert!(second > first, "{first}, {second}");
    until("the new route to serve", PATIENCE, || served(&mesh, "/other"))
        .await
        .unwrap();
}
