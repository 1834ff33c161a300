//! What callers may take of Citadel, how long a certificate alone renews, and how clients that know names see it.
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
use std::time::Duration;

use proto::ca::IstioCertificateRequest;
use proto::ca::istio_certificate_service_client::IstioCertificateServiceClient;
use rcgen::{CertificateParams, KeyPair};
use runtime::tls::{self, Expected};
use runtime::{Identity, grpc};
use support::{Mesh, PATIENCE, Running, admin, create_certificate, spiffe, stolen};
use tokio::net::TcpListener;
use tonic::{Code, Status};

fn csr() -> String {
    let request = CertificateParams::default().serialize_request(&KeyPair::generate().unwrap());
    request.unwrap().pem().unwrap()
}

async fn citadel_with(mesh: &Mesh, change: impl FnOnce(&mut citadel::Args)) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut args = mesh.args();
    change(&mut args);
    mesh.citadel_on(listener, args).await
}

#[tokio::test]
async fn one_identity_cannot_take_all_of_the_authoritys_time() {
    let mesh = Mesh::new();
    let citadel = citadel_with(&mesh, |args| args.caller_rate = 1).await;
    let ask = async |account: &str| {
        let header = format!("Bearer {}", mesh.token("shop", account));
        create_certificate(&mesh, citadel.address, Some(&header), &csr(), 0).await
    };
    let mut issued = 0;
    let refusal = loop {
        match ask("orders").await {
            Ok(_) => issued += 1,
            Err(status) => break status,
        }
        assert!(issued < 1000, "never refused");
    };
    assert!(issued >= 20, "the burst: {issued}");
    assert_eq!(refusal.code(), Code::ResourceExhausted);
    assert!(
        refusal.message().contains("too many certificates: ask again in"),
        "{refusal}"
    );
    ask("stock").await.expect("others are served");
    let (_, state) = admin(&citadel.context, "GET", "/ca/status").await;
    assert_eq!(state["requests"]["issued"], issued + 1, "{state}");
    assert_eq!(state["requests"]["refused"]["rate_limited"], 1, "{state}");
    assert!(
        state["ageSeconds"].as_i64().unwrap() < 600,
        "the hour by which roots are backdated is no age: {state}"
    );
}

#[tokio::test]
async fn unknown_callers_take_nothing_of_what_known_ones_of_their_address_have() {
    let mesh = Mesh::new();
    let citadel = mesh.citadel().await;
    let known = stolen(&mesh.identity(citadel.address, "shop", "stock").await);
    let bad = mesh.token_with("shop", "orders", |grant| grant.audience = "others");
    let connector = tls::connector(&known, Expected::Any).unwrap();
    let channel = grpc::channel(&citadel.address.to_string(), Some(connector)).unwrap();
    let ask = async |token: &str| {
        let mut request = tonic::Request::new(IstioCertificateRequest {
            csr: csr(),
            ..Default::default()
        });
        let header = format!("Bearer {token}").parse().unwrap();
        request.metadata_mut().insert("authorization", header);
        let mut client = IstioCertificateServiceClient::new(channel.clone());
        client.create_certificate(request).await.map(drop)
    };
    let flood = async {
        loop {
            let refused = ask(&bad).await.unwrap_err();
            if refused.code() != Code::Unauthenticated {
                return refused;
            }
        }
    };
    let refused = tokio::time::timeout(PATIENCE * 4, flood).await.expect("bounded");
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    assert!(refused.message().contains("ask again in"), "{refused}");
    ask(&mesh.token("shop", "orders")).await.expect("a good token");
    renew(&known, &citadel).await.expect("a good certificate");
    let counted = citadel.context.metrics.encode();
    assert!(
        counted.contains("citadel_server_refused_count{reason=\"too_many_failures\"}"),
        "{counted}"
    );
}

/// Renews by the certificate alone: the serial number of the new one, and the key with it.
async fn renew(identity: &Identity, citadel: &Running) -> Result<Identity, Status> {
    let connector = tls::connector(identity, Expected::Any).unwrap();
    let channel = grpc::channel(&citadel.address.to_string(), Some(connector)).unwrap();
    let key = KeyPair::generate().unwrap();
    let request = CertificateParams::default().serialize_request(&key).unwrap();
    let request = IstioCertificateRequest {
        csr: request.pem().unwrap(),
        ..Default::default()
    };
    let mut client = IstioCertificateServiceClient::new(channel);
    let answer = client.create_certificate(request).await?.into_inner();
    let leaf = pem::parse(&answer.cert_chain[0]).unwrap().into_contents();
    let svid = runtime::Svid::new(
        key.serialize_der().into(),
        vec![leaf.into()],
        identity.current().bundle().clone(),
        rustls::pki_types::UnixTime::now(),
    );
    Ok(Identity::fixed(svid.unwrap()))
}

fn proven(identity: &Identity) -> i64 {
    citadel::ca::proven(identity.current().serial()).unwrap()
}

#[tokio::test]
async fn a_stolen_key_does_not_renew_for_ever() {
    let mesh = Mesh::new();
    let citadel = citadel_with(&mesh, |args| args.certificate_renewal = Duration::from_secs(3)).await;
    let mut thief = stolen(&mesh.identity(citadel.address, "shop", "orders").await);
    let shown = proven(&thief);
    let mut renewals = 0;
    let chain = async {
        loop {
            match renew(&thief, &citadel).await {
                Ok(next) => {
                    assert_eq!(proven(&next), shown, "each says when a token was shown");
                    assert_ne!(next.current().serial(), thief.current().serial());
                    (thief, renewals) = (next, renewals + 1);
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                Err(refused) => return refused,
            }
        }
    };
    let refused = tokio::time::timeout(PATIENCE, chain).await.expect("it ends");
    assert_eq!(refused.code(), Code::Unauthenticated, "{refused}");
    assert!(
        refused.message().contains("--certificate-renewal") && refused.message().contains("send a token"),
        "{refused}"
    );
    assert!(renewals > 0, "within its time it renews");
    // Whoever has the token begins anew.
    let again = mesh.identity(citadel.address, "shop", "orders").await;
    assert!(proven(&again) > shown);

    citadel.stop().await;
    let citadel = citadel_with(&mesh, |args| args.certificate_renewal = Duration::ZERO).await;
    let refused = renew(&stolen(&again), &citadel).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated, "{refused}");
}

/// What openssl, which knows servers by name, says of Citadel's certificate.
fn openssl_sees(mesh: &Mesh, citadel: &Running, name: &str) -> bool {
    let run = Command::new("openssl")
        .args(["s_client", "-alpn", "h2", "-verify_return_error", "-connect"])
        .arg(citadel.address.to_string())
        .args(["-servername", name, "-verify_hostname", name, "-CAfile"])
        .arg(mesh.path("ca/root-cert.pem"))
        .stdin(std::process::Stdio::null())
        .output()
        .expect("openssl is there");
    run.status.success() && String::from_utf8_lossy(&run.stdout).contains("Verify return code: 0 (ok)")
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_know_servers_by_name_can_verify_citadel() {
    let mesh = Mesh::new();
    let names = vec![citadel::server_name("istiod.istio-system.svc").unwrap()];
    let citadel = citadel_with(&mesh, |args| args.server_names = names).await;
    let sees = |name: &str| tokio::task::block_in_place(|| openssl_sees(&mesh, &citadel, name));
    for name in [
        "istiod.istio-system.svc",
        "citadel.argosy-system.svc",
        "citadel.argosy-system.svc.cluster.local",
    ] {
        assert!(sees(name), "{name}");
    }
    assert!(!sees("istiod.other.svc"));
    // Those who know it by its SPIFFE id do so still, and nobody else gets such a name.
    let orders = mesh.identity(citadel.address, "shop", "orders").await;
    let svid = orders.current();
    let (_, leaf) = x509_parser::parse_x509_certificate(&svid.chain_der()[0]).unwrap();
    let names = leaf.subject_alternative_name().unwrap().unwrap().value;
    assert_eq!(names.general_names.len(), 1, "{names:?}");
    assert_eq!(orders.id(), spiffe("shop", "orders"));
    for bad in ["", "Istiod", "*.istio-system.svc", "a..b", "-a", "10.0.0.1:80"] {
        assert!(
            citadel::server_name(bad).unwrap_err().contains("not a DNS name"),
            "{bad}"
        );
    }
}
