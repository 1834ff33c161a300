//! Credentials on the wire: who hears what, and how soon.
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

use proto::trust::credential::Result as Outcome;
use proto::trust::credential_service_client::CredentialServiceClient;
use proto::trust::{Credential, WatchCredentialsRequest};
use rcgen::{CertificateParams, KeyPair};
use runtime::{Identity, SpiffeId, TrustDomain, grpc, tls};
use support::{Anonymous, Mesh, PATIENCE, admin, spiffe, stolen};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

/// Writes a Secret of namespace shop with a new certificate, which is returned.
fn write_secret(mesh: &Mesh, name: &str) -> String {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(["shop.example".to_owned()])
        .unwrap()
        .self_signed(&key)
        .unwrap();
    let indented = |pem: &str| pem.trim_end().replace('\n', "\n    ");
    let text = format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: shop}}\ntype: kubernetes.io/tls\nstringData:\n  \
         tls.crt: |\n    {}\n  tls.key: |\n    {}\n",
        indented(&certificate.pem()),
        indented(&key.serialize_pem())
    );
    let path = mesh.path("secrets").join(format!("{name}.yaml"));
    citadel::ca::files::write_atomic(&path, text.as_bytes(), 0o600).unwrap();
    certificate.pem()
}

async fn citadel(mesh: &Mesh) -> support::Running {
    citadel::ca::files::private_dir(&mesh.path("secrets")).unwrap();
    let args = citadel::Args {
        secrets_dir: Some(mesh.path("secrets")),
        ..mesh.args()
    };
    mesh.citadel_on(TcpListener::bind("127.0.0.1:0").await.unwrap(), args)
        .await
}

/// A proxy's stream.
struct Stream {
    wanted: mpsc::Sender<WatchCredentialsRequest>,
    answers: Streaming<Credential>,
}

fn channel(identity: &Identity, citadel: &support::Running) -> Channel {
    let expected = SpiffeId::system(&TrustDomain::default(), "citadel").unwrap();
    let connector = tls::connector(identity, expected).unwrap();
    grpc::channel(&citadel.address.to_string(), Some(connector)).unwrap()
}

impl Stream {
    async fn open(identity: &Identity, citadel: &support::Running) -> Result<Self, Status> {
        Self::on(channel(identity, citadel)).await
    }

    /// On a connection that may carry others.
    async fn on(channel: Channel) -> Result<Self, Status> {
        let (wanted, requests) = mpsc::channel(4);
        let mut client = CredentialServiceClient::new(channel);
        let answers = client
            .watch_credentials(ReceiverStream::new(requests))
            .await?
            .into_inner();
        Ok(Self { wanted, answers })
    }

    async fn want(&self, names: &[&str]) {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        self.wanted.send(WatchCredentialsRequest { names }).await.unwrap();
    }

    async fn next(&mut self) -> (String, Outcome) {
        let next = tokio::time::timeout(PATIENCE, self.answers.message())
            .await
            .expect("no answer");
        let credential = next.unwrap().unwrap();
        (credential.name, credential.result.unwrap())
    }

    /// The first answer that is a key pair: the Secret's file may be younger than the last look at the folder.
    async fn key_pair(&mut self) {
        while !matches!(self.next().await.1, Outcome::KeyPair(_)) {}
    }

    /// How the stream ends.
    async fn end(&mut self) -> Option<Status> {
        let ending = async {
            loop {
                match self.answers.message().await {
                    Ok(Some(_)) => {}
                    Ok(None) => return None,
                    Err(status) => return Some(status),
                }
            }
        };
        tokio::time::timeout(PATIENCE, ending)
            .await
            .expect("the stream goes on")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn istio_security_2021_007_a_gateway_gets_its_secrets_and_each_change_and_nobody_elses() {
    let mesh = Mesh::new();
    let citadel = citadel(&mesh).await;
    let first = write_secret(&mesh, "web");
    let gateway = mesh.identity(citadel.address, "shop", "gateway").await;
    let mut stream = Stream::open(&gateway, &citadel).await.unwrap();
    stream.want(&["kubernetes://web"]).await;
    let mut seen = stream.next().await;
    // The file may be younger than the last look at the folder.
    if matches!(seen.1, Outcome::Missing(_)) {
        seen = stream.next().await;
    }
    let chain = |outcome: &Outcome| match outcome {
        Outcome::KeyPair(pair) => pair.chain.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!((seen.0.as_str(), chain(&seen.1)), ("kubernetes://web", first));
    let second = write_secret(&mesh, "web");
    assert_eq!(chain(&stream.next().await.1), second);
    std::fs::remove_file(mesh.path("secrets/web.yaml")).unwrap();
    assert!(matches!(stream.next().await.1, Outcome::Missing(_)));
    write_secret(&mesh, "web");
    chain(&stream.next().await.1);

    let stranger = mesh.identity(citadel.address, "bank", "gateway").await;
    let mut stream = Stream::open(&stranger, &citadel).await.unwrap();
    stream.want(&["kubernetes://shop/web", "kubernetes://web"]).await;
    for _ in 0..2 {
        let (name, outcome) = stream.next().await;
        assert!(matches!(outcome, Outcome::Missing(_)), "{name}: {outcome:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_certificate_or_with_too_many_names_there_is_nothing() {
    let mesh = Mesh::new();
    let citadel = citadel(&mesh).await;
    let gateway = mesh.identity(citadel.address, "shop", "gateway").await;
    let mut stream = Stream::open(&gateway, &citadel).await.unwrap();
    let many: Vec<String> = (0..1001).map(|n| format!("kubernetes://s{n}")).collect();
    stream
        .wanted
        .send(WatchCredentialsRequest { names: many })
        .await
        .unwrap();
    let refused = tokio::time::timeout(PATIENCE, stream.answers.message())
        .await
        .unwrap();
    assert_eq!(refused.unwrap_err().code(), Code::ResourceExhausted);

    let expected = SpiffeId::system(&TrustDomain::default(), "citadel").unwrap();
    let nobody = std::sync::Arc::new(Anonymous(std::sync::Arc::new(mesh.bundle())));
    let config = tls::client(nobody, expected).unwrap();
    let channel = grpc::channel(&citadel.address.to_string(), Some(tls::Connector::new(config))).unwrap();
    let (_open, requests) = mpsc::channel::<WatchCredentialsRequest>(1);
    let mut client = CredentialServiceClient::new(channel);
    let refused = client.watch_credentials(ReceiverStream::new(requests));
    let refused = tokio::time::timeout(Duration::from_secs(10), refused)
        .await
        .unwrap();
    assert_eq!(refused.unwrap_err().code(), Code::Unauthenticated);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_certificate_gets_no_key_on_a_connection_that_is_open() {
    let mesh = Mesh::new();
    let citadel = citadel(&mesh).await;
    write_secret(&mesh, "web");
    let refused = |status: Status| {
        assert_eq!(status.code(), Code::Unauthenticated, "{status}");
        assert!(status.message().contains("revoked"), "{status}");
    };
    let id = spiffe("shop", "gateway");
    // The second one was issued after all of the identity's were revoked, so that it counts until it is revoked itself.
    for by in ["identity", "serial"] {
        let gateway = stolen(&mesh.identity(citadel.address, "shop", "gateway").await);
        let open = channel(&gateway, &citadel);
        let mut stream = Stream::on(open.clone()).await.unwrap();
        stream.want(&["kubernetes://web"]).await;
        stream.key_pair().await;

        let which = match by {
            "identity" => id.to_string(),
            _ => gateway.current().serial().to_owned(),
        };
        let (status, state) = admin(&citadel.context, "PUT", &format!("/ca/revoke?{by}={which}")).await;
        assert_eq!(status, 200, "{state}");
        refused(stream.end().await.expect("an error"));
        // The connection itself is still there: a new one would not get through the handshake.
        refused(Stream::on(open).await.err().expect("a second stream"));
    }
    let again = mesh.identity(citadel.address, "shop", "gateway").await;
    let mut stream = Stream::open(&again, &citadel).await.unwrap();
    stream.want(&["kubernetes://web"]).await;
    stream.key_pair().await;
}
