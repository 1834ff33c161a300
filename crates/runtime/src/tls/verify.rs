//! Verification of a peer's certificate chain by the rules of SPIFFE X.509-SVID (sections 4 and 5): a path to a root of
//! the trust domain, a leaf that is one, exactly one URI SAN. Host names play no part.

use rustls::pki_types::UnixTime;
use rustls_pki_types::CertificateDer;
use webpki::{EndEntityCert, KeyUsage};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::bundle::TrustBundle;
use super::revocation::Revocations;
use crate::spiffe::{Peer, SpiffeId, SpiffeIdError, TrustDomain};

/// Most intermediate certificates that a peer may send.
const MAX_INTERMEDIATES: usize = 8;

/// What a peer shows its certificate for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// It accepted our connection.
    Server,
    /// It connected to us.
    Client,
}

/// Why a certificate is not a valid identity.
#[derive(Debug, Clone, thiserror::Error)]
pub enum VerifyError {
    /// No path to a root of the bundle, a time that is not within it, or a signature that does not hold.
    #[error("certificate chain: {}", explain(.0))]
    Chain(webpki::Error),
    /// More than eight intermediates.
    #[error("certificate chain: more than {MAX_INTERMEDIATES} intermediate certificates")]
    TooLong,
    /// Not an X.509 certificate.
    #[error("certificate cannot be parsed: {0}")]
    Parse(String),
    /// The leaf could sign certificates.
    #[error("not a leaf certificate: {0} (X.509-SVID, section 4)")]
    NotLeaf(&'static str),
    /// Not exactly one URI SAN.
    #[error("certificate has {0} URI SANs; a SPIFFE identity has exactly one")]
    UriSans(usize),
    /// The URI SAN is not a SPIFFE id.
    #[error("URI SAN of the certificate: {0}")]
    Id(#[from] SpiffeIdError),
    /// The SPIFFE id names the trust domain and no workload.
    #[error("{0} names no workload: its path is empty")]
    NoPath(SpiffeId),
    /// Another trust domain than the bundle's.
    #[error("{id} is not of the trust domain {expected}")]
    TrustDomain {
        /// Whose certificate it is.
        id: SpiffeId,
        /// The bundle's trust domain.
        expected: TrustDomain,
    },
    /// Valid, but somebody else.
    #[error("the peer is {seen}, expected was {expected}")]
    Unexpected {
        /// Whose certificate it is.
        seen: SpiffeId,
        /// Who may be there.
        expected: String,
    },
}

fn explain(error: &webpki::Error) -> String {
    match error {
        webpki::Error::CertExpired { time, not_after } => {
            let ago = time.as_secs().saturating_sub(not_after.as_secs());
            format!("expired {ago} s ago; if that is not so, check the clocks")
        }
        webpki::Error::CertNotValidYet { time, not_before } => {
            let ahead = not_before.as_secs().saturating_sub(time.as_secs());
            format!("valid only in {ahead} s; check the clocks")
        }
        webpki::Error::CertRevoked => "it was revoked by its issuer; a new one is needed".into(),
        webpki::Error::UnknownIssuer => "issued by no root of the trust bundle".into(),
        webpki::Error::InvalidSignatureForPublicKey => {
            "its issuer has the name of a trusted root, but not its key".into()
        }
        webpki::Error::NameConstraintViolation => {
            "one of its names is outside of the name constraints of an authority above it (RFC 5280, section 4.2.1.10); authorities that sign for workloads have none, or such as let all their names pass".into()
        }
        other => other.to_string(),
    }
}

/// Verifies `leaf` and gives whose it is.
///
/// # Errors
/// When a rule is broken; the message says which.
pub fn verify_peer(
    bundle: &TrustBundle,
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    now: UnixTime,
    usage: Usage,
) -> Result<Peer, VerifyError> {
    if intermediates.len() > MAX_INTERMEDIATES {
        return Err(VerifyError::TooLong);
    }
    let usage = match usage {
        Usage::Server => KeyUsage::server_auth(),
        Usage::Client => KeyUsage::client_auth(),
    };
    let certificate = EndEntityCert::try_from(leaf).map_err(VerifyError::Chain)?;
    let algorithms = super::provider().signature_verification_algorithms.all;
    Revocations::with_options(bundle.revocations(), |revocation| {
        let path = certificate.verify_for_usage(
            algorithms,
            bundle.anchors(),
            intermediates,
            now,
            usage,
            revocation,
            None,
        );
        path.map(drop)
    })
    .map_err(VerifyError::Chain)?;
    let peer = read_peer(leaf)?;
    if !bundle.accepts(peer.spiffe_id.trust_domain()) {
        return Err(VerifyError::TrustDomain {
            id: peer.spiffe_id,
            expected: bundle.trust_domain().clone(),
        });
    }
    Ok(peer)
}

/// Reads whose certificate this is, by the rules for leaves, without verifying its signature.
///
/// # Errors
/// When it breaks a rule for leaves.
pub fn read_peer(leaf: &CertificateDer<'_>) -> Result<Peer, VerifyError> {
    let (_, certificate) = X509Certificate::from_der(leaf).map_err(|e| VerifyError::Parse(e.to_string()))?;
    check_leaf(&certificate)?;
    let id = uri_san(&certificate)?;
    if id.path().is_empty() {
        return Err(VerifyError::NoPath(id));
    }
    Ok(Peer {
        spiffe_id: id,
        not_after: certificate.validity().not_after.timestamp(),
    })
}

/// A certificate's serial number in hexadecimal with colons, as openssl prints it; `None` when it cannot be parsed.
#[must_use]
pub fn read_serial(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    Some(parsed.tbs_certificate.raw_serial_as_string())
}

fn check_leaf(certificate: &X509Certificate<'_>) -> Result<(), VerifyError> {
    let parse = |e: x509_parser::error::X509Error| VerifyError::Parse(e.to_string());
    if certificate
        .basic_constraints()
        .map_err(parse)?
        .is_some_and(|b| b.value.ca)
    {
        return Err(VerifyError::NotLeaf("cA is set"));
    }
    let usage = certificate.key_usage().map_err(parse)?;
    let Some(usage) = usage else {
        return Err(VerifyError::NotLeaf("it has no key usage"));
    };
    if usage.value.key_cert_sign() || usage.value.crl_sign() {
        return Err(VerifyError::NotLeaf(
            "its key usage allows keyCertSign or cRLSign",
        ));
    }
    if !usage.value.digital_signature() {
        return Err(VerifyError::NotLeaf("its key usage lacks digitalSignature"));
    }
    Ok(())
}

fn uri_san(certificate: &X509Certificate<'_>) -> Result<SpiffeId, VerifyError> {
    let san = certificate
        .subject_alternative_name()
        .map_err(|e| VerifyError::Parse(e.to_string()))?;
    let names = san
        .map(|san| san.value.general_names.as_slice())
        .unwrap_or_default();
    let uris: Vec<&str> = names
        .iter()
        .filter_map(|n| {
            if let GeneralName::URI(u) = n {
                Some(*u)
            } else {
                None
            }
        })
        .collect();
    match uris.as_slice() {
        [uri] => Ok(SpiffeId::parse(uri)?),
        other => Err(VerifyError::UriSans(other.len())),
    }
}
