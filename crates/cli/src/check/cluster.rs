//! Reads from the cluster what `judge` looks at, with the caller's rights.

use std::path::Path;

use anyhow::Context;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::api::PostParams;
use kube::{Api, Client};
use serde_json::Value;

use super::before::{self, CREATED, Created};
use super::judge::{Facts, Seen};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const WEBHOOKS: &str = "/apis/admissionregistration.k8s.io/v1";

/// A client for the cluster, and its version.
async fn connect(
    kubeconfig: Option<&Path>,
    context: Option<&str>,
) -> anyhow::Result<(Client, (String, String))> {
    let help = "name a cluster with --kubeconfig or --context";
    let config = kubernetes::config(kubeconfig, context).await.context(help)?;
    let client = Client::try_from(config).context(help)?;
    let version = client
        .apiserver_version()
        .await
        .context("the API server does not answer")?;
    Ok((client, (version.major, version.minor)))
}

/// Reads what matters before an installation.
pub(super) async fn before(
    kubeconfig: Option<&Path>,
    context: Option<&str>,
    namespace: &str,
) -> anyhow::Result<before::Facts> {
    let (client, version) = connect(kubeconfig, context).await?;
    let mut lacking = Vec::new();
    for created in CREATED {
        if !may_create(&client, created, namespace).await? {
            lacking.push(created);
        }
    }
    Ok(before::Facts {
        version,
        lacking,
        definitions: get(&client, DEFINITIONS).await?,
        mutating: get(&client, &format!("{WEBHOOKS}/mutatingwebhookconfigurations")).await?,
    })
}

async fn may_create(
    client: &Client,
    (group, resource, namespaced): Created,
    namespace: &str,
) -> anyhow::Result<bool> {
    let attributes = ResourceAttributes {
        group: Some(group.to_owned()),
        resource: Some(resource.to_owned()),
        verb: Some("create".to_owned()),
        namespace: namespaced.then(|| namespace.to_owned()),
        ..ResourceAttributes::default()
    };
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(attributes),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    };
    let reviews = Api::<SelfSubjectAccessReview>::all(client.clone());
    let answer = reviews
        .create(&PostParams::default(), &review)
        .await
        .with_context(|| format!("asking whether {resource} may be created"))?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

/// Reads all facts. What may not be read, or is not there, is a fact too.
pub(super) async fn read(
    kubeconfig: Option<&Path>,
    context: Option<&str>,
    namespace: &str,
) -> anyhow::Result<Facts> {
    let (client, version) = connect(kubeconfig, context).await?;
    let get = async |path: &str| get(&client, path).await;
    let part = "labelSelector=app.kubernetes.io%2Fpart-of%3Dargosy";
    Ok(Facts {
        version,
        definitions: get(DEFINITIONS).await?,
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
            "{WEBHOOKS}/validatingwebhookconfigurations/argosy-galley"
        ))
        .await?,
        mutating: get(&format!("{WEBHOOKS}/mutatingwebhookconfigurations?{part}")).await?,
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
