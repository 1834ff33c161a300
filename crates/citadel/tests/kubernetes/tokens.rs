//! Whose token gets which identity.

use std::sync::Arc;

use runtime::identity::{CitadelClient, Issuer};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Value, json};
use testkit::kubernetes::ApiServer;
use tonic::Code;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::cluster::{AUDIENCE, Cluster, ask, until};
use crate::support::{Mesh, Running, create_certificate};

/// The URI in the first certificate of an answer.
fn identity(chain: &[String]) -> String {
    let der = CertificateDer::from_pem_slice(chain[0].as_bytes()).unwrap();
    let (_, certificate) = X509Certificate::from_der(&der).unwrap();
    let names = certificate.subject_alternative_name().unwrap().unwrap();
    match names.value.general_names.as_slice() {
        [GeneralName::URI(uri)] => (*uri).to_owned(),
        other => panic!("{other:?}"),
    }
}

/// A certificate's identity, or the refusal.
async fn outcome(mesh: &Mesh, citadel: &Running, token: &str) -> Result<String, (Code, String)> {
    match ask(mesh, citadel, token).await {
        Ok(answer) => Ok(identity(&answer.cert_chain)),
        Err(status) => Err((status.code(), status.message().to_owned())),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_cell_of_who_may_obtain_which_identity() {
    let Some(server) = ApiServer::shared().await.unwrap() else {
        return;
    };
    let cluster = Cluster::new(server, "tokens").await;
    let mesh = Mesh::new();
    let citadel = cluster.citadel(&mesh).await;
    let accounts = [
        ("tokens-shop", "orders"),
        ("tokens-shop", "web"),
        ("tokens-bank", "orders"),
    ];
    for namespace in ["tokens-shop", "tokens-bank"] {
        cluster.namespace(namespace).await;
    }
    for (namespace, account) in accounts {
        cluster.account(namespace, account).await;
    }
    for (namespace, account) in accounts {
        let own = format!("spiffe://cluster.local/ns/{namespace}/sa/{account}");
        for (audience, expected) in [
            (Some("argosy-ca"), Ok(own.clone())),
            (Some("istio-ca"), Ok(own.clone())),
            (Some("vault"), Err("audience")),
            // A token for the API server itself, which each Pod has.
            (None, Err("audience")),
        ] {
            let token = cluster.token(namespace, account, audience, None).await;
            match (outcome(&mesh, &citadel, &token).await, expected) {
                (Ok(got), Ok(wanted)) => assert_eq!(got, wanted),
                (Err((code, text)), Err(part)) => {
                    assert_eq!(code, Code::Unauthenticated, "{text}");
                    assert!(text.contains(part) || text.contains("does not accept"), "{text}");
                }
                (got, wanted) => panic!("{audience:?}: {got:?}, expected {wanted:?}"),
            }
        }
        // A request for another's identity.
        let token = cluster.token(namespace, account, Some(AUDIENCE), None).await;
        for (other_namespace, other) in accounts {
            let id = format!("spiffe://cluster.local/ns/{other_namespace}/sa/{other}");
            let mut params = rcgen::CertificateParams::default();
            params.subject_alt_names = vec![rcgen::SanType::URI(id.clone().try_into().unwrap())];
            let key = rcgen::KeyPair::generate().unwrap();
            let csr = params.serialize_request(&key).unwrap().pem().unwrap();
            let bearer = format!("Bearer {token}");
            let answer = create_certificate(&mesh, citadel.address, Some(&bearer), &csr, 60).await;
            match id == own {
                true => assert_eq!(identity(&answer.unwrap().cert_chain), own),
                false => assert_eq!(answer.unwrap_err().code(), Code::PermissionDenied, "{id}"),
            }
        }
    }
    // Tokens that are nobody's.
    let good = cluster.token("tokens-shop", "orders", Some(AUDIENCE), None).await;
    let (head, signature) = good.rsplit_once('.').unwrap();
    let flipped = if signature.starts_with('A') { "B" } else { "A" };
    let forged = format!("{head}.{flipped}{}", &signature[1..]);
    let other = Mesh::new();
    let foreign = other.token_with("tokens-shop", "orders", |grant| {
        grant.issuer = "https://elsewhere"
    });
    for (token, what) in [(&forged, "forged"), (&foreign, "foreign")] {
        let (code, text) = outcome(&mesh, &citadel, token).await.unwrap_err();
        assert_eq!(code, Code::Unauthenticated, "{what}: {text}");
    }
    // The caller is recognised before the request is parsed.
    let answer = create_certificate(&mesh, citadel.address, Some(&format!("Bearer {forged}")), "x", 60).await;
    assert_eq!(answer.unwrap_err().code(), Code::Unauthenticated);

    // A token ends with its Pod, and with its account.
    let pod = json!({"metadata": {"name": "p"}, "spec": {"serviceAccountName": "web", "containers": [{"name": "c", "image": "i"}]}});
    cluster
        .post("/api/v1/namespaces/tokens-shop/pods", &pod)
        .await
        .unwrap();
    let bound = cluster
        .token("tokens-shop", "web", Some(AUDIENCE), Some("p"))
        .await;
    let own = "spiffe://cluster.local/ns/tokens-shop/sa/web";
    assert_eq!(outcome(&mesh, &citadel, &bound).await.as_deref(), Ok(own));
    let path = "/api/v1/namespaces/tokens-shop/pods/p?gracePeriodSeconds=0";
    cluster.send("DELETE", path, &Value::Null).await.unwrap();
    let path = "/api/v1/namespaces/tokens-shop/serviceaccounts/orders";
    cluster.send("DELETE", path, &Value::Null).await.unwrap();
    for token in [&bound, &good] {
        let refused = || async { outcome(&mesh, &citadel, token).await.err() };
        let (code, text) = until("the token has ended", refused).await;
        assert_eq!(code, Code::Unauthenticated, "{text}");
    }
    let metrics = citadel.context.metrics.encode();
    let reason = "token_not_authenticated";
    for counted in [
        format!("citadel_token_reviews_total{{result=\"{reason}\"}}"),
        format!("citadel_server_refused_count{{reason=\"{reason}\"}}"),
    ] {
        assert!(metrics.contains(&counted), "{counted}: {metrics}");
    }
    citadel.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_api_server_callers_are_told_to_come_again() {
    if !ApiServer::available().await.unwrap() {
        return;
    }
    let mut server = ApiServer::start().await.unwrap();
    let (mesh, citadel, token) = {
        let cluster = Cluster::new(&server, "outage").await;
        let mesh = Mesh::new();
        let citadel = cluster.citadel(&mesh).await;
        cluster.account("outage", "web").await;
        let token = cluster.token("outage", "web", Some(AUDIENCE), None).await;
        (mesh, citadel, token)
    };
    outcome(&mesh, &citadel, &token).await.unwrap();
    let client = CitadelClient::new(mesh.client_args(citadel.address, &token));
    let client = client.await.unwrap();
    let held = Arc::new(client.issue(None).await.unwrap());
    server.kill();
    let (code, text) = outcome(&mesh, &citadel, &token).await.unwrap_err();
    assert_eq!(code, Code::Unavailable, "{text}");
    assert!(text.contains("try again"), "{text}");
    // Who has a certificate does not need the API server; identity.yaml's issuers neither.
    let known = mesh.token("shop", "orders");
    assert!(ask(&mesh, &citadel, &known).await.is_ok());
    let renewed = client.issue(Some(held.clone())).await.unwrap();
    assert_eq!(renewed.id(), held.id());
    assert_ne!(renewed.serial(), held.serial());
    let error = client.issue(None).await.unwrap_err().to_string();
    assert!(
        error.contains("Unavailable") && error.contains("try again"),
        "{error}"
    );
    server.restart().await.unwrap();
    let recovered = || async { outcome(&mesh, &citadel, &token).await.ok() };
    until("tokens are reviewed again", recovered).await;
    citadel.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_an_issuer_are_found_by_discovery() {
    let Some(server) = ApiServer::shared().await.unwrap() else {
        return;
    };
    let cluster = Cluster::new(server, "discovery").await;
    cluster.account("discovery", "web").await;
    // The API server shows its keys to those who may see them.
    let binding = json!({"metadata": {"name": "discovery"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:service-account-issuer-discovery"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:unauthenticated"}]});
    let path = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
    let mesh = Mesh::new();
    std::fs::write(mesh.path("kube.crt"), server.ca()).unwrap();
    let issuer = server.url();
    let text = format!(
        "tokenIssuers:\n- issuer: {issuer}\n  audiences: [{AUDIENCE}]\n  discovery: true\n  caFile: kube.crt\n"
    );
    std::fs::write(mesh.path("identity.yaml"), text).unwrap();
    let citadel = mesh.citadel().await;
    let token = cluster.token("discovery", "web", Some(AUDIENCE), None).await;
    // Without the right nobody has the keys, and nobody is let in.
    let told = || async {
        let (code, text) = outcome(&mesh, &citadel, &token).await.unwrap_err();
        (code == Code::Unavailable && text.contains("answers 403")).then_some(())
    };
    until("the failure is told", told).await;
    cluster.post(path, &binding).await.unwrap();
    let own = "spiffe://cluster.local/ns/discovery/sa/web";
    let accepted = || async {
        let got = outcome(&mesh, &citadel, &token).await.ok()?;
        (got == own).then_some(())
    };
    until("the keys are found", accepted).await;
    let other = cluster.token("discovery", "web", Some("vault"), None).await;
    let (code, text) = outcome(&mesh, &citadel, &other).await.unwrap_err();
    assert_eq!(code, Code::Unauthenticated);
    assert!(text.contains("audience"), "{text}");
    citadel.stop().await;
}
