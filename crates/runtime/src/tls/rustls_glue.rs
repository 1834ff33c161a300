//! rustls' traits over [`Material`] and [`verify_peer`].

use std::sync::Arc;

use rustls::client::ResolvesClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
};

use super::{ClientAuth, Expected, Material, Usage, VerifyError, provider, verify_peer};
use crate::spiffe::Peer;

/// Shows the certificate that the material has now.
#[derive(Debug)]
pub(super) struct Resolver(pub(super) Arc<dyn Material>);

impl ResolvesServerCert for Resolver {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.certified_key()
    }
}

impl ResolvesClientCert for Resolver {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.certified_key()
    }
    fn has_certs(&self) -> bool {
        self.0.certified_key().is_some()
    }
}

/// Verifies peers against the roots that the material has now.
#[derive(Debug)]
pub(super) struct Verifier {
    material: Arc<dyn Material>,
    expected: Expected,
    client_auth: ClientAuth,
}

impl Verifier {
    pub(super) fn new(material: Arc<dyn Material>, expected: Expected) -> Self {
        Self {
            material,
            expected,
            client_auth: ClientAuth::Required,
        }
    }

    pub(super) fn with_client_auth(self, client_auth: ClientAuth) -> Self {
        Self { client_auth, ..self }
    }

    fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        usage: Usage,
    ) -> Result<(), Error> {
        let peer = verify_peer(&self.material.bundle(), leaf, intermediates, now, usage);
        peer.and_then(|peer| self.expect(peer)).map_err(to_rustls)
    }

    fn expect(&self, peer: Peer) -> Result<(), VerifyError> {
        match &self.expected {
            Expected::OneOf(ids) if !ids.contains(&peer.spiffe_id) => Err(VerifyError::Unexpected {
                seen: peer.spiffe_id,
                expected: ids
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join(" or "),
            }),
            _ => Ok(()),
        }
    }
}

/// The kinds that have an alert of their own keep it; the message stays ours for the rest.
fn to_rustls(error: VerifyError) -> Error {
    Error::InvalidCertificate(match error {
        VerifyError::Chain(webpki::Error::UnknownIssuer) => CertificateError::UnknownIssuer,
        VerifyError::Chain(webpki::Error::InvalidSignatureForPublicKey) => CertificateError::BadSignature,
        VerifyError::Chain(webpki::Error::CertRevoked) => CertificateError::Revoked,
        VerifyError::Chain(webpki::Error::CertExpired { time, not_after }) => {
            CertificateError::ExpiredContext { time, not_after }
        }
        VerifyError::Chain(webpki::Error::CertNotValidYet { time, not_before }) => {
            CertificateError::NotValidYetContext { time, not_before }
        }
        VerifyError::Chain(webpki::Error::BadDer) | VerifyError::Parse(_) => CertificateError::BadEncoding,
        other => CertificateError::Other(OtherError(Arc::new(other))),
    })
}

fn tls12(
    message: &[u8],
    cert: &CertificateDer<'_>,
    dss: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, Error> {
    rustls::crypto::verify_tls12_signature(message, cert, dss, &provider().signature_verification_algorithms)
}

fn tls13(
    message: &[u8],
    cert: &CertificateDer<'_>,
    dss: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, Error> {
    rustls::crypto::verify_tls13_signature(message, cert, dss, &provider().signature_verification_algorithms)
}

fn schemes() -> Vec<SignatureScheme> {
    provider().signature_verification_algorithms.supported_schemes()
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verify(leaf, intermediates, now, Usage::Server)
            .map(|()| ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        tls12(message, cert, dss)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        tls13(message, cert, dss)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        schemes()
    }
}

impl ClientCertVerifier for Verifier {
    fn client_auth_mandatory(&self) -> bool {
        self.client_auth == ClientAuth::Required
    }
    /// No hints: roots change, and our clients have one certificate anyway.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }
    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.verify(leaf, intermediates, now, Usage::Client)
            .map(|()| ClientCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        tls12(message, cert, dss)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        tls13(message, cert, dss)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        schemes()
    }
}
