//! Certificates that are revoked, authorities that are tainted, and lists that were plugged in.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "tests"
)]

mod support;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use axum::http::StatusCode;
use proto::ca::IstioCertificateRequest;
use proto::ca::istio_certificate_service_client::IstioCertificateServiceClient;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType, IsCa,
    KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams,
};
use runtime::grpc::{self, Limits};
use runtime::identity::{CitadelClient, Issuer as _, Svid};
use runtime::tls::{self, Expected};
use runtime::{Context, Identity, TrustDomain};
use support::{Mesh, Running, admin, context, echo_server, eventually, now, say, spiffe, stolen};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tonic::Code;

type Issuer = CertifiedIssuer<'static, KeyPair>;

async fn until_refused(identity: &Identity, address: std::net::SocketAddr) {
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

fn ready(client: &Context) -> String {
    let missing = client.readiness.missing().into_iter();
    let own = missing.filter(|missing| missing.condition == "client/identity");
    own.map(|missing| missing.reason).collect()
}

fn refused_metric(client: &Context, value: u8) -> bool {
    let line = format!("argosy_identity_refused{{service=\"client\"}} {value}\n");
    client.metrics.encode().contains(&line)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workload_whose_certificate_was_revoked_gets_another_by_its_token_at_once() {
    let mesh = Mesh::new();
    let citadel = mesh.citadel().await;
    let server = mesh.identity(citadel.address, "shop", "stock").await;
    let address = echo_server(&server, &context("stock"), Limits::default()).await;
    let args = mesh.client_args(citadel.address, &mesh.token("shop", "orders"));
    let client = context("client");
    let orders = Identity::from_citadel(&args, &client).await.unwrap();
    let thief = stolen(&orders);
    let first = thief.current();
    let revoke = async |serial: &str| {
        let path = format!("/ca/revoke?serial={serial}");
        assert_eq!(admin(&citadel.context, "PUT", &path).await.0, StatusCode::OK);
    };
    revoke(first.serial()).await;
    eventually("another certificate", || {
        orders.current().serial() != first.serial()
    })
    .await;
    let second = orders.current();
    assert_ne!(second.key_der(), first.key_der(), "the key was stolen");
    say(&orders, address, Expected::Any).await.unwrap();
    until_refused(&thief, address).await;
    eventually("all well again", || {
        ready(&client).is_empty() && refused_metric(&client, 0)
    })
    .await;

    // Without a token that counts there is none, and that is said loudly.
    let token = std::fs::read(&args.token).unwrap();
    std::fs::write(
        &args.token,
        mesh.token_with("shop", "orders", |g| g.issued_at -= 7200),
    )
    .unwrap();
    revoke(second.serial()).await;
    eventually("the reason told", || {
        let reason = ready(&client);
        reason.contains("refuses the certificate") && reason.contains("revoked") && reason.contains("--token")
    })
    .await;
    assert!(refused_metric(&client, 1), "{}", client.metrics.encode());
    let counted = citadel.context.metrics.encode();
    assert!(
        !counted.contains("certificate_revoked"),
        "a revoked certificate was shown as proof: {counted}"
    );
    std::fs::write(&args.token, token).unwrap();
    eventually("a third certificate", || {
        orders.current().serial() != second.serial()
            && ready(&client).is_empty()
            && refused_metric(&client, 0)
    })
    .await;
    say(&orders, address, Expected::Any).await.unwrap();
    client.shutdown.cancel();
}

/// Another Citadel in the place of this one; what happens in between, nobody sees.
async fn started_again(citadel: Running, mesh: &Mesh, between: impl FnOnce()) -> Running {
    let address = citadel.address;
    citadel.stop().await;
    between();
    let listener = TcpListener::bind(address).await.unwrap();
    mesh.citadel_on(listener, mesh.args()).await
}

/// Has nothing revoked any more. A Citadel that has just revoked something would put it back.
fn lift(mesh: &Mesh) {
    std::fs::remove_file(mesh.path("ca/revoked.json")).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workload_whose_revocation_is_lifted_is_well_again_with_the_same_certificate() {
    let mesh = Mesh::new();
    let citadel = mesh.citadel().await;
    let client = context("client");
    let args = mesh.client_args(citadel.address, &mesh.token("shop", "orders"));
    let orders = Identity::from_citadel(&args, &client).await.unwrap();
    // Without a token that counts it is refused until the list is gone.
    let expired = mesh.token_with("shop", "orders", |grant| grant.issued_at -= 7200);
    std::fs::write(&args.token, expired).unwrap();
    let serial = orders.current().serial().to_owned();
    let path = format!("/ca/revoke?serial={serial}");
    assert_eq!(admin(&citadel.context, "PUT", &path).await.0, StatusCode::OK);
    let failing = |value: u8| {
        let line = format!("argosy_identity_renewal_failing{{service=\"client\"}} {value}\n");
        client.metrics.encode().contains(&line)
    };
    eventually("the reason told", || {
        ready(&client).contains("another one is not given") && refused_metric(&client, 1) && failing(1)
    })
    .await;
    let citadel = started_again(citadel, &mesh, || lift(&mesh)).await;
    let well = async {
        while !(ready(&client).is_empty() && refused_metric(&client, 0) && failing(0)) {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    // Attempts to connect are up to a minute apart.
    let well = tokio::time::timeout(support::PATIENCE * 4, well).await;
    well.unwrap_or_else(|_| panic!("still refused: {}", ready(&client)));
    assert_eq!(orders.current().serial(), serial);
    client.shutdown.cancel();
    citadel.stop().await;
}

/// A way to `to` on which nothing is lost that was said before the end: a connection that is closed while something is unread is
/// reset, and the alert with it, so that it takes another attempt to hear it.
async fn way(to: std::net::SocketAddr) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let Ok(far) = tokio::net::TcpStream::connect(to).await else {
                continue;
            };
            let ((mut near_read, mut near_write), (mut far_read, mut far_write)) =
                (near.into_split(), far.into_split());
            tokio::spawn(async move {
                _ = tokio::io::copy(&mut near_read, &mut far_write).await;
                _ = tokio::io::copy(&mut near_read, &mut tokio::io::sink()).await;
            });
            tokio::spawn(async move {
                _ = tokio::io::copy(&mut far_read, &mut near_write).await;
                _ = near_write.shutdown().await;
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_away_while_its_certificate_was_revoked_hears_of_it_when_it_connects() {
    let mesh = Mesh::new();
    let first = mesh.citadel().await;
    let address = first.address;
    let client = context("client");
    let args = mesh.client_args(way(address).await, &mesh.token("shop", "orders"));
    let orders = Identity::from_citadel(&args, &client).await.unwrap();
    let serial = orders.current().serial().to_owned();
    first.stop().await;
    // Revoked at another Citadel of the same authority, of which this workload knows nothing.
    let other = mesh.citadel().await;
    let path = format!("/ca/revoke?serial={serial}");
    assert_eq!(admin(&other.context, "PUT", &path).await.0, StatusCode::OK);
    other.stop().await;
    let listener = TcpListener::bind(address).await.unwrap();
    let again = mesh.citadel_on(listener, mesh.args()).await;
    // Attempts to connect are up to a minute apart.
    let heard = async {
        while orders.current().serial() == serial {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    let heard = tokio::time::timeout(support::PATIENCE * 8, heard).await;
    heard.expect("another certificate");
    eventually("the list heard of", || {
        !orders.current().bundle().crl_pem().is_empty() && ready(&client).is_empty()
    })
    .await;
    client.shutdown.cancel();
    again.stop().await;
}

/// Follows Citadel's word as a workload does, until it takes the certificate or refuses it.
async fn until_taken(client: &CitadelClient, svid: &Svid, taken: bool) {
    let looking = async {
        while client.refused_why(svid).is_none() != taken {
            // Without a connection there is nothing to hear.
            _ = client.changed_bundle(svid).await;
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    // Attempts to connect are up to a minute apart.
    let looked = tokio::time::timeout(support::PATIENCE * 8, looking).await;
    looked.unwrap_or_else(|_| panic!("never taken={taken}: {:?}", client.refused_why(svid)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_citadel_said_when_it_refused_to_connect_is_forgotten_once_it_connects() {
    let mesh = Mesh::new();
    let citadel = mesh.citadel().await;
    let args = mesh.client_args(way(citadel.address).await, &mesh.token("shop", "orders"));
    let client = CitadelClient::new(args.clone()).await.unwrap();
    let svid = Arc::new(client.issue(None).await.unwrap());
    let path = format!("/ca/revoke?serial={}", svid.serial());
    assert_eq!(admin(&citadel.context, "PUT", &path).await.0, StatusCode::OK);
    let citadel = started_again(citadel, &mesh, || {}).await;
    until_taken(&client, &svid, false).await;
    let citadel = started_again(citadel, &mesh, || lift(&mesh)).await;
    until_taken(&client, &svid, true).await;
    // It is shown again as well: whoever has no token any more renews by it.
    std::fs::remove_file(&args.token).unwrap();
    let renewed = client.issue(Some(svid.clone())).await.unwrap();
    assert_ne!(renewed.serial(), svid.serial());
    citadel.stop().await;
}
