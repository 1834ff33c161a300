//! Reads from the cluster what `judge` looks at, with the caller's rights.

use std::path::Path;

use anyhow::Context;
use kube::Client;
use serde_json::Value;

use super::judge::{Facts, Seen};

/// Reads all facts. What may not be read, or is not there, is a fact too.
pub(super) async fn read(
    kubeconfig: Option<&Path>,
    context: Option<&str>,
    namespace: &str,
) -> anyhow::Result<Facts> {
    let help = "name a cluster with --kubeconfig or --context";
    let config = kubernetes::config(kubeconfig, context).await.context(help)?;
    let client = Client::try_from(config).context(help)?;
    let version = client
        .apiserver_version()
        .await
        .context("the API server does not answer")?;
    let get = async |path: &str| get(&client, path).await;
    let webhooks = "/apis/admissionregistration.k8s.io/v1";
    let part = "labelSelector=app.kubernetes.io%2Fpart-of%3Dargosy";
    Ok(Facts {
        version: (version.major, version.minor),
        definitions: get("/apis/apiextensions.k8s.io/v1/customresourcedefinitions").await?,
        deployments: get(&format!(
            "/apis/apps/v1/namespaces/{namespace}/deployments?{part}"
        ))
        .await?,
        mesh: get(&format!("/api/v1/namespaces/{namespace}/configmaps/istio")).await?,
        roots: get(&format!(
            "/api/v1/namespaces/{namespace}/configmaps/istio-ca-root-cert"
        ))
        .await?,
        validating: get(&format!(
            "{webhooks}/validatingwebhookconfigurations/argosy-galley"
        ))
        .await?,
        mutating: get(&format!("{webhooks}/mutatingwebhookconfigurations?{part}")).await?,
    })
}

async fn get(client: &Client, path: &str) -> anyhow::Result<Seen> {
    let request = http::Request::get(path).body(Vec::new())?;
    match client.request::<Value>(request).await {
        Ok(value) => Ok(Seen::There(value)),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(Seen::Absent),
        Err(kube::Error::Api(status)) if matches!(status.code, 401 | 403) => {
            Ok(Seen::Refused(status.message.clone()))
        }
        Err(error) => Err(error).with_context(|| format!("reading {path}")),
    }
}
