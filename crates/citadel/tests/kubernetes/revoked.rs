//! Replicas with journals of their own revoke an identity together.

use serde_json::Value;
use testkit::kubernetes::ApiServer;
use tonic::Code;

use crate::cluster::{Cluster, until};
use crate::support::{Mesh, Running, admin, spiffe};

async fn revoked(citadel: &Running) -> Vec<String> {
    let (_, state) = admin(&citadel.context, "GET", "/ca/status").await;
    let all = state["revoked"].as_array().cloned().unwrap_or_default();
    let mut serials: Vec<String> = all
        .iter()
        .map(|entry| entry["serial"].as_str().unwrap().to_owned())
        .collect();
    serials.sort();
    serials
}

#[tokio::test(flavor = "multi_thread")]
async fn an_identity_is_revoked_wherever_its_certificates_were_issued() {
    let Some(server) = ApiServer::shared().await.unwrap() else {
        return;
    };
    let cluster = Cluster::new(server, "revoked").await;
    let meshes = [Mesh::new(), Mesh::new(), Mesh::new()];
    let [a, b, c] = &meshes;
    let (one, two, gone) = tokio::join!(cluster.citadel(a), cluster.citadel(b), cluster.citadel(c));
    // Each has issued some, of which the other's journal knows nothing.
    let _of_one = a.identity(one.address, "shop", "frontend").await;
    let of_two = b.identity(two.address, "shop", "frontend").await;
    let _other = b.identity(two.address, "shop", "orders").await;
    let of_gone = c.identity(gone.address, "shop", "frontend").await;
    for identity in [&of_two, &of_gone] {
        renew(identity, &one).await.unwrap();
    }
    gone.stop().await;
    let id = spiffe("shop", "frontend");
    let (code, state) = admin(&one.context, "PUT", &format!("/ca/revoke?identity={id}")).await;
    assert_eq!(code, 200, "{state}");
    assert_eq!(state["revokedIdentities"][0]["identity"], id.to_string());
    // What the third has issued is in no journal: that is said.
    assert_eq!(state["listed"], 3);
    assert!(state["warning"].as_str().unwrap().contains("--force"), "{state}");
    // Who was asked knows its own at once; both lists have both in the end, and nobody else's.
    let all = until("both lists have all certificates", || async {
        let (first, second) = (revoked(&one).await, revoked(&two).await);
        (first.len() == 4 && first == second).then_some(first)
    })
    .await;
    let path = "/api/v1/namespaces/revoked/secrets/argosy-ca-secret";
    until("the Secret has them", || async {
        use base64::Engine;
        let secret: Value = cluster.get(path).await.unwrap();
        let held = secret["data"]["revoked.json"].as_str()?.to_owned();
        let held = base64::engine::general_purpose::STANDARD.decode(held).unwrap();
        let held: Value = serde_json::from_slice(&held).unwrap();
        let entries = held["entries"].as_object()?;
        all.iter()
            .all(|serial| entries.contains_key(serial))
            .then_some(())
    })
    .await;
    // The certificate that the third issued is on no list, for its journal is gone. It is no proof to the others all the same.
    for citadel in [&one, &two] {
        let refused = renew(&of_gone, citadel).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated, "{refused}");
        assert!(renew(&of_two, citadel).await.is_err());
    }
    // A token is.
    let again = b.identity(two.address, "shop", "frontend").await;
    let serial = citadel::ca::Serial::parse(again.current().serial()).unwrap();
    assert!(!all.contains(&serial.as_str().to_owned()));
    one.stop().await;
    two.stop().await;
}

async fn renew(identity: &runtime::Identity, citadel: &Running) -> Result<(), tonic::Status> {
    use proto::ca::IstioCertificateRequest;
    use proto::ca::istio_certificate_service_client::IstioCertificateServiceClient;
    use runtime::tls::{self, Expected};
    let connector = tls::connector(identity, Expected::Any).unwrap();
    let channel = runtime::grpc::channel(&citadel.address.to_string(), Some(connector)).unwrap();
    let request = IstioCertificateRequest {
        csr: crate::cluster::csr(),
        ..Default::default()
    };
    let mut client = IstioCertificateServiceClient::new(channel);
    client.create_certificate(request).await.map(drop)
}
