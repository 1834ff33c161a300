//! Mutual TLS between SPIFFE identities for rustls and tonic: certificates and roots are looked up at each handshake, so
//! that a renewed identity or a new root counts from the next connection on. Sessions are never resumed, because a
//! resumed session would not be verified again.

pub mod bundle;
mod connector;
mod explain;
pub mod revocation;
mod rustls_glue;
pub mod verify;

use std::fmt::Debug;
use std::sync::{Arc, LazyLock};

use rustls::crypto::CryptoProvider;
use rustls::server::ResolvesServerCert;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, ServerConfig};

pub use bundle::{BundleError, TrustBundle};
pub use connector::{ConnectError, Connector};
pub use revocation::RevocationError;
pub use verify::{Usage, VerifyError, read_peer, read_serial, verify_peer};

pub(crate) use explain::explain;

use crate::identity::Identity;
use crate::spiffe::SpiffeId;
use rustls_glue::{Resolver, Verifier};

/// The cryptography in use: aws-lc.
pub(crate) fn provider() -> &'static Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    &PROVIDER
}

/// Who may be at the other end. The trust domain and the chain are verified whatever this says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// Anyone of the trust domain.
    Any,
    /// One of these ids; an empty list lets nobody in.
    OneOf(Vec<SpiffeId>),
}

impl From<SpiffeId> for Expected {
    fn from(id: SpiffeId) -> Self {
        Self::OneOf(vec![id])
    }
}

/// Whether a client must show a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    /// A client without a valid certificate is refused in the handshake.
    Required,
    /// A client may come without one; an invalid one is refused.
    Optional,
}

/// What a handshake needs: the roots to trust and the certificate to show, as they are now.
pub trait Material: Debug + Send + Sync + 'static {
    /// The roots.
    fn bundle(&self) -> Arc<TrustBundle>;
    /// The certificate and key to show, when there is one.
    fn certified_key(&self) -> Option<Arc<CertifiedKey>>;
}

/// TLS could not be configured: a fault of the program or of the cryptography library.
#[derive(Debug, thiserror::Error)]
#[error("TLS cannot be configured: {0}")]
pub struct ConfigError(#[from] rustls::Error);

/// A server's configuration: shows the identity's certificate, verifies clients, speaks HTTP/2.
///
/// # Errors
/// When the cryptography library refuses its own defaults.
pub fn server(identity: &Identity, clients: ClientAuth) -> Result<Arc<ServerConfig>, ConfigError> {
    let material: Arc<dyn Material> = Arc::new(identity.clone());
    let verifier = Verifier::new(material.clone(), Expected::Any).with_client_auth(clients);
    let mut config = ServerConfig::builder_with_provider(provider().clone())
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(Arc::new(Resolver(material)));
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// A server's configuration for callers outside the mesh, who show no certificate and check the server's by its DNS name:
/// HTTP/2 and HTTP/1.1 with the certificate that `resolver` has at each handshake.
///
/// # Errors
/// When the cryptography library refuses its own defaults.
pub fn https(resolver: Arc<dyn ResolvesServerCert>) -> Result<Arc<ServerConfig>, ConfigError> {
    let mut config = ServerConfig::builder_with_provider(provider().clone())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// A client's configuration: shows the material's certificate when asked, accepts only the expected servers, speaks
/// HTTP/2.
///
/// # Errors
/// When the cryptography library refuses its own defaults.
pub fn client(
    material: Arc<dyn Material>,
    expected: impl Into<Expected>,
) -> Result<Arc<ClientConfig>, ConfigError> {
    let verifier = Verifier::new(material.clone(), expected.into());
    let mut config = ClientConfig::builder_with_provider(provider().clone())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_cert_resolver(Arc::new(Resolver(material)));
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    config.enable_sni = false;
    Ok(Arc::new(config))
}

/// A connector for tonic that shows the identity's certificate and accepts only the expected servers.
///
/// # Errors
/// When the cryptography library refuses its own defaults.
pub fn connector(identity: &Identity, expected: impl Into<Expected>) -> Result<Connector, ConfigError> {
    Ok(Connector::new(client(Arc::new(identity.clone()), expected)?))
}
