//! A certificate that Citadel revokes is refused by a real Envoy at once, whichever side shows it; a tainted root likewise.

use std::net::SocketAddr;
use std::time::Duration;

use runtime::{Context, Identity, tls};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::common::{Service, Tables, until};
use crate::ground::{Ground, echoes};
use crate::listener;

/// The workload's own secrets.
const MESH: [&str; 2] = ["default", "ROOTCA"];

/// A server of the mesh that gives back what it gets.
async fn echo(identity: &Identity, address: SocketAddr) {
    let config = tls::server(identity, tls::ClientAuth::Required).unwrap();
    let listener = TcpListener::bind(address).await.unwrap();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let acceptor = TlsAcceptor::from(config.clone());
            tokio::spawn(async move {
                let mut stream = acceptor.accept(tcp).await?;
                let mut bytes = [0; 5];
                stream.read_exact(&mut bytes).await?;
                stream.write_all(&bytes).await
            });
        }
    });
}

/// Whether what goes out through Envoy comes back.
async fn goes_out(address: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"hello").await?;
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).await.map(drop)
}

async fn comes_in(ground: &Ground, from: &Identity) -> std::io::Result<()> {
    let stream = ground.connect(from).await?;
    let read = tokio::time::timeout(Duration::from_secs(5), echoes(stream)).await;
    read.map_err(std::io::Error::other)?.map(drop)
}

/// A certificate that stays as it is: its holder asks for no other one.
fn stolen((identity, context): (Identity, Context)) -> Identity {
    context.shutdown.cancel();
    let current = identity.current();
    Identity::fixed(current.with_bundle(current.bundle().clone()))
}

async fn revoke(citadel: &Service, identity: &Identity) {
    revoke_serial(citadel, identity.current().serial()).await;
}

async fn revoke_serial(citadel: &Service, serial: &str) {
    citadel.command(&format!("/ca/revoke?serial={serial}")).await;
}

#[tokio::test]
async fn envoy_refuses_revoked_certificates_of_clients_and_servers() {
    let Some(ground) = Ground::new() else { return };
    let citadel = ground.mesh.citadel(Duration::from_secs(3600)).await;
    let (way_out, server) = (ground.address(8081), ground.mesh.block.addr(22, 9000));
    let table = listener::with_way_out(&ground.table(), way_out, server, MESH);
    let tables = Tables::new(ground.with_entry(&table));
    let pilot = ground.mesh.pilot(&tables).await;
    let agent = ground.agent("agent", &ground.token()).start().unwrap();
    let (orders, _o) = ground.mesh.identity("shop", "orders").await;
    let thief = stolen(ground.mesh.identity("shop", "frontend").await);
    let stock = stolen(ground.mesh.identity("shop", "stock").await);
    echo(&stock, server).await;
    ground.serves(&orders).await;
    ground.serves(&thief).await;
    let out = || async { goes_out(way_out).await.map_err(|error| error.to_string()) };
    until("the way out", out).await;

    revoke(&citadel, &thief).await;
    let refused = || async {
        match comes_in(&ground, &thief).await {
            Ok(()) => Err("the revoked client still comes in".to_owned()),
            Err(_) => Ok(()),
        }
    };
    until("the client to be refused", refused).await;
    comes_in(&ground, &orders)
        .await
        .expect("others come in as before");
    goes_out(way_out).await.expect("and go out");

    revoke(&citadel, &stock).await;
    let refused = || async {
        match goes_out(way_out).await {
            Ok(()) => Err("Envoy still talks to the revoked server".to_owned()),
            Err(_) => Ok(()),
        }
    };
    until("the server to be refused", refused).await;
    comes_in(&ground, &orders)
        .await
        .expect("others come in as before");
    let (_, stats) = ground.get(15020, "/stats/prometheus").await.unwrap();
    assert!(
        stats.contains("argosy_identity_renewal_failing{service=\"agent\"} 0"),
        "{stats}"
    );

    // With a new certificate both are welcome again.
    let (again, _a) = ground.mesh.identity("shop", "frontend").await;
    comes_in(&ground, &again).await.expect("a new certificate");
    let (new_stock, _n) = ground.mesh.identity("shop", "stock").await;
    echo(&new_stock, ground.mesh.block.addr(23, 9000)).await;
    tables.set(ground.with_entry(&listener::with_way_out(
        &ground.table(),
        way_out,
        ground.mesh.block.addr(23, 9000),
        MESH,
    )));
    until("the way out again", out).await;
    drop(agent);
    pilot.stop().await;
    citadel.stop().await;
}

/// The serial number that the workload's Envoy shows on a connection that works.
async fn shown(ground: &Ground, from: &Identity) -> Result<String, String> {
    let stream = ground.connect(from).await.map_err(|error| error.to_string())?;
    let stream = echoes(stream).await.map_err(|error| error.to_string())?;
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let serial = chain.first().and_then(tls::read_serial);
    serial.ok_or_else(|| "no certificate".to_owned())
}

#[tokio::test]
async fn a_revoked_workload_serves_again_with_another_certificate_or_says_why_not() {
    let Some(ground) = Ground::new() else { return };
    let citadel = ground.mesh.citadel(Duration::from_secs(3600)).await;
    let tables = Tables::new(ground.with_entry(&ground.table()));
    let pilot = ground.mesh.pilot(&tables).await;
    let agent = ground.agent("agent", &ground.token()).start().unwrap();
    let (orders, _o) = ground.mesh.identity("shop", "orders").await;
    ground.serves(&orders).await;
    let another = async |than: &str| {
        until("another certificate", || async {
            let serial = shown(&ground, &orders).await?;
            (serial != than)
                .then_some(serial)
                .ok_or_else(|| "the same".to_owned())
        })
        .await
    };
    let first = another("").await;
    revoke_serial(&citadel, &first).await;
    let second = another(&first).await;
    ground.says(200, "ready").await;

    // Its token does not count any more: it is not ready, in words that say what helps.
    ground.mesh.expired_token("shop", "catalog");
    revoke_serial(&citadel, &second).await;
    ground.says(503, "the mesh refuses the certificate").await;
    ground.says(503, "--token").await;
    let (_, stats) = ground.get(15020, "/stats/prometheus").await.unwrap();
    for line in ["argosy_identity_refused", "argosy_identity_renewal_failing"] {
        let line = format!("{line}{{service=\"agent\"}} 1");
        assert!(stats.contains(&line), "{line} not in {stats}");
    }
    ground.token();
    ground.says(200, "ready").await;
    another(&second).await;
    drop(agent);
    pilot.stop().await;
    citadel.stop().await;
}
