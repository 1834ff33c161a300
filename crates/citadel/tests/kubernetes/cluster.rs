//! A real API server with Citadel's rights and nothing more, for tests: each has its own namespace and Citadels in it.

#![allow(unreachable_pub, reason = "tests")]

use std::path::PathBuf;
use std::time::Duration;

use http::Request;
use kube::Client;
use proto::ca::IstioCertificateResponse;
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};
use testkit::kubernetes::ApiServer;
use tokio::net::TcpListener;
use tonic::Status;

use crate::support::{Mesh, PATIENCE, Running, create_certificate};

/// What installs Citadel's rights.
const RBAC: &str = concat!(
    include_str!("../../../../helm/base/files/rights/citadel.yaml"),
    "---\n",
    include_str!("../../../../helm/base/files/rights/citadel-secrets.yaml")
);
/// The audience of Citadel's tokens.
pub const AUDIENCE: &str = "argosy-ca";

/// A test's part of the cluster.
pub struct Cluster {
    pub admin: Client,
    /// Where this test's Citadels run.
    pub home: String,
    /// Their kubeconfig.
    kubeconfig: PathBuf,
}

impl Cluster {
    /// Makes the namespace `home`, and Citadel's rights there.
    pub async fn new(server: &ApiServer, home: &str) -> Self {
        let user = format!("system:serviceaccount:{home}:citadel");
        let kubeconfig = server.kubeconfig_of(&user, Some("system:serviceaccounts"));
        let cluster = Self {
            kubeconfig: kubeconfig.unwrap(),
            admin: server.client().await.unwrap(),
            home: home.to_owned(),
        };
        cluster.namespace(home).await;
        let text = RBAC
            .replace("argosy-system", home)
            .replace("name: argosy-citadel", &format!("name: argosy-citadel-{home}"));
        for part in text.split("\n---\n") {
            let object: Value = serde_saphyr::from_str(part).unwrap();
            let kind = object["kind"].as_str().unwrap().to_lowercase();
            let root = "/apis/rbac.authorization.k8s.io/v1";
            let path = match object["metadata"]["namespace"].as_str() {
                Some(namespace) => format!("{root}/namespaces/{namespace}/{kind}s"),
                None => format!("{root}/{kind}s"),
            };
            cluster.post(&path, &object).await.unwrap();
        }
        cluster
    }

    pub async fn send(&self, method: &str, path: &str, body: &Value) -> kube::Result<Value> {
        let kind = match method {
            "PATCH" => "application/merge-patch+json",
            _ => "application/json",
        };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", kind);
        let body = match body {
            Value::Null => Vec::new(),
            body => body.to_string().into_bytes(),
        };
        self.admin.request(request.body(body).unwrap()).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> kube::Result<Value> {
        self.send("POST", path, body).await
    }

    pub async fn get(&self, path: &str) -> kube::Result<Value> {
        self.send("GET", path, &Value::Null).await
    }

    pub async fn namespace(&self, name: &str) {
        let body = json!({"metadata": {"name": name}});
        self.post("/api/v1/namespaces", &body).await.unwrap();
    }

    pub async fn account(&self, namespace: &str, name: &str) {
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts");
        self.post(&path, &json!({"metadata": {"name": name}}))
            .await
            .unwrap();
    }

    /// A token of an account by TokenRequest, bound to a Pod where one is named.
    pub async fn token(
        &self,
        namespace: &str,
        account: &str,
        audience: Option<&str>,
        pod: Option<&str>,
    ) -> String {
        let mut spec = json!({"expirationSeconds": 3600});
        if let Some(audience) = audience {
            spec["audiences"] = json!([audience]);
        }
        if let Some(pod) = pod {
            spec["boundObjectRef"] = json!({"apiVersion": "v1", "kind": "Pod", "name": pod});
        }
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token");
        let body = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec});
        let answer = self.post(&path, &body).await.unwrap();
        answer["status"]["token"].as_str().unwrap().to_owned()
    }

    /// Lets an account read Secrets of a namespace.
    pub async fn let_read(&self, namespace: &str, account_namespace: &str, account: &str) {
        let root = format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}");
        let name = format!("reader-{account_namespace}-{account}");
        let role = json!({"metadata": {"name": name},
            "rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "list", "watch"]}]});
        self.post(&format!("{root}/roles"), &role).await.unwrap();
        let binding = json!({"metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": account_namespace}]});
        self.post(&format!("{root}/rolebindings"), &binding)
            .await
            .unwrap();
    }

    pub fn options(&self) -> citadel::kubernetes::Options {
        citadel::kubernetes::Options {
            kubernetes: true,
            kubeconfig: Some(self.kubeconfig.clone()),
            pod_namespace: self.home.clone(),
            // Tests would write over each other's.
            root_config_maps: false,
            ..citadel::kubernetes::Options::default()
        }
    }

    /// A Citadel of this cluster, whose folder is the mesh's.
    pub async fn citadel(&self, mesh: &Mesh) -> Running {
        self.citadel_with(mesh, self.options()).await
    }

    pub async fn citadel_with(&self, mesh: &Mesh, kubernetes: citadel::kubernetes::Options) -> Running {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let args = citadel::Args {
            kubernetes,
            ..mesh.args()
        };
        mesh.citadel_on(listener, args).await
    }
}

/// The roots that an answer carries; `None` while a handshake fails, because the folder and the server differ.
pub async fn try_roots(mesh: &Mesh, citadel: &Running) -> Option<String> {
    let bearer = format!("Bearer {}", mesh.token("shop", "orders"));
    let answer = create_certificate(mesh, citadel.address, Some(&bearer), &csr(), 60).await;
    answer.ok()?.cert_chain.pop()
}

pub async fn roots(mesh: &Mesh, citadel: &Running) -> String {
    until("an answer", || try_roots(mesh, citadel)).await
}

/// How many certificates there are.
pub fn count(pem: &str) -> usize {
    pem.matches("BEGIN CERTIFICATE").count()
}

pub fn csr() -> String {
    let request = CertificateParams::default().serialize_request(&KeyPair::generate().unwrap());
    request.unwrap().pem().unwrap()
}

/// Asks for a certificate with a token.
pub async fn ask(mesh: &Mesh, citadel: &Running, token: &str) -> Result<IstioCertificateResponse, Status> {
    create_certificate(
        mesh,
        citadel.address,
        Some(&format!("Bearer {token}")),
        &csr(),
        60,
    )
    .await
}

/// Looks until something holds.
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    let looking = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let found = tokio::time::timeout(PATIENCE, looking).await;
    found.unwrap_or_else(|_| panic!("never: {what}"))
}
