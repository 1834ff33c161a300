//! From a token to mutual TLS: Citadel on loopback, identities by its CSR API, and connections between them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "tests"
)]

mod support;

use std::process::Command;
use std::sync::Arc;

use proto::sample::EchoRequest;
use proto::sample::echo_client::EchoClient;
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use runtime::grpc::{self, Limits};
use runtime::tls::{self, Connector, Expected};
use support::{Anonymous, Mesh, context, create_certificate, echo_server, eventually, now, say, spiffe};
use tonic::Code;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

#[tokio::test]
async fn a_token_becomes_a_spiffe_certificate_that_openssl_verifies() {
    let mesh = Mesh::new();
    let citadel = mesh.citadel().await;
    let svid = mesh.identity(citadel.address, "shop", "orders").await.current();
    assert_eq!(*svid.id(), spiffe("shop", "orders"));
    let (_, leaf) = X509Certificate::from_der(&svid.chain_der()[0]).unwrap();
    let san = leaf.subject_alternative_name().unwrap().unwrap();
    assert!(san.critical);
    assert_eq!(
        san.value.general_names,
        [GeneralName::URI("spiffe://cluster.local/ns/shop/sa/orders")]
    );
    let life = leaf.validity().not_after.timestamp() - leaf.validity().not_before.timestamp();
    assert_eq!(life, 24 * 3600 + 120);
    assert_eq!(
        svid.roots_pem(),
        std::fs::read_to_string(mesh.path("ca/root-cert.pem")).unwrap()
    );
    let counted = citadel.context.metrics.encode();
    assert!(
        counted.contains("citadel_server_success_cert_issuance_count 1\n"),
        "{counted}"
    );
    openssl_verifies(&mesh, &svid.chain_pem());
    citadel.stop().await;
}

/// openssl is asked when it is there: it is in CI.
fn openssl_verifies(mesh: &Mesh, leaf: &str) {
    std::fs::write(mesh.path("leaf.pem"), leaf).unwrap();
    for purpose in ["sslserver", "sslclient"] {
        let run = Command::new("openssl")
            .args(["verify", "-x509_strict", "-purpose", purpose, "-CAfile"])
            .args([mesh.path("ca/root-cert.pem"), mesh.path("leaf.pem")])
            .output();
        match run {
            Ok(output) => assert!(output.status.success(), "{output:?}"),
            Err(error) if std::env::var_os("CI").is_none() => eprintln!("openssl not asked: {error}"),
            Err(error) => panic!("openssl: {error}"),
        }
    }
}

#[tokio::test]
async fn two_identities_meet_and_know_each_other() {
    let mesh = Mesh::new();
    let citadel = mesh.citadel().await;
    let orders = mesh.identity(citadel.address, "shop", "orders").await;
    let frontend = mesh.identity(citadel.address, "shop", "frontend").await;
    let server = context("orders");
    let address = echo_server(&orders, &server, Limits::default()).await;
    let who = spiffe("shop", "frontend").to_string();
    assert_eq!(
        say(&frontend, address, spiffe("shop", "orders")).await.unwrap(),
        who
    );
    assert_eq!(say(&frontend, address, Expected::Any).await.unwrap(), who);
    let error = say(&frontend, address, spiffe("shop", "catalog"))
        .await
        .unwrap_err();
    assert!(
        error.contains("the peer is spiffe://cluster.local/ns/shop/sa/orders"),
        "{error}"
    );
    assert!(
        error.contains("expected was spiffe://cluster.local/ns/shop/sa/catalog"),
        "{error}"
    );
    assert!(say(&frontend, address, Expected::OneOf(vec![])).await.is_err());
}

#[tokio::test]
async fn foreign_roots_are_refused_on_both_sides() {
    let (mesh, foreign) = (Mesh::new(), Mesh::new());
    let (citadel, other) = (mesh.citadel().await, foreign.citadel().await);
    let orders = mesh.identity(citadel.address, "shop", "orders").await;
    let stranger = foreign.identity(other.address, "shop", "frontend").await;
    let server = context("orders");
    let address = echo_server(&orders, &server, Limits::default()).await;
    let error = say(&stranger, address, Expected::Any).await.unwrap_err();
    assert!(error.contains("issued by no root of the trust bundle"), "{error}");
    // A stranger that trusts us is still a stranger to us.
    let svid = stranger.current().with_bundle(Arc::new(mesh.bundle()));
    stranger.replace(svid);
    assert!(say(&stranger, address, Expected::Any).await.is_err());
    let refused =
        "argosy_grpc_connections_refused_total{service=\"orders\",listener=\"echo\",reason=\"handshake\"}";
    eventually("two refusals counted", || {
        server.metrics.encode().contains(&format!("{refused} 2"))
    })
    .await;
    // Nor does a workload take its certificate from a foreign Citadel.
    let args = mesh.client_args(other.address, &foreign.token("shop", "orders"));
    let reason = mesh.refusal(&args).await;
    assert!(
        reason.contains("issued by no root of the trust bundle"),
        "{reason}"
    );
}

#[tokio::test]
async fn istio_security_2022_008_clients_without_tls_or_without_a_certificate_are_refused() {
    let mesh = Mesh::new();
    let citadel = mesh.citadel().await;
    let orders = mesh.identity(citadel.address, "shop", "orders").await;
    let server = context("orders");
    let address = echo_server(&orders, &server, Limits::default()).await;
    let plain = grpc::channel(&address.to_string(), None).unwrap();
    assert!(EchoClient::new(plain).say(EchoRequest::default()).await.is_err());
    let config = tls::client(Arc::new(Anonymous(Arc::new(mesh.bundle()))), Expected::Any).unwrap();
    let nobody = grpc::channel(&address.to_string(), Some(Connector::new(config))).unwrap();
    assert!(EchoClient::new(nobody).say(EchoRequest::default()).await.is_err());
    // The server still serves those who may.
    assert!(say(&orders, address, Expected::Any).await.is_ok());
}

#[tokio::test]
async fn tokens_that_do_not_hold_are_refused_with_the_reason() {
    let mesh = Mesh::new();
    let citadel = mesh.citadel().await;
    let refused = async |token: String, part: &str| {
        let reason = mesh.refusal(&mesh.client_args(citadel.address, &token)).await;
        assert!(
            reason.contains("Unauthenticated") && reason.contains(part),
            "no {part:?} in: {reason}"
        );
        assert!(!reason.contains(&token), "the token leaks: {reason}");
    };
    refused(
        mesh.token_with("shop", "orders", |g| g.issued_at = now() - 7200),
        "it expired at 20",
    )
    .await;
    refused(
        mesh.token_with("shop", "orders", |g| g.audience = "other"),
        "for this audience: argosy-ca",
    )
    .await;
    refused(
        mesh.token_with("shop", "orders", |g| g.issuer = "https://elsewhere"),
        "https://elsewhere",
    )
    .await;
    refused(
        mesh.token_with("Shop", "orders", |_| {}),
        "system:serviceaccount:NAMESPACE:NAME",
    )
    .await;
    refused(Mesh::new().token("shop", "orders"), "no key with its kid").await;
    refused("rubbish".into(), "not a JWT").await;
    let counted = citadel.context.metrics.encode();
    assert!(
        counted.contains("citadel_server_refused_count{reason=\"expired_token\"} 1\n"),
        "{counted}"
    );
    assert!(
        counted.contains("citadel_server_success_cert_issuance_count 0\n"),
        "{counted}"
    );
    // A minute of skew is no reason.
    let late = mesh.token_with("shop", "orders", |g| g.issued_at = now() - 3600 - 30);
    let args = mesh.client_args(citadel.address, &late);
    let identity = runtime::Identity::from_citadel(&args, &context("client"))
        .await
        .unwrap();
    assert_eq!(identity.id(), spiffe("shop", "orders"));
}

#[tokio::test]
async fn a_missing_or_empty_token_file_is_named() {
    let mesh = Mesh::new();
    let citadel = mesh.citadel().await;
    let mut args = mesh.client_args(citadel.address, "");
    assert!(mesh.refusal(&args).await.contains("does not hold a token"));
    args.token = mesh.path("none.jwt");
    let reason = mesh.refusal(&args).await;
    assert!(
        reason.contains("none.jwt") && reason.contains("--token"),
        "{reason}"
    );
}

fn csr(change: impl FnOnce(&mut CertificateParams)) -> String {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    change(&mut params);
    params
        .serialize_request(&KeyPair::generate().unwrap())
        .unwrap()
        .pem()
        .unwrap()
}

#[tokio::test]
async fn the_api_authenticates_first_and_answers_leaf_first_root_last() {
    let mesh = Mesh::new();
    let citadel = mesh.citadel().await;
    let bearer = format!("Bearer {}", mesh.token("shop", "orders"));
    let call = async |header: Option<&str>, csr: &str, seconds| {
        create_certificate(&mesh, citadel.address, header, csr, seconds).await
    };
    // Who it is comes before what is asked: rubbish from nobody is nobody's.
    assert_eq!(
        call(None, "rubbish", 0).await.unwrap_err().code(),
        Code::Unauthenticated
    );
    assert_eq!(
        call(Some("Bearer x"), "rubbish", 0).await.unwrap_err().code(),
        Code::Unauthenticated
    );
    assert_eq!(
        call(Some(&bearer), "rubbish", 0).await.unwrap_err().code(),
        Code::InvalidArgument
    );
    assert_eq!(
        call(Some(&bearer), &csr(|_| {}), -1).await.unwrap_err().code(),
        Code::InvalidArgument
    );
    let huge = call(Some(&bearer), &"x".repeat(1 << 20), 0).await.unwrap_err();
    assert_eq!(huge.code(), Code::OutOfRange, "{huge}");
    let other = rcgen::SanType::URI(
        "spiffe://cluster.local/ns/argosy-system/sa/citadel"
            .try_into()
            .unwrap(),
    );
    let impersonating = csr(|p| p.subject_alt_names = vec![other]);
    assert_eq!(
        call(Some(&bearer), &impersonating, 0).await.unwrap_err().code(),
        Code::PermissionDenied
    );
    let answer = call(Some(&bearer), &csr(|_| {}), 600).await.unwrap();
    let chain: Vec<Vec<u8>> = answer
        .cert_chain
        .iter()
        .map(|text| pem::parse(text).unwrap().into_contents())
        .collect();
    let (_, leaf) = X509Certificate::from_der(&chain[0]).unwrap();
    let (_, root) = X509Certificate::from_der(chain.last().unwrap()).unwrap();
    assert!(!leaf.is_ca() && root.is_ca());
    leaf.verify_signature(Some(root.public_key())).unwrap();
    assert!((leaf.validity().not_after.timestamp() - now() - 600).abs() < 30);
}
