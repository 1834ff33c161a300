//! Credentials of Secrets at a real Envoy: plain, mutual and optional mutual TLS, and TLS that the proxy originates.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DistinguishedName,
    IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams,
};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::common::{Mesh, Tables, until};
use crate::ground::Ground;
use crate::listener;

/// An authority outside the mesh.
pub(crate) struct Outside(CertifiedIssuer<'static, KeyPair>);

/// A certificate of it, and its key.
pub(crate) struct Pair {
    pub(crate) certificate: rcgen::Certificate,
    key: KeyPair,
}

impl Outside {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn pair(&self, serial: u64) -> Pair {
        let mut params = CertificateParams::new(["web.example".to_owned()]).unwrap();
        params.serial_number = Some(serial.into());
        // With its issuer's name it would count as signed by itself.
        params.distinguished_name = DistinguishedName::new();
        let key = KeyPair::generate().unwrap();
        Pair {
            certificate: params.signed_by(&key, &self.0).unwrap(),
            key,
        }
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        Arc::new(roots)
    }

    fn revoking(&self, serial: u64) -> String {
        let revoked = RevokedCertParams {
            serial_number: serial.into(),
            revocation_time: rcgen::date_time_ymd(2020, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: rcgen::date_time_ymd(2020, 1, 1),
            next_update: rcgen::date_time_ymd(2100, 1, 1),
            crl_number: 1.into(),
            issuing_distribution_point: None,
            revoked_certs: vec![revoked],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.0).unwrap().pem().unwrap()
    }
}

impl Pair {
    fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![self.certificate.der().clone()]
    }

    fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::try_from(self.key.serialize_der()).unwrap()
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn write(mesh: &Mesh, name: &str, data: &Value) {
    let secret =
        json!({"kind": "Secret", "metadata": {"namespace": "shop", "name": name}, "stringData": data});
    let dir = mesh.path("secrets");
    citadel::ca::files::private_dir(&dir).unwrap();
    let path = dir.join(format!("{name}.json"));
    citadel::ca::files::write_atomic(&path, secret.to_string().as_bytes(), 0o600).unwrap();
}

pub(crate) fn credential(pair: &Pair, authority: &Outside) -> Value {
    json!({
        "tls.crt": pair.certificate.pem(),
        "tls.key": pair.key.serialize_pem(),
        "ca.crt": authority.0.pem(),
    })
}

/// Talks to `address` with or without a client's certificate; gives the server's.
pub(crate) async fn call(
    address: SocketAddr,
    trusts: &Outside,
    shows: Option<&Pair>,
) -> std::io::Result<CertificateDer<'static>> {
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap();
    let config = config.with_root_certificates(trusts.roots());
    let config = match shows {
        Some(pair) => config.with_client_auth_cert(pair.chain(), pair.key()).unwrap(),
        None => config.with_no_client_auth(),
    };
    let name = ServerName::try_from("web.example").unwrap();
    let tcp = TcpStream::connect(address).await?;
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, tcp).await?;
    hello(&mut stream).await?;
    Ok(stream
        .get_ref()
        .1
        .peer_certificates()
        .unwrap()
        .first()
        .unwrap()
        .clone()
        .into_owned())
}

async fn hello(stream: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin)) -> std::io::Result<()> {
    let talk = async {
        stream.write_all(b"hello").await?;
        let mut answer = [0; 5];
        stream.read_exact(&mut answer).await.map(drop)
    };
    tokio::time::timeout(Duration::from_secs(5), talk)
        .await
        .map_err(std::io::Error::other)?
}

pub(crate) async fn works(what: &str, address: SocketAddr, trusts: &Outside, shows: Option<&Pair>) {
    until(what, || async {
        call(address, trusts, shows)
            .await
            .map(drop)
            .map_err(|error| error.to_string())
    })
    .await;
}

async fn ends(what: &str, address: SocketAddr, trusts: &Outside, shows: Option<&Pair>) {
    until(what, || async {
        match call(address, trusts, shows).await {
            Ok(_) => Err("it still works".to_owned()),
            Err(_) => Ok(()),
        }
    })
    .await;
}

#[tokio::test]
async fn servers_certificates_and_clients_roots_come_from_secrets() {
    let Some(ground) = Ground::new() else { return };
    let (outside, foreign) = (Outside::new(), Outside::new());
    let (first, second) = (outside.pair(1), outside.pair(2));
    write(&ground.mesh, "web", &credential(&first, &outside));
    let citadel = ground.mesh.citadel(Duration::from_secs(3600)).await;
    let (plain, mutual, optional) = (ground.address(8443), ground.address(8444), ground.address(8445));
    let (name, roots) = ("kubernetes://web", Some("kubernetes://web-cacert"));
    let table = listener::with_tls(&ground.table(), plain, name, None, false);
    let table = listener::with_tls(&table, mutual, name, roots, true);
    let table = listener::with_tls(&table, optional, name, roots, false);
    let tables = Tables::new(ground.with_entry(&table));
    let pilot = ground.mesh.pilot(&tables).await;
    let agent = ground.agent("agent", &ground.token()).start().unwrap();

    let (client, stranger) = (outside.pair(7), foreign.pair(8));
    works("plain TLS", plain, &outside, None).await;
    works("mutual TLS", mutual, &outside, Some(&client)).await;
    works("optional TLS without", optional, &outside, None).await;
    works("optional TLS with", optional, &outside, Some(&client)).await;
    assert!(call(mutual, &outside, None).await.is_err(), "no certificate");
    assert!(
        call(mutual, &outside, Some(&stranger)).await.is_err(),
        "a foreign certificate"
    );
    assert!(
        call(optional, &outside, Some(&stranger)).await.is_err(),
        "a foreign certificate"
    );

    // A new pair and a list of revoked clients: in use without a restart.
    let mut changed = credential(&second, &outside);
    changed["ca.crl"] = outside.revoking(7).into();
    write(&ground.mesh, "web", &changed);
    ends("the revoked client refused", mutual, &outside, Some(&client)).await;
    ends("the revoked client refused", optional, &outside, Some(&client)).await;
    works("others", mutual, &outside, Some(&outside.pair(9))).await;
    assert_eq!(
        call(plain, &outside, None).await.unwrap(),
        *second.certificate.der()
    );
    // A wrong pair is told of, and the rest of the proxy goes on.
    write(
        &ground.mesh,
        "web",
        &json!({"tls.crt": first.certificate.pem(), "tls.key": second.key.serialize_pem()}),
    );
    let (orders, _context) = ground.mesh.identity("shop", "orders").await;
    ground.serves(&orders).await;
    drop(agent);
    pilot.stop().await;
    citadel.stop().await;
}

/// A server outside the mesh that wants certificates of `authority` and gives back what it gets.
async fn server(address: SocketAddr, authority: &Outside, pair: &Pair) {
    let clients = WebPkiClientVerifier::builder_with_provider(authority.roots(), provider())
        .build()
        .unwrap();
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap();
    let config = config
        .with_client_cert_verifier(clients)
        .with_single_cert(pair.chain(), pair.key())
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind(address).await.unwrap();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let mut stream = acceptor.accept(tcp).await?;
                let mut bytes = [0; 5];
                stream.read_exact(&mut bytes).await?;
                stream.write_all(&bytes).await
            });
        }
    });
}

#[tokio::test]
async fn tls_that_the_proxy_originates_shows_the_certificate_of_a_secret() {
    let Some(ground) = Ground::new() else { return };
    let (outside, foreign) = (Outside::new(), Outside::new());
    let target = ground.mesh.block.addr(22, 9443);
    server(target, &outside, &outside.pair(1)).await;
    let citadel = ground.mesh.citadel(Duration::from_secs(3600)).await;
    let way_out = ground.address(8081);
    let names = ["kubernetes://client", "kubernetes://client-cacert"];
    let table = listener::with_way_out(&ground.table(), way_out, target, names);
    let tables = Tables::new(ground.with_entry(&table));
    let pilot = ground.mesh.pilot(&tables).await;
    let agent = ground.agent("agent", &ground.token()).start().unwrap();
    let goes = || async {
        let mut stream = TcpStream::connect(way_out)
            .await
            .map_err(|error| error.to_string())?;
        hello(&mut stream).await.map_err(|error| error.to_string())
    };
    let fails = || async {
        match goes().await {
            Ok(()) => Err("it still works".to_owned()),
            Err(_) => Ok(()),
        }
    };
    // The Secret comes later than its use.
    ground.says(200, "ready").await;
    assert!(goes().await.is_err());
    write(&ground.mesh, "client", &credential(&outside.pair(5), &outside));
    until("the way out", goes).await;
    // Another authority's certificate is shown as soon as the Secret has it, and a foreign server is refused.
    write(&ground.mesh, "client", &credential(&foreign.pair(6), &outside));
    until("the server's refusal", fails).await;
    write(&ground.mesh, "client", &credential(&outside.pair(5), &outside));
    until("the way out", goes).await;
    write(&ground.mesh, "client", &credential(&outside.pair(5), &foreign));
    until("the proxy's refusal", fails).await;
    drop(agent);
    pilot.stop().await;
    citadel.stop().await;
}
