//! Who may read which Secret.

use std::collections::BTreeMap;

use proto::trust::credential::Result as Outcome;
use proto::trust::credential_service_client::CredentialServiceClient;
use proto::trust::{Credential, WatchCredentialsRequest};
use rcgen::{CertificateParams, KeyPair};
use runtime::{SpiffeId, TrustDomain, grpc, tls};
use serde_json::{Value, json};
use testkit::kubernetes::ApiServer;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::cluster::{Cluster, until};
use crate::support::{Mesh, PATIENCE, Running};

/// A proxy's stream.
struct Stream {
    wanted: mpsc::Sender<WatchCredentialsRequest>,
    answers: Streaming<Credential>,
}

impl Stream {
    async fn open(mesh: &Mesh, citadel: &Running, (namespace, account): (&str, &str)) -> Self {
        let identity = mesh.identity(citadel.address, namespace, account).await;
        let expected = SpiffeId::system(&TrustDomain::default(), "citadel").unwrap();
        let connector = tls::connector(&identity, expected).unwrap();
        let channel = grpc::channel(&citadel.address.to_string(), Some(connector)).unwrap();
        let (wanted, requests) = mpsc::channel(4);
        let mut client = CredentialServiceClient::new(channel);
        let answers = client.watch_credentials(ReceiverStream::new(requests)).await;
        Self {
            wanted,
            answers: answers.unwrap().into_inner(),
        }
    }

    async fn want(&self, names: &[String]) {
        let names = names.to_vec();
        self.wanted.send(WatchCredentialsRequest { names }).await.unwrap();
    }

    async fn next(&mut self) -> (String, Outcome) {
        let next = tokio::time::timeout(PATIENCE, self.answers.message()).await;
        let credential = next.expect("no answer").unwrap().unwrap();
        (credential.name, credential.result.unwrap())
    }
}

/// The values of a Secret with a new certificate, and the certificate.
fn values() -> (Value, String) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["web.example".to_owned()]).unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    let values = json!({"tls.crt": pem, "tls.key": key.serialize_pem(), "ca.crt": pem});
    (values, pem)
}

async fn make_secret(cluster: &Cluster, namespace: &str, name: &str) -> String {
    let (values, pem) = values();
    let secret = json!({"metadata": {"name": name}, "type": "kubernetes.io/tls", "stringData": values});
    let path = format!("/api/v1/namespaces/{namespace}/secrets");
    cluster.post(&path, &secret).await.unwrap();
    pem
}

/// The definition of ReferenceGrant, as far as the test needs it.
async fn define_grants(cluster: &Cluster) {
    let names = json!({"plural": "referencegrants", "singular": "referencegrant", "kind": "ReferenceGrant"});
    let schema = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
    let definition = json!({
        "metadata": {"name": "referencegrants.gateway.networking.k8s.io",
            "annotations": {"api-approved.kubernetes.io": "https://github.com/kubernetes-sigs/gateway-api/pull/2997"}},
        "spec": {"group": "gateway.networking.k8s.io", "names": names, "scope": "Namespaced",
            "versions": [{"name": "v1beta1", "served": true, "storage": true, "schema": schema}]},
    });
    let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    cluster.post(path, &definition).await.unwrap();
}

const GRANTS: &str = "/apis/gateway.networking.k8s.io/v1beta1/namespaces/s-certs/referencegrants";

/// Lets Gateways of s-edge have s-certs/web.
async fn make_grant(cluster: &Cluster) {
    let grant = json!({
        "apiVersion": "gateway.networking.k8s.io/v1beta1", "kind": "ReferenceGrant", "metadata": {"name": "edge"},
        "spec": {"from": [{"group": "gateway.networking.k8s.io", "kind": "Gateway", "namespace": "s-edge"}],
            "to": [{"group": "", "kind": "Secret", "name": "web"}]},
    });
    let made = || async { cluster.post(GRANTS, &grant).await.ok() };
    until("the definition is served", made).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_cell_of_who_may_read_which_secret() {
    let Some(server) = ApiServer::shared().await.unwrap() else {
        return;
    };
    let cluster = Cluster::new(server, "secrets").await;
    for namespace in ["s-edge", "s-certs", "s-shop"] {
        cluster.namespace(namespace).await;
    }
    define_grants(&cluster).await;
    make_grant(&cluster).await;
    let secrets = [
        ("s-edge", "web"),
        ("s-certs", "web"),
        ("s-certs", "private"),
        ("s-shop", "web"),
    ];
    let mut certificates = BTreeMap::new();
    for (namespace, name) in secrets {
        let pem = make_secret(&cluster, namespace, name).await;
        certificates.insert((namespace, name), pem);
    }
    // Rights of Kubernetes count in the own namespace alone.
    for (namespace, reader) in [
        ("s-edge", "s-edge"),
        ("s-certs", "s-certs"),
        ("s-shop", "s-shop"),
        ("s-certs", "s-shop"),
    ] {
        cluster.let_read(namespace, reader, "gateway").await;
    }
    let mesh = Mesh::new();
    let citadel = cluster.citadel(&mesh).await;
    let readers = [
        ("s-edge", "gateway"),
        ("s-edge", "plain"),
        ("s-certs", "gateway"),
        ("s-certs", "plain"),
        ("s-shop", "gateway"),
        ("s-shop", "plain"),
    ];
    // What each may have, of the Secrets in their order.
    let expected = [
        [true, true, false, false],
        // Its namespace has the grant, and it is no gateway's account: it may read no Secrets there.
        [false, false, false, false],
        [false, true, true, false],
        [false, false, false, false],
        [false, false, false, true],
        [false, false, false, false],
    ];
    for (reader, row) in readers.into_iter().zip(expected) {
        let mut stream = Stream::open(&mesh, &citadel, reader).await;
        for ((namespace, name), allowed) in secrets.into_iter().zip(row) {
            let forms =
                ["kubernetes", "kubernetes-gateway"].map(|scheme| format!("{scheme}://{namespace}/{name}"));
            let names = [forms.clone(), forms.map(|form| format!("{form}-cacert"))].concat();
            stream.want(&names).await;
            let mut seen = BTreeMap::new();
            while seen.len() < names.len() {
                let (name, outcome) = stream.next().await;
                seen.insert(name, outcome);
            }
            for (asked, outcome) in seen {
                match (&outcome, allowed) {
                    (Outcome::KeyPair(pair), true) => {
                        assert_eq!(pair.chain, certificates[&(namespace, name)])
                    }
                    (Outcome::Roots(roots), true) => {
                        assert_eq!(roots.certificates, certificates[&(namespace, name)])
                    }
                    (Outcome::Missing(reason), false) => {
                        assert!(!reason.contains("there is no Secret"), "{reason}")
                    }
                    _ => panic!("{reader:?} {asked}: {outcome:?}, allowed {allowed}"),
                }
            }
        }
        // What is not there is refused in the same words as what is.
        let refusals = ["argosy-ca-secret", "none"].map(|name| format!("kubernetes://secrets/{name}"));
        stream.want(&refusals).await;
        let (first, second) = (stream.next().await.1, stream.next().await.1);
        assert_eq!(first, second, "{reader:?}");
    }
    citadel.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_the_secret_or_of_rights_is_heard() {
    let Some(server) = ApiServer::shared().await.unwrap() else {
        return;
    };
    let cluster = Cluster::new(server, "changes").await;
    cluster.let_read("changes", "changes", "gateway").await;
    let mesh = Mesh::new();
    let citadel = cluster.citadel(&mesh).await;
    let mut stream = Stream::open(&mesh, &citadel, ("changes", "gateway")).await;
    stream.want(&["kubernetes://web".to_owned()]).await;
    assert!(matches!(stream.next().await.1, Outcome::Missing(_)));
    let first = make_secret(&cluster, "changes", "web").await;
    let chain = |outcome: Outcome| match outcome {
        Outcome::KeyPair(pair) => pair.chain,
        other => panic!("{other:?}"),
    };
    assert_eq!(chain(stream.next().await.1), first);
    let (values, second) = values();
    let path = "/api/v1/namespaces/changes/secrets/web";
    let patch = json!({ "stringData": values });
    cluster.send("PATCH", path, &patch).await.unwrap();
    assert_eq!(chain(stream.next().await.1), second);
    // A right that is taken away ends for open streams too.
    let binding = "/apis/rbac.authorization.k8s.io/v1/namespaces/changes/rolebindings/reader-changes-gateway";
    cluster.send("DELETE", binding, &Value::Null).await.unwrap();
    match stream.next().await.1 {
        Outcome::Missing(reason) => assert!(reason.contains("changes/gateway may not get"), "{reason}"),
        other => panic!("{other:?}"),
    }
    citadel.stop().await;
}
