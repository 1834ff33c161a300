//! The mesh's roots in each namespace.

use serde_json::{Value, json};
use testkit::kubernetes::ApiServer;

use crate::cluster::{Cluster, count, roots, until};
use crate::support::{Mesh, admin};

#[tokio::test(flavor = "multi_thread")]
async fn each_namespace_has_the_roots_whatever_happens_to_them() {
    let Some(server) = ApiServer::shared().await.unwrap() else {
        return;
    };
    let cluster = Cluster::new(server, "roots").await;
    cluster.namespace("roots-before").await;
    let mesh = Mesh::new();
    let options = citadel::kubernetes::Options {
        root_config_maps: true,
        ..cluster.options()
    };
    let citadel = cluster.citadel_with(&mesh, options).await;
    cluster.namespace("roots-later").await;
    let path = |namespace: &str| format!("/api/v1/namespaces/{namespace}/configmaps/istio-ca-root-cert");
    let has = |namespace: &'static str, wanted: String| {
        let (cluster, path) = (&cluster, path(namespace));
        async move {
            until(&format!("{namespace} has the roots"), || async {
                let map = cluster.get(&path).await.ok()?;
                (map["data"]["root-cert.pem"] == *wanted).then_some(())
            })
            .await;
        }
    };
    let first = roots(&mesh, &citadel).await;
    has("roots-before", first.clone()).await;
    has("roots-later", first.clone()).await;
    has("roots", first.clone()).await;
    assert!(
        cluster.get(&path("kube-system")).await.is_err(),
        "Kubernetes' own"
    );
    // Deleted, and spoilt.
    cluster
        .send("DELETE", &path("roots-later"), &Value::Null)
        .await
        .unwrap();
    let spoilt = json!({"data": {"root-cert.pem": "mine"}});
    cluster
        .send("PATCH", &path("roots-before"), &spoilt)
        .await
        .unwrap();
    has("roots-later", first.clone()).await;
    has("roots-before", first.clone()).await;
    // Rotated.
    admin(&citadel.context, "PUT", "/ca/rotate").await;
    let both = until("two roots", || async {
        let now = roots(&mesh, &citadel).await;
        (count(&now) == 2).then_some(now)
    })
    .await;
    has("roots-before", both.clone()).await;
    has("roots-later", both).await;
    citadel.stop().await;
}
