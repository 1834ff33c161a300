//! Certificates that are revoked, authorities that are tainted, and lists that were plugged in.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "tests"
)]

mod plugged;
#[path = "../support/mod.rs"]
mod support;
mod workloads;

use std::process::Command;
use std::sync::Arc;

use axum::http::StatusCode;
use proto::ca::IstioCertificateRequest;
use proto::ca::istio_certificate_service_client::IstioCertificateServiceClient;
use rcgen::{CertificateParams, KeyPair};
use runtime::grpc::{self, Limits};
use runtime::tls::{self, Expected};
use runtime::{Identity, TrustDomain};
use support::{Mesh, admin, context, echo_server, eventually, say, spiffe, stolen};
use tokio::net::TcpListener;
use tonic::Code;

pub(crate) async fn until_refused(identity: &Identity, address: std::net::SocketAddr) {
    let looking = async { while say(identity, address, Expected::Any).await.is_ok() {} };
    tokio::time::timeout(support::PATIENCE, looking)
        .await
        .expect("refused in time");
}

fn csr() -> String {
    let request = CertificateParams::default().serialize_request(&KeyPair::generate().unwrap());
    request.unwrap().pem().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn all_certificates_of_an_identity_are_refused_and_cannot_renew() {
    let mesh = Mesh::new();
    let citadel = mesh.citadel().await;
    let orders = mesh.identity(citadel.address, "shop", "orders").await;
    let (first, second) = (
        stolen(&mesh.identity(citadel.address, "shop", "frontend").await),
        stolen(&mesh.identity(citadel.address, "shop", "frontend").await),
    );
    let server = context("orders");
    let address = echo_server(&orders, &server, Limits::default()).await;
    say(&first, address, Expected::Any).await.unwrap();
    // A connection that the thief has open already.
    let connector = tls::connector(&first, Expected::Any).unwrap();
    let open = grpc::channel(&citadel.address.to_string(), Some(connector)).unwrap();
    let mut thief = IstioCertificateServiceClient::new(open);
    let request = || IstioCertificateRequest {
        csr: csr(),
        ..Default::default()
    };
    thief.create_certificate(request()).await.unwrap();

    let id = spiffe("shop", "frontend");
    let (status, state) = admin(&citadel.context, "PUT", &format!("/ca/revoke?identity={id}")).await;
    assert_eq!(status, StatusCode::OK, "{state}");
    let revoked = state["revoked"].as_array().unwrap();
    assert_eq!(revoked.len(), 3, "two and the one that the thief got: {state}");
    // There is no other Citadel: its journal knows all.
    assert!(state["listed"] == 3 && state["warning"].is_null(), "{state}");
    assert!(
        revoked
            .iter()
            .all(|entry| entry["identity"] == id.to_string().as_str())
    );
    for identity in [&first, &second] {
        until_refused(identity, address).await;
    }
    assert!(
        server.metrics.encode().contains("reason=\"handshake\""),
        "refused in the handshake"
    );
    say(&orders, address, Expected::Any).await.unwrap();
    let refused = thief.create_certificate(request()).await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.message().contains("revoked")),
        (Code::Unauthenticated, true),
        "{refused}"
    );
    let counted = citadel.context.metrics.encode();
    for line in [
        "citadel_revoked_certificates 3\n",
        "citadel_server_refused_count{reason=\"certificate_revoked\"} 1\n",
    ] {
        assert!(counted.contains(line), "{line} not in {counted}");
    }
    // Whoever has the token still has the identity.
    let again = mesh.identity(citadel.address, "shop", "frontend").await;
    eventually("the certificate in force heard of", || {
        !again.current().bundle().crl_pem().is_empty()
    })
    .await;
    assert_eq!(say(&again, address, Expected::Any).await.unwrap(), id.to_string());

    // It is remembered over a restart, and openssl reads the list as we do.
    citadel.stop().await;
    let citadel = mesh.citadel().await;
    let (_, state) = admin(&citadel.context, "GET", "/ca/status").await;
    assert_eq!(state["revoked"].as_array().unwrap().len(), 3);
    let orders = mesh.identity(citadel.address, "shop", "orders").await;
    eventually("the list", || !orders.current().bundle().crl_pem().is_empty()).await;
    let list = orders.current().bundle().crl_pem().to_owned();
    assert!(openssl(&mesh, &list, &orders).contains(": OK"));
    assert!(openssl(&mesh, &list, &second).contains("certificate revoked"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_thief_has_renewed_by_a_certificate_is_revoked_with_it() {
    let mesh = Mesh::new();
    let citadel = mesh.citadel().await;
    let frontend = mesh.identity(citadel.address, "shop", "frontend").await;
    let thief = stolen(&frontend);
    // For a key of the thief's own, by the stolen one.
    let connector = tls::connector(&thief, Expected::Any).unwrap();
    let channel = grpc::channel(&citadel.address.to_string(), Some(connector)).unwrap();
    let request = IstioCertificateRequest {
        csr: csr(),
        ..Default::default()
    };
    let answer = IstioCertificateServiceClient::new(channel)
        .create_certificate(request)
        .await
        .unwrap();
    let leaf = pem::parse(&answer.into_inner().cert_chain[0]).unwrap();
    let renewed = tls::read_serial(&leaf.into_contents().into()).unwrap();
    // Of another token, though of the same account.
    let other = mesh.identity(citadel.address, "shop", "frontend").await;

    let path = format!("/ca/revoke?serial={}", thief.current().serial());
    let (status, state) = admin(&citadel.context, "PUT", &path).await;
    assert_eq!(status, StatusCode::OK, "{state}");
    let plain = |serial: &str| citadel::ca::Serial::parse(serial).unwrap().as_str().to_owned();
    let mut expected = [plain(thief.current().serial()), plain(&renewed)];
    expected.sort();
    let revoked = state["revoked"].as_array().unwrap();
    let serials: Vec<&str> = revoked
        .iter()
        .map(|entry| entry["serial"].as_str().unwrap())
        .collect();
    assert_eq!(serials, expected, "not {}", other.current().serial());
    assert_eq!(state["listed"], 2);
    citadel.stop().await;
}

/// What openssl says of a certificate.
fn openssl(mesh: &Mesh, list: &str, identity: &Identity) -> String {
    std::fs::write(mesh.path("crl.pem"), list).unwrap();
    std::fs::write(mesh.path("leaf.pem"), identity.current().chain_pem()).unwrap();
    let run = Command::new("openssl")
        .args(["verify", "-x509_strict", "-crl_check_all", "-CAfile"])
        .arg(mesh.path("ca/root-cert.pem"))
        .arg("-CRLfile")
        .args([mesh.path("crl.pem"), mesh.path("leaf.pem")])
        .output()
        .expect("openssl is there");
    format!(
        "{}{}",
        String::from_utf8_lossy(&run.stdout),
        String::from_utf8_lossy(&run.stderr)
    )
}

#[tokio::test]
async fn what_cannot_be_revoked_or_tainted_is_refused_with_the_reason() {
    let mesh = Mesh::new();
    let citadel = mesh.citadel().await;
    let check = async |path: &str, status: StatusCode, part: &str| {
        let (seen, reason) = admin(&citadel.context, "PUT", path).await;
        assert_eq!(seen, status, "{path}: {reason}");
        assert!(reason.to_string().contains(part), "{path}: {reason}");
    };
    check("/ca/revoke", StatusCode::BAD_REQUEST, "argosy ca revoke SERIAL").await;
    check("/ca/revoke?serial=xyz", StatusCode::BAD_REQUEST, "hexadecimal").await;
    check(
        "/ca/revoke?serial=abcdef",
        StatusCode::NOT_FOUND,
        "abcdef is in this Citadel's journal of 1 that have not ended",
    )
    .await;
    check("/ca/revoke?serial=abcdef", StatusCode::NOT_FOUND, "--force").await;
    check(
        "/ca/revoke?identity=http://x",
        StatusCode::BAD_REQUEST,
        "spiffe://",
    )
    .await;
    check(
        "/ca/revoke?identity=spiffe://cluster.local/ns/a/sa/b",
        StatusCode::NOT_FOUND,
        "no certificate",
    )
    .await;
    check(
        "/ca/taint?fingerprint=ab",
        StatusCode::BAD_REQUEST,
        "64 hexadecimal",
    )
    .await;
    check(
        &format!("/ca/taint?fingerprint={}", "ab".repeat(32)),
        StatusCode::NOT_FOUND,
        "argosy ca status lists",
    )
    .await;
    let (_, state) = admin(&citadel.context, "GET", "/ca/status").await;
    assert!(state["revoked"].is_null(), "nothing was revoked: {state}");
    // The root that signs is replaced in a hurry.
    let signing = state["roots"][0]["fingerprint"].as_str().unwrap().to_owned();
    let (status, state) = admin(
        &citadel.context,
        "PUT",
        &format!("/ca/taint?fingerprint={signing}"),
    )
    .await;
    assert_eq!(
        (status, &state["stage"]),
        (StatusCode::OK, &"distributing".into()),
        "{state}"
    );
}

#[tokio::test]
async fn a_renamed_trust_domain_is_one_mesh_with_its_old_name() {
    let mesh = Mesh::new();
    let before = mesh.citadel().await;
    let old = mesh.identity(before.address, "shop", "orders").await;
    before.stop().await;
    let text = std::fs::read_to_string(mesh.path("identity.yaml")).unwrap();
    std::fs::write(
        mesh.path("identity.yaml"),
        format!("trustDomain: new.example\n{text}"),
    )
    .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let error = citadel::serve(listener, mesh.args(), context("citadel"))
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("trustDomainAliases"), "{error}");
    let named = format!("trustDomain: new.example\ntrustDomainAliases: [cluster.local]\n{text}");
    std::fs::write(mesh.path("identity.yaml"), named).unwrap();
    let citadel = mesh.citadel().await;
    let args = runtime::args::IdentityArgs {
        trust_domain: TrustDomain::parse("new.example").unwrap(),
        ..mesh.client_args(citadel.address, &mesh.token("shop", "frontend"))
    };
    let frontend = support::obtain(&args).await;
    assert_eq!(
        frontend.id().to_string(),
        "spiffe://new.example/ns/shop/sa/frontend"
    );
    eventually("the old name", || {
        !frontend.current().bundle().aliases().is_empty()
    })
    .await;
    // A certificate of the old name is let in, and renewed to the new name.
    let server = context("frontend");
    let address = echo_server(&frontend, &server, Limits::default()).await;
    let svid = old.current();
    let bundle = (**svid.bundle())
        .clone()
        .with_aliases([TrustDomain::parse("new.example").unwrap()]);
    old.replace(svid.with_bundle(Arc::new(bundle)));
    assert_eq!(
        say(&old, address, Expected::Any).await.unwrap(),
        "spiffe://cluster.local/ns/shop/sa/orders"
    );
    let connector = tls::connector(&old, Expected::Any).unwrap();
    let channel = grpc::channel(&citadel.address.to_string(), Some(connector)).unwrap();
    let request = IstioCertificateRequest {
        csr: csr(),
        ..Default::default()
    };
    let answer = IstioCertificateServiceClient::new(channel)
        .create_certificate(request)
        .await
        .unwrap();
    let leaf = pem::parse(&answer.into_inner().cert_chain[0])
        .unwrap()
        .into_contents();
    let peer = tls::read_peer(&leaf.into()).unwrap();
    assert_eq!(
        peer.spiffe_id.to_string(),
        "spiffe://new.example/ns/shop/sa/orders"
    );
}
