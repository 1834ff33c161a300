//! The Kubernetes API for tests, tried.

#![allow(
    clippy::unwrap_used,
    reason = "a test's helpers may fail loudly, as the test itself"
)]

use std::time::Duration;

use http::Request;
use serde_json::{Value, json};
use testkit::kubernetes::ApiServer;

async fn get(client: &kube::Client, path: &str) -> Result<Value, kube::Error> {
    client.request(Request::get(path).body(vec![]).unwrap()).await
}

async fn make_config_map(client: &kube::Client, name: &str) -> Result<Value, kube::Error> {
    let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}});
    let request =
        Request::post("/api/v1/namespaces/default/configmaps").header("content-type", "application/json");
    client
        .request(request.body(body.to_string().into_bytes()).unwrap())
        .await
}

#[tokio::test]
async fn an_administrator_may_write_and_others_what_rbac_says() {
    let Some(server) = ApiServer::shared().await.unwrap() else {
        return;
    };
    let version = get(&server.client().await.unwrap(), "/version").await.unwrap();
    assert_eq!(version["major"], "1", "{version}");
    make_config_map(&server.client().await.unwrap(), "shared")
        .await
        .unwrap();
    let stranger = server.client_of("stranger", None).await.unwrap();
    let refused = make_config_map(&stranger, "other").await.unwrap_err().to_string();
    assert!(refused.contains("\"stranger\" cannot create"), "{refused}");
}

#[tokio::test]
async fn objects_survive_restarts_and_history_does_not_survive_compaction() {
    if !ApiServer::available().await.unwrap() {
        return;
    }
    let mut server = ApiServer::start().await.unwrap();
    let client = server.client().await.unwrap();
    make_config_map(&client, "first").await.unwrap();
    let list = get(&client, "/api/v1/namespaces/default/configmaps")
        .await
        .unwrap();
    let version = list["metadata"]["resourceVersion"].as_str().unwrap();
    make_config_map(&client, "second").await.unwrap();
    server.compact().await.unwrap();
    server.kill();
    assert!(get(&client, "/version").await.is_err());
    server.restart().await.unwrap();
    get(&client, "/api/v1/namespaces/default/configmaps/second")
        .await
        .unwrap();
    let watch = format!("/api/v1/configmaps?watch=1&timeoutSeconds=5&resourceVersion={version}");
    let request = Request::get(watch).body(vec![]).unwrap();
    let said = client
        .request_text(request)
        .await
        .unwrap_or_else(|e| e.to_string());
    assert!(said.contains("too old resource version"), "{said}");
    server.kill_etcd();
    // The API server, and after it the client, try on for minutes.
    let write = tokio::time::timeout(Duration::from_secs(1), make_config_map(&client, "third")).await;
    assert!(!matches!(write, Ok(Ok(_))), "written without etcd");
    server.restart_etcd().await.unwrap();
    make_config_map(&client, "fourth").await.unwrap();
}
