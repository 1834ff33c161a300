//! TLS to Redis: a real one behind an end of TLS that wants a certificate, since the pinned build of Redis speaks none itself.

use std::path::Path;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use testkit::redis::Redis;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::common::server::Server;
use crate::{BOUND, ask, common, granted, sample_at};

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

fn authority() -> Authority {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let pem = params.self_signed(&key).unwrap().pem();
    Authority {
        issuer: Issuer::new(params, key),
        pem,
    }
}

impl Authority {
    fn sign(&self, name: &str) -> (String, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key)
    }
}

/// The address of an end of TLS before a Redis; both sides' certificates are of the authority.
async fn secured(redis: &Redis, authority: &Authority) -> String {
    let (leaf, key) = authority.sign("127.0.0.1");
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(clients.build().unwrap())
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(leaf.as_bytes()).unwrap()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, to) = (listener.local_addr().unwrap(), redis.address());
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                if let (Ok(mut tls), Ok(mut redis)) =
                    tokio::join!(acceptor.accept(tcp), TcpStream::connect(to))
                {
                    let _ = tokio::io::copy_bidirectional(&mut tls, &mut redis).await;
                }
            });
        }
    });
    address.to_string()
}

/// A Mixer with the quota in the Redis of this address, by these parameters of `tls`.
async fn mixer(address: &str, tls: &str, folder: &Path) -> Server {
    let url = format!("rediss://{address}\n    tls: {{{tls}}}");
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
    let (redis, own, other) = (Redis::start().await.unwrap(), authority(), authority());
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("ca.pem", &own.pem);
    write("other.pem", &other.pem);
    let (leaf, key) = own.sign("mixer.test");
    write("mixer.pem", &leaf);
    write("mixer-key.pem", &key.serialize_pem());
    let address = secured(&redis, &own).await;

    let files = "caCertificates: ca.pem, clientCertificate: mixer.pem, privateKey: mixer-key.pem";
    let known = mixer(&address, files, folder.path()).await;
    assert!(known.mixer.findings().is_empty(), "{:?}", known.mixer.findings());
    assert!(ask(&known, "jason").await && ask(&known, "jason").await);
    assert!(!ask(&known, "jason").await, "two units and no more");

    for files in [
        "caCertificates: ca.pem",
        "caCertificates: other.pem, clientCertificate: mixer.pem, privateKey: mixer-key.pem",
    ] {
        let refused = mixer(&address, files, folder.path()).await;
        let answer = refused.limit("catalog", "anna").await.unwrap();
        assert!(!granted(&answer), "{files}");
        let body = String::from_utf8(answer.raw_body).unwrap();
        assert!(body.starts_with("UNAVAILABLE:Quota cannot be asked"), "{body}");
    }

    let gone = mixer(&address, "caCertificates: gone.pem", folder.path()).await;
    let said = format!("{:?}", gone.mixer.findings());
    assert!(said.contains(&address) && said.contains("gone.pem"), "{said}");
    assert!(!ask(&gone, "anna").await, "the quota is closed");
}
