//! Roots are replaced while workloads talk: nobody notices, and the old root counts for nothing afterwards.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "tests"
)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use axum::http::StatusCode;
use runtime::Identity;
use runtime::grpc::Limits;
use runtime::tls::Expected;
use support::{Mesh, PATIENCE, admin, context, echo_server, eventually, say};
use tokio::net::TcpListener;

const TTL: Duration = Duration::from_secs(5);

/// A number from the environment: `make soak` sets larger ones.
fn number(name: &str, usual: u64) -> u64 {
    std::env::var(name).map_or(usual, |text| text.parse().unwrap())
}

async fn short_lived(mesh: &Mesh) -> support::Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let args = citadel::Args {
        leaf_ttl: Duration::from_secs(number("ARGOSY_ROTATION_TTL", TTL.as_secs())),
        ..mesh.args()
    };
    mesh.citadel_on(listener, args).await
}

async fn wait_for_stage(citadel: &support::Running, wanted: &str) -> serde_json::Value {
    let looking = async {
        loop {
            let (_, state) = admin(&citadel.context, "GET", "/ca/status").await;
            if state["stage"] == wanted {
                return state;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE * 2, looking)
        .await
        .unwrap_or_else(|_| panic!("never {wanted}"))
}

/// A workload that opens a connection after the other, each a whole handshake on both sides, with `pause` between them.
async fn handshakes(
    caller: Identity,
    address: std::net::SocketAddr,
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    pause: Duration,
) -> Vec<String> {
    let mut failures = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        match say(&caller, address, Expected::Any).await {
            Ok(_) => _ = done.fetch_add(1, Ordering::Relaxed),
            Err(reason) => failures.push(reason),
        }
        tokio::time::sleep(pause).await;
    }
    failures
}

#[tokio::test(flavor = "multi_thread")]
async fn roots_rotate_under_handshakes_and_the_old_one_ends() {
    let rounds = number("ARGOSY_ROTATIONS", 1);
    let wanted = number("ARGOSY_HANDSHAKES", 100);
    let (callers, pause) = if wanted > 1000 {
        (4, Duration::ZERO)
    } else {
        (1, Duration::from_millis(5))
    };
    let mesh = Mesh::new();
    let citadel = short_lived(&mesh).await;
    let orders = mesh.identity(citadel.address, "shop", "orders").await;
    let frontend = mesh.identity(citadel.address, "shop", "frontend").await;
    let server = context("orders");
    let address = echo_server(&orders, &server, Limits::default()).await;
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let call = |_| {
        tokio::spawn(handshakes(
            frontend.clone(),
            address,
            stop.clone(),
            done.clone(),
            pause,
        ))
    };
    let load: Vec<_> = (0..callers).map(call).collect();
    let mut before = mesh.bundle();
    for _ in 0..rounds {
        let (status, state) = admin(&citadel.context, "PUT", "/ca/rotate").await;
        assert_eq!(
            (status, &state["stage"]),
            (StatusCode::OK, &"distributing".into())
        );
        let (status, reason) = admin(&citadel.context, "PUT", "/ca/rotate").await;
        assert_eq!(status, StatusCode::CONFLICT, "{reason}");
        wait_for_stage(&citadel, "retiring").await;
        let state = wait_for_stage(&citadel, "stable").await;
        assert_eq!(state["roots"].as_array().unwrap().len(), 1, "{state}");
        let now = mesh.bundle();
        assert!(!now.roots().contains(&before.roots()[0]));
        let only = |identity: &Identity| *identity.current().bundle().roots() == *now.roots();
        eventually("both trust the new root alone", || {
            only(&orders) && only(&frontend)
        })
        .await;
        before = now;
    }
    let enough = async {
        while done.load(Ordering::Relaxed) < wanted {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    // Only a failing test waits as long.
    assert!(
        tokio::time::timeout(PATIENCE * 40, enough).await.is_ok(),
        "handshakes stand still"
    );
    stop.store(true, Ordering::Relaxed);
    for caller in load {
        assert_eq!(caller.await.unwrap(), Vec::<String>::new());
    }
    println!(
        "{} handshakes under {rounds} rotations, none failed",
        done.load(Ordering::Relaxed)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_retired_root_is_refused() {
    let mesh = Mesh::new();
    let citadel = short_lived(&mesh).await;
    let orders = mesh.identity(citadel.address, "shop", "orders").await;
    let server = context("orders");
    let address = echo_server(&orders, &server, Limits::default()).await;
    // Somebody who kept the old root's key: an authority of its own in a copy of the folder.
    let stolen = Mesh::new();
    std::fs::create_dir(stolen.path("ca")).unwrap();
    for name in ["root-key.pem", "root-cert.pem"] {
        std::fs::copy(mesh.path("ca").join(name), stolen.path("ca").join(name)).unwrap();
    }
    std::fs::set_permissions(
        stolen.path("ca"),
        std::os::unix::fs::PermissionsExt::from_mode(0o700),
    )
    .unwrap();
    let thief = stolen.citadel().await;
    let forged = stolen.identity(thief.address, "shop", "frontend").await;
    assert!(
        say(&forged, address, Expected::Any).await.is_ok(),
        "the key was good"
    );
    let (status, _) = admin(&citadel.context, "PUT", "/ca/rotate?emergency=true").await;
    assert_eq!(status, StatusCode::OK);
    let mut watch = orders.watch();
    let first = watch.borrow_and_update().serial().to_owned();
    wait_for_stage(&citadel, "stable").await;
    eventually("the server has dropped the root", || {
        let current = orders.current();
        current.serial() != first && current.bundle().roots() == mesh.bundle().roots()
    })
    .await;
    assert!(say(&forged, address, Expected::Any).await.is_err());
    assert!(say(&orders, address, Expected::Any).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_goes_on_after_citadel_was_killed_at_each_stage() {
    let mesh = Mesh::new();
    let citadel = short_lived(&mesh).await;
    let first = mesh.bundle();
    admin(&citadel.context, "PUT", "/ca/rotate").await;
    citadel.stop().await;
    let citadel = short_lived(&mesh).await;
    wait_for_stage(&citadel, "retiring").await;
    citadel.stop().await;
    let citadel = short_lived(&mesh).await;
    wait_for_stage(&citadel, "stable").await;
    assert_eq!(mesh.bundle().roots().len(), 1);
    assert_ne!(mesh.bundle(), first);
    citadel.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connected_holders_renew_at_once_when_they_are_told() {
    let mesh = Mesh::new();
    let citadel = mesh.citadel().await;
    let orders = mesh.identity(citadel.address, "shop", "orders").await;
    let first = orders.current();
    assert!(
        first.not_after() - support::now() > 80_000,
        "it would not be renewed today"
    );
    // As an emergency's activation leaves it.
    let soon = support::now() + 2;
    std::fs::write(
        mesh.path("ca/rotation.json"),
        format!("{{\"reissueBefore\": {soon}}}"),
    )
    .unwrap();
    eventually("another certificate", || {
        orders.current().serial() != first.serial()
    })
    .await;
    let (_, state) = admin(&citadel.context, "GET", "/ca/status").await;
    assert!(state["reissueBefore"].is_string(), "{state}");
    // A broken record changes nothing, and is told of.
    std::fs::write(mesh.path("ca/rotation.json"), "rubbish").unwrap();
    let stale = || {
        citadel
            .context
            .metrics
            .encode()
            .contains("citadel_authority_stale 1\n")
    };
    eventually("the broken record noticed", stale).await;
    mesh.identity(citadel.address, "shop", "stock").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn open_streams_do_not_hold_up_the_end() {
    let mesh = Mesh::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let citadel = mesh.citadel_on(listener, mesh.args()).await;
    let orders = mesh.identity(citadel.address, "shop", "orders").await;
    let connector = runtime::tls::connector(&orders, Expected::Any).unwrap();
    let channel = runtime::grpc::channel(&citadel.address.to_string(), Some(connector)).unwrap();
    let mut client = proto::trust::trust_bundle_service_client::TrustBundleServiceClient::new(channel);
    let mut news = client
        .watch_trust_bundle(proto::trust::WatchTrustBundleRequest {})
        .await
        .unwrap()
        .into_inner();
    assert!(
        news.message()
            .await
            .unwrap()
            .unwrap()
            .roots
            .contains("BEGIN CERTIFICATE")
    );
    citadel.context.shutdown.cancel();
    // It ends as it should, rather than being cut after the grace.
    assert!(
        tokio::time::timeout(PATIENCE, news.message())
            .await
            .unwrap()
            .unwrap()
            .is_none()
    );
}
