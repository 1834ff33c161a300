//! The objects of the pods in the Kubernetes API.
//!
//! They are for a scheduler that is not there, so no node runs them; their addresses are of 198.18.0.0/15, which RFC 2544
//! keeps for measurements.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::Context;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service, ServiceAccount};
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams};
use serde_json::json;

/// Who owns the fields that are applied.
const MANAGER: &str = "bench";
/// Name of the Service, the VirtualService and the label `app` of the pods.
const NAME: &str = "many";
/// Seconds of life of a token; a kubelet asks for an hour too.
const TOKEN_LIFE: i64 = 3_600;
/// Before a pod that was refused is created again.
const AGAIN: Duration = Duration::from_secs(1);

/// A namespace of a cluster.
#[derive(Clone)]
pub(super) struct Cluster {
    client: Client,
    namespace: String,
}

fn address(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(198, 18, 0, 1)) + number)
}

fn name(number: u32) -> String {
    format!("{NAME}-{number}")
}

impl Cluster {
    pub(super) async fn connect(namespace: &str) -> anyhow::Result<Self> {
        Ok(Self {
            client: kubernetes::client(None, None).await?,
            namespace: namespace.to_owned(),
        })
    }

    /// Waits for the mesh's roots, which Citadel puts into every namespace.
    pub(super) async fn roots(&self) -> anyhow::Result<String> {
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.namespace);
        loop {
            let found = maps.get_opt("istio-ca-root-cert").await?;
            if let Some(roots) = found.and_then(|map| map.data?.remove("root-cert.pem")) {
                return Ok(roots);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The Service of all pods.
    pub(super) async fn service(&self) -> anyhow::Result<()> {
        let services: Api<Service> = Api::namespaced(self.client.clone(), &self.namespace);
        let object = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": NAME},
            "spec": {"selector": {"app": NAME}, "ports": [{"name": "http", "port": 8080}]},
        });
        let parameters = PatchParams::apply(MANAGER);
        services.patch(NAME, &parameters, &Patch::Apply(&object)).await?;
        Ok(())
    }

    /// Creates a pod, and says of it what a kubelet would: that it has an address and is ready.
    pub(super) async fn pod(&self, number: u32) -> anyhow::Result<()> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let name = name(number);
        let object = serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": NAME}},
            "spec": {
                "schedulerName": "none",
                "containers": [{"name": NAME, "image": NAME, "ports": [{"containerPort": 8080}]}],
            },
        }))?;
        // As the controller of a ReplicaSet does.
        while let Err(error) = pods.create(&PostParams::default(), &object).await {
            eprintln!("creating {name} again: {error}");
            tokio::time::sleep(AGAIN).await;
        }
        let address = address(number).to_string();
        let status = json!({"status": {
            "phase": "Running", "podIP": address, "podIPs": [{"ip": address}],
            "conditions": [{"type": "Ready", "status": "True"}],
        }});
        let parameters = PatchParams::default();
        pods.patch_status(&name, &parameters, &Patch::Merge(&status))
            .await?;
        Ok(())
    }

    /// A token as the kubelet would mount it for the agent: bound to the pod, for Citadel alone.
    pub(super) async fn token(&self, number: u32) -> anyhow::Result<String> {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), &self.namespace);
        let pod = BoundObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            name: Some(name(number)),
            uid: None,
        };
        let request = TokenRequest {
            spec: TokenRequestSpec {
                audiences: vec!["istio-ca".to_owned()],
                bound_object_ref: Some(pod),
                expiration_seconds: Some(TOKEN_LIFE),
            },
            ..TokenRequest::default()
        };
        let parameters = PostParams::default();
        let answer = accounts
            .create_token_request("default", &parameters, &request)
            .await?;
        Ok(answer.status.context("a token request without status")?.token)
    }

    /// Sets a header with this value on every request to the Service.
    pub(super) async fn route(&self, value: &str) -> anyhow::Result<()> {
        let kind = GroupVersionKind::gvk("networking.istio.io", "v1", "VirtualService");
        let kind = ApiResource::from_gvk(&kind);
        let routes: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &self.namespace, &kind);
        let object = json!({
            "apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"name": NAME},
            "spec": {"hosts": [NAME], "http": [{
                "headers": {"request": {"set": {"x-change": value}}},
                "route": [{"destination": {"host": NAME}}],
            }]},
        });
        let parameters = PatchParams::apply(MANAGER).force();
        routes.patch(NAME, &parameters, &Patch::Apply(&object)).await?;
        Ok(())
    }

    /// The pod's Envoy as Pilot knows it.
    pub(super) fn node(&self, number: u32) -> String {
        let (address, name, namespace) = (address(number), name(number), &self.namespace);
        format!("sidecar~{address}~{name}.{namespace}~{namespace}.svc.cluster.local")
    }
}
