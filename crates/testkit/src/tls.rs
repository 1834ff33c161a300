//! An authority for tests, and ends of TLS that want a certificate of it: before servers that speak no TLS themselves.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// First byte of a connection that begins with TLS (RFC 8446, 5.1: a record of type handshake).
const HANDSHAKE: u8 = 22;

/// What signs certificates.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    /// A new one.
    ///
    /// # Errors
    /// No key could be made.
    pub fn new() -> anyhow::Result<Self> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key)?.pem();
        Ok(Self {
            issuer: Issuer::new(params, key),
            pem,
        })
    }

    /// Its own certificate, PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A certificate (PEM) for a host or an address, and its key.
    ///
    /// # Errors
    /// The name is none.
    pub fn sign(&self, name: &str) -> anyhow::Result<(String, KeyPair)> {
        let key = KeyPair::generate()?;
        let params = CertificateParams::new(vec![name.to_owned()])?;
        Ok((params.signed_by(&key, &self.issuer)?.pem(), key))
    }

    /// A server's end of TLS under this name, for clients with a certificate of this authority.
    ///
    /// # Errors
    /// As [`Self::sign`].
    pub fn acceptor(&self, name: &str) -> anyhow::Result<TlsAcceptor> {
        let (leaf, key) = self.sign(name)?;
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes())?)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
        let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(clients.build()?)
            .with_single_cert(vec![CertificateDer::from_pem_slice(leaf.as_bytes())?], key)?;
        Ok(TlsAcceptor::from(Arc::new(config)))
    }

    /// Puts an end of TLS before a server on loopback, and gives its address. Connections that do not begin with TLS are passed on
    /// as they are: those of the server's own kind, which know it under that address too.
    ///
    /// # Errors
    /// No port can be had.
    pub async fn front(&self, to: SocketAddr) -> anyhow::Result<SocketAddr> {
        let acceptor = self.acceptor(&to.ip().to_string())?;
        let listener = TcpListener::bind((to.ip(), 0)).await.context("no port")?;
        let address = listener.local_addr()?;
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                // A connection that fails is its client's to see.
                tokio::spawn(pass(tcp, acceptor.clone(), to));
            }
        });
        Ok(address)
    }
}

async fn pass(mut tcp: TcpStream, acceptor: TlsAcceptor, to: SocketAddr) -> std::io::Result<()> {
    let mut first = [0];
    tcp.peek(&mut first).await?;
    let mut server = TcpStream::connect(to).await?;
    if first == [HANDSHAKE] {
        let mut tls = acceptor.accept(tcp).await?;
        copy_bidirectional(&mut tls, &mut server).await?;
    } else {
        copy_bidirectional(&mut tcp, &mut server).await?;
    }
    Ok(())
}
