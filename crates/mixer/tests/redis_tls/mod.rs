//! TLS to Redis: a real one behind an end of TLS that wants a certificate, since the pinned build of Redis speaks none itself.

use std::path::Path;

use tempfile::TempDir;
use testkit::redis::{Cluster, Redis, Watched};
use testkit::tls::Authority;

use crate::common::server::Server;
use crate::{BOUND, ask, common, decided_again, sample_at};

/// The files of a Mixer with a certificate of the authority's.
const FILES: &str = "caCertificates: ca.pem, clientCertificate: mixer.pem, privateKey: mixer-key.pem";

/// A folder with the authority's certificate, and with a certificate and its key for Mixer.
fn folder(authority: &Authority) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("ca.pem", authority.pem());
    let (leaf, key) = authority.sign("mixer.test").unwrap();
    write("mixer.pem", &leaf);
    write("mixer-key.pem", &key.serialize_pem());
    folder
}

/// A Mixer with the quota in the Redis of this URL, by these parameters of `tls`.
async fn mixer(url: &str, tls: &str, folder: &Path) -> Server {
    let url = format!("{url}\n    tls: {{{tls}}}");
    let texts = sample_at(&url, 2, "1h", "");
    let server = Server::start_with(mixer::Args {
        redis_deadline: BOUND,
        handler_certificates: Some(folder.to_owned()),
        ..mixer::Args::default()
    })
    .await;
    server
        .mixer
        .configure(common::state(texts.iter().map(String::as_str)));
    server
}

#[tokio::test]
async fn both_ends_prove_who_they_are() {
    let (own, other) = (Authority::new().unwrap(), Authority::new().unwrap());
    let (redis, folder) = (Redis::start().await.unwrap(), folder(&own));
    std::fs::write(folder.path().join("other.pem"), other.pem()).unwrap();
    let address = format!("rediss://{}", own.front(redis.address()).await.unwrap());

    let known = mixer(&address, FILES, folder.path()).await;
    assert!(known.mixer.findings().is_empty(), "{:?}", known.mixer.findings());
    decided_again(&known).await;
    assert!(ask(&known, "jason").await && ask(&known, "jason").await);
    assert!(!ask(&known, "jason").await, "two units and no more");

    for files in [
        "caCertificates: ca.pem",
        "caCertificates: other.pem, clientCertificate: mixer.pem, privateKey: mixer-key.pem",
    ] {
        let refused = mixer(&address, files, folder.path()).await;
        let status = refused.limit("catalog", "anna").await.unwrap_err();
        assert!(
            status.message().starts_with("UNAVAILABLE:Quota cannot be asked"),
            "{files}: {status}"
        );
    }

    let gone = mixer(&address, "caCertificates: gone.pem", folder.path()).await;
    let said = format!("{:?}", gone.mixer.findings());
    assert!(said.contains("gone.pem"), "{said}");
    assert!(!ask(&gone, "anna").await, "the quota is closed");
}

#[tokio::test]
async fn a_cluster_is_reached_by_tls_at_all_of_its_nodes() {
    let own = Authority::new().unwrap();
    let (_cluster, fronts) = Cluster::start_behind(&own).await.unwrap();
    let folder = folder(&own);
    let server = mixer(&format!("rediss+cluster://{}", fronts[0]), FILES, folder.path()).await;
    assert_eq!(server.mixer.findings().len(), 0, "{:?}", server.mixer.findings());
    decided_again(&server).await;
    // Keys of several masters.
    for user in ["jason", "mallory", "nobody", "frontend", "x"] {
        assert!(ask(&server, user).await && ask(&server, user).await, "{user}");
        assert!(!ask(&server, user).await, "{user}: two units and no more");
    }
    let without = mixer(
        &format!("rediss+cluster://{}", fronts[0]),
        "caCertificates: ca.pem",
        folder.path(),
    )
    .await;
    assert!(without.limit("catalog", "new").await.is_err());
}

#[tokio::test]
async fn sentinels_and_their_master_are_reached_by_tls() {
    let own = Authority::new().unwrap();
    let (master, folder) = (Redis::start().await.unwrap(), folder(&own));
    let known = own.front(master.address()).await.unwrap();
    let watched = Watched::watch(master, known).await.unwrap();
    let sentinel = own.front(watched.sentinel()).await.unwrap();
    let url = format!("rediss+sentinel://{sentinel}/{}", Watched::NAME);
    let server = mixer(&url, FILES, folder.path()).await;
    assert_eq!(server.mixer.findings().len(), 0, "{:?}", server.mixer.findings());
    decided_again(&server).await;
    assert!(ask(&server, "jason").await && ask(&server, "jason").await);
    assert!(!ask(&server, "jason").await, "two units and no more");
    let without = mixer(&url, "caCertificates: ca.pem", folder.path()).await;
    assert!(without.limit("catalog", "new").await.is_err());
}
