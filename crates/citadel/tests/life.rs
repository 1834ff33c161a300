//! An identity over time: renewal, roots that change, and a Citadel that goes and comes back.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "tests"
)]

mod support;

use std::time::Duration;

use proto::sample::EchoRequest;
use proto::sample::echo_client::EchoClient;
use runtime::grpc::{self, Limits};
use runtime::tls::{self, Expected};
use runtime::{Identity, Svid};
use support::{ISSUER, Mesh, PATIENCE, context, echo_server, eventually, obtain, say, spiffe};
use tokio::net::TcpListener;
use tokio::sync::watch;

/// The next change.
async fn next(watch: &mut watch::Receiver<std::sync::Arc<Svid>>) -> std::sync::Arc<Svid> {
    tokio::time::timeout(PATIENCE, watch.changed())
        .await
        .expect("no change")
        .unwrap();
    watch.borrow_and_update().clone()
}

async fn short_lived(mesh: &Mesh) -> support::Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let args = citadel::Args {
        leaf_ttl: Duration::from_secs(5),
        ..mesh.args()
    };
    mesh.citadel_on(listener, args).await
}

#[tokio::test(flavor = "multi_thread")]
async fn renewal_changes_new_connections_and_breaks_no_old_one() {
    let mesh = Mesh::new();
    let citadel = short_lived(&mesh).await;
    let orders = mesh.identity(citadel.address, "shop", "orders").await;
    let server = context("orders");
    let address = echo_server(&orders, &server, Limits::default()).await;
    let connector = tls::connector(&orders, Expected::Any).unwrap();
    let mut old = EchoClient::new(grpc::channel(&address.to_string(), Some(connector)).unwrap());
    old.say(EchoRequest::default()).await.unwrap();
    let mut watch = orders.watch();
    let first = watch.borrow_and_update().clone();
    // Long enough for the first certificate, and Citadel's own, to have ended.
    while support::now() <= first.not_after() {
        let renewed = next(&mut watch).await;
        assert_ne!(renewed.serial(), first.serial());
        assert_ne!(renewed.key_der(), first.key_der(), "a new key each time");
    }
    assert_eq!(
        say(&orders, address, spiffe("shop", "orders")).await.unwrap(),
        orders.id().to_string()
    );
    old.say(EchoRequest::default()).await.unwrap();
    let accepted = "argosy_grpc_connections_total{service=\"orders\",listener=\"echo\"} 2\n";
    assert!(
        server.metrics.encode().contains(accepted),
        "the old connection did not last"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_token_a_workload_renews_by_its_certificate() {
    let mesh = Mesh::new();
    let citadel = short_lived(&mesh).await;
    let args = mesh.client_args(citadel.address, &mesh.token("shop", "orders"));
    let client = context("client");
    let identity = Identity::from_citadel(&args, &client).await.unwrap();
    let mut watch = identity.watch();
    // A token that is refused, then one that is gone.
    std::fs::write(
        &args.token,
        mesh.token_with("shop", "orders", |g| g.issued_at -= 7200),
    )
    .unwrap();
    assert_eq!(*next(&mut watch).await.id(), spiffe("shop", "orders"));
    std::fs::remove_file(&args.token).unwrap();
    assert_eq!(*next(&mut watch).await.id(), spiffe("shop", "orders"));
    let reason = "citadel_server_refused_count{reason=\"expired_token\"} 1\n";
    assert!(citadel.context.metrics.encode().contains(reason));
    client.shutdown.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_citadel_that_is_late_or_restarts_is_waited_for() {
    let mesh = Mesh::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let root = citadel::ca::Authority::load_or_create(&mesh.path("ca"), &Default::default()).unwrap();
    drop(listener);
    let args = mesh.client_args(address, &mesh.token("shop", "orders"));
    let client = context("client");
    let waiting = {
        let (args, client) = (args.clone(), client.clone());
        tokio::spawn(async move { Identity::from_citadel(&args, &client).await })
    };
    eventually("the reason shown", || {
        client
            .readiness
            .missing()
            .iter()
            .any(|m| m.condition == "client/identity" && m.reason.contains("cannot connect"))
    })
    .await;
    let citadel = mesh
        .citadel_on(TcpListener::bind(address).await.unwrap(), mesh.args())
        .await;
    let identity = tokio::time::timeout(PATIENCE, waiting)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert!(client.readiness.is_ready());
    citadel.stop().await;
    let citadel = mesh
        .citadel_on(TcpListener::bind(address).await.unwrap(), mesh.args())
        .await;
    let other = obtain(&args).await;
    assert_eq!(
        other.current().bundle(),
        identity.current().bundle(),
        "one root before and after"
    );
    assert_eq!(other.current().roots_pem(), root.certificate_pem());
    citadel.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn roots_in_the_file_are_trusted_and_dropped_without_a_restart() {
    let (mesh, foreign) = (Mesh::new(), Mesh::new());
    let (citadel, other) = (mesh.citadel().await, foreign.citadel().await);
    let orders = mesh.identity(citadel.address, "shop", "orders").await;
    let stranger = foreign.identity(other.address, "shop", "frontend").await;
    // Its own Citadel would tell it whom to trust.
    other.stop().await;
    stranger.replace(stranger.current().with_bundle(std::sync::Arc::new(mesh.bundle())));
    let server = context("orders");
    let address = echo_server(&orders, &server, Limits::default()).await;
    assert!(say(&stranger, address, Expected::Any).await.is_err());
    let mut watch = orders.watch();
    let file = mesh.path("ca/root-cert.pem");
    let own = std::fs::read_to_string(&file).unwrap();
    let both = format!(
        "{own}{}",
        std::fs::read_to_string(foreign.path("ca/root-cert.pem")).unwrap()
    );
    std::fs::write(&file, both).unwrap();
    assert_eq!(next(&mut watch).await.bundle().roots().len(), 2);
    say(&stranger, address, Expected::Any)
        .await
        .expect("trusted by both");
    // A broken file changes nothing; the next good one counts.
    std::fs::write(&file, "rubbish").unwrap();
    std::fs::write(&file, own).unwrap();
    assert_eq!(next(&mut watch).await.bundle().roots().len(), 1);
    assert!(say(&stranger, address, Expected::Any).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn identity_yaml_is_reloaded_and_a_broken_one_changes_nothing() {
    let mesh = Mesh::new();
    let citadel = mesh.citadel().await;
    let token = mesh.token_with("shop", "orders", |g| g.audience = "new");
    let args = mesh.client_args(citadel.address, &token);
    assert!(mesh.refusal(&args).await.contains("audience"));
    std::fs::write(mesh.path("identity.yaml"), "tokenIssuer: []\n").unwrap();
    let stale = || {
        citadel
            .context
            .metrics
            .encode()
            .contains("citadel_identity_file_stale 1\n")
    };
    eventually("the broken file noticed", stale).await;
    mesh.identity(citadel.address, "shop", "orders").await;
    mesh.write_identity("new");
    assert_eq!(obtain(&args).await.id(), spiffe("shop", "orders"));
    assert!(!stale());
    // The issuer's keys are followed too.
    let key = citadel::token::IssuerKey::generate().unwrap();
    std::fs::write(mesh.path("jwks.json"), key.jwks().unwrap()).unwrap();
    let lifetime = Duration::from_secs(60);
    let (namespace, account, issued_at) = ("shop", "stock", support::now());
    let grant = citadel::token::Grant {
        issuer: ISSUER,
        audience: "new",
        namespace,
        account,
        issued_at,
        lifetime,
    };
    let args = mesh.client_args(citadel.address, &citadel::token::mint(&key, &grant).unwrap());
    assert_eq!(obtain(&args).await.id(), spiffe("shop", "stock"));
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_lets_requests_end_and_cuts_what_does_not() {
    let mesh = Mesh::new();
    let citadel = mesh.citadel().await;
    let orders = mesh.identity(citadel.address, "shop", "orders").await;
    let server = context("orders");
    let address = echo_server(&orders, &server, Limits::default()).await;
    let call = |delay_ms| {
        let connector = tls::connector(&orders, Expected::Any).unwrap();
        let channel = grpc::channel(&address.to_string(), Some(connector)).unwrap();
        tokio::spawn(async move {
            let request = EchoRequest {
                delay_ms,
                ..EchoRequest::default()
            };
            EchoClient::new(channel).say(request).await
        })
    };
    // The server's grace is one second.
    let (short, long) = (call(600), call(60_000));
    eventually("both calls under way", || {
        server.metrics.encode().contains("test_calls 2\n")
    })
    .await;
    server.shutdown.cancel();
    assert!(short.await.unwrap().is_ok());
    let cut = tokio::time::timeout(PATIENCE, long)
        .await
        .expect("the long call was not cut")
        .unwrap();
    assert!(cut.is_err());
    assert!(
        say(&orders, address, Expected::Any)
            .await
            .unwrap_err()
            .contains("cannot connect")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn istio_security_2019_004_connections_beyond_the_bound_are_closed_and_slow_handshakes_end() {
    let mesh = Mesh::new();
    let citadel = mesh.citadel().await;
    let orders = mesh.identity(citadel.address, "shop", "orders").await;
    let server = context("orders");
    let limits = Limits {
        connections: 1,
        handshake: Duration::from_millis(300),
        ..Limits::default()
    };
    let address = echo_server(&orders, &server, limits).await;
    let idle = tokio::net::TcpStream::connect(address).await.unwrap();
    let refused = |reason: &str| {
        let line = format!(
            "argosy_grpc_connections_refused_total{{service=\"orders\",listener=\"echo\",reason=\"{reason}\"}}"
        );
        server.metrics.encode().contains(&line)
    };
    let second = tokio::net::TcpStream::connect(address).await.unwrap();
    eventually("the second refused", || refused("too_many")).await;
    eventually("the first timed out", || refused("handshake_timeout")).await;
    assert!(
        say(&orders, address, Expected::Any).await.is_ok(),
        "the place is free again"
    );
    drop((idle, second));
}
