//! The facts about Secrets on the wire: who hears them, what is in them, and that a subscriber resumes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "tests"
)]

mod support;

use std::convert::Infallible;
use std::time::Duration;

use prost::Message;
use proto::feed::Object;
use rcgen::{CertificateParams, KeyPair};
use runtime::{Identity, SpiffeId, TrustDomain, grpc, tls};
use serde_json::Value;
use support::{Mesh, PATIENCE, Running, admin, stolen};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tonic::transport::Channel;
use xds::TypeUrl;
use xds::client::{Backoff, Client, Notice, State, Subscription, Update};

const TYPE_URL: &str = "security.argosy.io/v1alpha1/SecretFacts";

fn write_secret(mesh: &Mesh, name: &str) {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(["shop.example".to_owned()])
        .unwrap()
        .self_signed(&key)
        .unwrap();
    let text = serde_json::json!({
        "kind": "Secret", "type": "kubernetes.io/tls", "metadata": {"name": name, "namespace": "shop", "labels": {"a": "b"}},
        "stringData": {"tls.crt": certificate.pem(), "tls.key": key.serialize_pem(), "password": "hush"},
    });
    let path = mesh.path("secrets").join(format!("{name}.json"));
    citadel::ca::files::write_atomic(&path, text.to_string().as_bytes(), 0o600).unwrap();
}

async fn citadel_on(mesh: &Mesh, listener: TcpListener) -> Running {
    citadel::ca::files::private_dir(&mesh.path("secrets")).unwrap();
    let args = citadel::Args {
        secrets_dir: Some(mesh.path("secrets")),
        ..mesh.args()
    };
    mesh.citadel_on(listener, args).await
}

fn connector(identity: &Identity) -> tls::Connector {
    let expected = SpiffeId::system(&TrustDomain::default(), "citadel").unwrap();
    tls::connector(identity, expected).unwrap()
}

fn subscribe(identity: &Identity, citadel: &Running) -> mpsc::Receiver<Notice> {
    let (connector, address) = (connector(identity), citadel.address.to_string());
    subscribe_on(move || grpc::channel(&address, Some(connector.clone())).unwrap())
}

/// By the channels that `connect` gives.
fn subscribe_on(connect: impl Fn() -> Channel + Send + Sync + 'static) -> mpsc::Receiver<Notice> {
    let connect = move || std::future::ready(Ok::<_, Infallible>(connect()));
    let wants = [(TypeUrl::fixed(TYPE_URL), Subscription::Wildcard)];
    let retry = Duration::from_millis(20);
    let client =
        Client::new(connect, State::new(Default::default(), wants)).with_backoff(Backoff::new(retry, retry));
    let (notices, received) = mpsc::channel(1);
    tokio::spawn(client.run(notices));
    received
}

async fn next(received: &mut mpsc::Receiver<Notice>) -> Notice {
    let next = tokio::time::timeout(PATIENCE, received.recv()).await;
    next.expect("no notice").unwrap()
}

async fn update(received: &mut mpsc::Receiver<Notice>) -> Update {
    loop {
        if let Notice::Update(update) = next(received).await {
            return update;
        }
    }
}

fn names(update: &Update) -> Vec<&str> {
    update.upserts.iter().map(|each| each.name.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn galley_hears_of_each_secret_and_resumes_after_a_restart() {
    let mesh = Mesh::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    std::fs::create_dir_all(mesh.path("secrets")).unwrap();
    std::fs::set_permissions(
        mesh.path("secrets"),
        std::os::unix::fs::PermissionsExt::from_mode(0o700),
    )
    .unwrap();
    write_secret(&mesh, "web");
    let citadel = citadel_on(&mesh, listener).await;
    let galley = mesh.identity(citadel.address, "argosy-system", "galley").await;
    let mut received = subscribe(&galley, &citadel);

    let first = update(&mut received).await;
    assert_eq!((names(&first), first.complete), (vec!["shop/web"], true));
    let object = Object::decode(first.upserts[0].bytes.clone()).unwrap();
    assert_eq!((object.kind.as_str(), &*object.labels["a"]), ("SecretFacts", "b"));
    let text = String::from_utf8(object.body).unwrap();
    assert!(!text.contains("PRIVATE KEY") && !text.contains("hush"), "{text}");
    let body: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(body["spec"]["keyMatches"], true);
    assert_eq!(body["spec"]["certificates"][0]["dnsNames"][0], "shop.example");

    write_secret(&mesh, "api");
    assert_eq!(names(&update(&mut received).await), ["shop/api"]);
    std::fs::remove_file(mesh.path("secrets/web.json")).unwrap();
    assert_eq!(update(&mut received).await.removed, ["shop/web"]);

    // What is known already does not come again.
    citadel.stop().await;
    assert!(matches!(next(&mut received).await, Notice::Lost { .. }));
    write_secret(&mesh, "new");
    let listener = TcpListener::bind(address).await.unwrap();
    let citadel = citadel_on(&mesh, listener).await;
    let resumed = update(&mut received).await;
    assert_eq!((names(&resumed), resumed.complete), (vec!["shop/new"], true));
    citadel.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_but_galley_hears() {
    let mesh = Mesh::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let citadel = citadel_on(&mesh, listener).await;
    for (namespace, account) in [
        ("argosy-system", "pilot"),
        ("argosy-system", "mixer"),
        ("shop", "galley"),
        ("shop", "gateway"),
    ] {
        let identity = mesh.identity(citadel.address, namespace, account).await;
        let mut received = subscribe(&identity, &citadel);
        match next(&mut received).await {
            Notice::Lost { error, .. } => assert!(error.contains("they are for Galley"), "{error}"),
            other => panic!("{namespace}/{account}: {other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_galley_hears_no_more_on_a_connection_that_is_open() {
    let mesh = Mesh::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let citadel = citadel_on(&mesh, listener).await;
    let galley = stolen(&mesh.identity(citadel.address, "argosy-system", "galley").await);
    let open = grpc::channel(&citadel.address.to_string(), Some(connector(&galley))).unwrap();
    let mut received = subscribe_on(move || open.clone());
    update(&mut received).await;
    let path = format!("/ca/revoke?serial={}", galley.current().serial());
    let (status, state) = admin(&citadel.context, "PUT", &path).await;
    assert_eq!(status, 200, "{state}");
    // The stream ends, and the next one on the same connection is refused with the reason.
    let refused = async {
        loop {
            match next(&mut received).await {
                Notice::Lost { error, .. } if error.contains("revoked") => return,
                Notice::Update(update) => panic!("told of {:?}", names(&update)),
                _ => {}
            }
        }
    };
    tokio::time::timeout(PATIENCE, refused).await.expect("refused");
}
