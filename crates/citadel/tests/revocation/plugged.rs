//! Authorities that were plugged in: their lists, and what is done when one is not to be trusted any more.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use axum::http::StatusCode;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType, IsCa,
    KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams,
};
use runtime::grpc::Limits;
use runtime::tls::Expected;
use tokio::net::TcpListener;

use crate::support::{Mesh, admin, context, echo_server, eventually, now, say, stolen};
use crate::until_refused;

type Issuer = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str, usages: &[KeyUsagePurpose]) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = usages.to_vec();
    params
}

const BOTH: [KeyUsagePurpose; 2] = [KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];

fn plug(dir: &Path, key: &KeyPair, certificate: &str, root: &str) {
    citadel::ca::files::private_dir(dir).unwrap();
    for (name, text) in [
        ("ca-key.pem", key.serialize_pem().as_str()),
        ("ca-cert.pem", certificate),
        ("root-cert.pem", root),
    ] {
        std::fs::write(dir.join(name), text).unwrap();
        std::fs::set_permissions(dir.join(name), PermissionsExt::from_mode(0o600)).unwrap();
    }
}

fn list(issuer: &Issuer, serial: &str, end: i64) -> String {
    let bytes: Vec<u8> = serial
        .split(':')
        .map(|pair| u8::from_str_radix(pair, 16).unwrap())
        .collect();
    let at = |seconds: i64| time::OffsetDateTime::from_unix_timestamp(seconds).unwrap();
    let params = CertificateRevocationListParams {
        this_update: at(now() - 7200),
        next_update: at(end),
        crl_number: 1.into(),
        issuing_distribution_point: None,
        revoked_certs: vec![RevokedCertParams {
            serial_number: bytes.into(),
            revocation_time: at(now()),
            reason_code: None,
            invalidity_date: None,
        }],
        key_identifier_method: KeyIdMethod::Sha256,
    };
    params.signed_by(issuer).unwrap().pem().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_that_are_plugged_in_count_and_bad_ones_change_nothing() {
    let mesh = Mesh::new();
    let dir = mesh.path("ca");
    let root = Issuer::self_signed(authority("root", &BOTH), KeyPair::generate().unwrap()).unwrap();
    plug(&dir, root.key(), &root.pem(), &root.pem());
    let citadel = mesh.citadel().await;
    let orders = mesh.identity(citadel.address, "shop", "orders").await;
    let frontend = stolen(&mesh.identity(citadel.address, "shop", "frontend").await);
    let server = context("orders");
    let address = echo_server(&orders, &server, Limits::default()).await;
    let serial = frontend.current().serial().to_owned();
    let foreign = Issuer::self_signed(authority("root", &BOTH), KeyPair::generate().unwrap()).unwrap();
    let stale = || {
        citadel
            .context
            .metrics
            .encode()
            .contains("citadel_authority_stale 1\n")
    };
    for bad in [
        list(&foreign, &serial, now() + 3600),
        list(&root, &serial, now() - 60),
        "rubbish".to_owned(),
    ] {
        std::fs::write(dir.join("ca-crl.pem"), bad).unwrap();
        eventually("the bad list noticed", stale).await;
        say(&frontend, address, Expected::Any).await.unwrap();
        std::fs::remove_file(dir.join("ca-crl.pem")).unwrap();
        eventually("all well again", || !stale()).await;
    }
    std::fs::write(dir.join("ca-crl.pem"), list(&root, &serial, now() + 3600)).unwrap();
    until_refused(&frontend, address).await;
    // What is revoked here comes on top of it.
    let stock = stolen(&mesh.identity(citadel.address, "shop", "stock").await);
    say(&stock, address, Expected::Any).await.unwrap();
    let path = format!("/ca/revoke?serial={}", stock.current().serial());
    assert_eq!(admin(&citadel.context, "PUT", &path).await.0, StatusCode::OK);
    until_refused(&stock, address).await;
    assert!(
        say(&frontend, address, Expected::Any).await.is_err(),
        "the plugged-in entry was lost"
    );
    assert_eq!(
        orders.current().bundle().crl_pem().matches("BEGIN").count(),
        1,
        "one list of one authority"
    );
    say(&orders, address, Expected::Any).await.unwrap();
}

#[tokio::test]
async fn an_authority_that_must_not_sign_lists_says_so() {
    let mesh = Mesh::new();
    let root = Issuer::self_signed(authority("root", &BOTH), KeyPair::generate().unwrap()).unwrap();
    let middle = authority("middle", &[KeyUsagePurpose::KeyCertSign]);
    let middle = Issuer::signed_by(middle, KeyPair::generate().unwrap(), &root).unwrap();
    plug(&mesh.path("ca"), middle.key(), &middle.pem(), &root.pem());
    let citadel = mesh.citadel().await;
    let orders = mesh.identity(citadel.address, "shop", "orders").await;
    let path = format!("/ca/revoke?serial={}", orders.current().serial());
    let (status, reason) = admin(&citadel.context, "PUT", &path).await;
    assert_eq!(status, StatusCode::CONFLICT, "{reason}");
    let reason = reason.to_string();
    assert!(
        reason.contains("ca-cert.pem") && reason.contains("argosy ca taint"),
        "{reason}"
    );
    assert!(!mesh.path("ca/revoked.json").exists(), "nothing was kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tainted_intermediate_is_replaced_everywhere_within_seconds() {
    let mesh = Mesh::new();
    let dir = mesh.path("ca");
    let root = Issuer::self_signed(authority("root", &BOTH), KeyPair::generate().unwrap()).unwrap();
    let middle =
        |name: &str| Issuer::signed_by(authority(name, &BOTH), KeyPair::generate().unwrap(), &root).unwrap();
    let (old, new) = (middle("old"), middle("new"));
    plug(&dir, old.key(), &old.pem(), &root.pem());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let args = citadel::Args {
        ca_state_dir: Some(mesh.path("ca-state")),
        ..mesh.args()
    };
    let citadel = mesh.citadel_on(listener, args).await;
    let orders = mesh.identity(citadel.address, "shop", "orders").await;
    let before = orders.current().serial().to_owned();
    let fingerprint = citadel::ca::folder::fingerprint(old.der());
    let taint = format!("/ca/taint?fingerprint={fingerprint}");
    let (status, reason) = admin(&citadel.context, "PUT", &taint).await;
    assert_eq!(status, StatusCode::CONFLICT, "{reason}");
    assert!(reason.to_string().contains("replace ca-key.pem"), "{reason}");
    // Half of the new pair is refused by name; the whole is taken.
    plug(&dir, new.key(), &old.pem(), &root.pem());
    eventually("the wrong pair noticed", || {
        citadel
            .context
            .metrics
            .encode()
            .contains("citadel_authority_stale 1\n")
    })
    .await;
    plug(&dir, new.key(), &new.pem(), &root.pem());
    let signs = |state: &serde_json::Value| state["notAfter"].is_string();
    eventually("the new pair in force", || {
        citadel
            .context
            .metrics
            .encode()
            .contains("citadel_authority_stale 0\n")
    })
    .await;
    // Certificates of a second in which both were issued count as old.
    let (status, state) = admin(&citadel.context, "PUT", &taint).await;
    assert!(status == StatusCode::OK && signs(&state), "{state}");
    eventually("a certificate of the new intermediate", || {
        let current = orders.current();
        current.serial() != before && current.chain_der()[1] == *new.der()
    })
    .await;
    assert!(mesh.path("ca-state/rotation.json").exists() && !dir.join("rotation.json").exists());
}
