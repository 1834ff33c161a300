//! What workloads make of the revocation of their own certificates.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use runtime::grpc::Limits;
use runtime::identity::{CitadelClient, Issuer as _, Svid};
use runtime::tls::Expected;
use runtime::{Context, Identity};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use crate::support::{self, Mesh, Running, admin, context, echo_server, eventually, say, stolen};
use crate::until_refused;

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
            tokio::time::sleep(Duration::from_millis(20)).await;
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
async fn way(to: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let Ok(far) = TcpStream::connect(to).await else {
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
            tokio::time::sleep(Duration::from_millis(50)).await;
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
            tokio::time::sleep(Duration::from_millis(50)).await;
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
