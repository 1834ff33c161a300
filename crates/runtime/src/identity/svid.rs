//! An X.509-SVID in hand: certificate chain, private key, and the roots of its trust domain.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::UnixTime;
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

use crate::spiffe::SpiffeId;
use crate::tls::bundle::certificates_to_pem;
use crate::tls::{TrustBundle, Usage, VerifyError, provider, verify_peer};

/// A key and a chain that do not make an identity.
#[derive(Debug, thiserror::Error)]
pub enum SvidError {
    /// No certificate at all.
    #[error("no certificate in the chain")]
    Empty,
    /// The chain does not verify against the roots.
    #[error("the certificate does not verify: {0}")]
    Verify(#[from] VerifyError),
    /// The key cannot be used, or is not the certificate's.
    #[error("the private key does not fit the certificate: {0}")]
    Key(rustls::Error),
}

/// An identity's certificate, key and roots. Immutable; a renewal makes a new one.
pub struct Svid {
    id: SpiffeId,
    chain: Vec<CertificateDer<'static>>,
    key: Zeroizing<Vec<u8>>,
    bundle: Arc<TrustBundle>,
    serial: String,
    not_before: i64,
    not_after: i64,
    certified: Arc<CertifiedKey>,
    /// Why peers by these roots and lists refuse it, whatever the time is.
    refused: Option<VerifyError>,
}

impl fmt::Debug for Svid {
    /// Never the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Svid")
            .field("id", &self.id)
            .field("serial", &self.serial)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

impl Svid {
    /// Joins a key (PKCS #8, DER), its chain (leaf first, without the root) and the roots, and verifies that they fit.
    ///
    /// # Errors
    /// When the chain does not verify at `now`, or the key is not the leaf's.
    pub fn new(
        key: Zeroizing<Vec<u8>>,
        chain: Vec<CertificateDer<'static>>,
        bundle: Arc<TrustBundle>,
        now: UnixTime,
    ) -> Result<Self, SvidError> {
        let (leaf, intermediates) = chain.split_first().ok_or(SvidError::Empty)?;
        let peer = verify_peer(&bundle, leaf, intermediates, now, Usage::Server)?;
        verify_peer(&bundle, leaf, intermediates, now, Usage::Client)?;
        let parsed = X509Certificate::from_der(leaf)
            .map_err(|e| VerifyError::Parse(e.to_string()))?
            .1;
        let serial = parsed.tbs_certificate.raw_serial_as_string();
        let not_before = parsed.validity().not_before.timestamp();
        let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.to_vec()));
        let signing = provider()
            .key_provider
            .load_private_key(private)
            .map_err(SvidError::Key)?;
        let certified = CertifiedKey::new(chain.clone(), signing);
        certified.keys_match().map_err(SvidError::Key)?;
        Ok(Self {
            id: peer.spiffe_id,
            not_after: peer.not_after,
            certified: Arc::new(certified),
            chain,
            key,
            bundle,
            serial,
            not_before,
            refused: None,
        })
    }

    /// The same certificate with other roots and lists of revoked certificates, by which it may be refused from now on.
    #[must_use]
    pub fn with_bundle(&self, bundle: Arc<TrustBundle>) -> Self {
        Self {
            refused: self.judge(&bundle).err(),
            id: self.id.clone(),
            chain: self.chain.clone(),
            key: self.key.clone(),
            bundle,
            serial: self.serial.clone(),
            certified: self.certified.clone(),
            ..*self
        }
    }

    /// What a peer with this bundle says of the chain at a time at which it holds.
    fn judge(&self, bundle: &TrustBundle) -> Result<(), VerifyError> {
        let seconds = super::renew::unix_now().clamp(self.not_before, self.not_after.max(self.not_before));
        let at = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
        let Some((leaf, intermediates)) = self.chain.split_first() else {
            return Ok(());
        };
        verify_peer(
            bundle,
            leaf,
            intermediates,
            UnixTime::since_unix_epoch(at),
            Usage::Client,
        )
        .map(drop)
    }

    /// Why the mesh refuses this certificate although it has not ended: it was revoked, or its authority is trusted no more.
    /// Only another one helps, and nothing can be had by showing this one.
    #[must_use]
    pub fn refused(&self) -> Option<&VerifyError> {
        self.refused.as_ref()
    }

    /// Whose it is.
    #[must_use]
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// The chain in DER: the leaf first, then intermediates, without the root.
    #[must_use]
    pub fn chain_der(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// The chain in PEM, as [`Svid::chain_der`]: what Envoy's `certificate_chain` takes.
    #[must_use]
    pub fn chain_pem(&self) -> String {
        certificates_to_pem(&self.chain)
    }

    /// The private key: PKCS #8, DER.
    #[must_use]
    pub fn key_der(&self) -> &[u8] {
        &self.key
    }

    /// The private key: PKCS #8, PEM; wiped when dropped. What Envoy's `private_key` takes.
    #[must_use]
    pub fn key_pem(&self) -> Zeroizing<String> {
        let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
        Zeroizing::new(pem::encode_config(
            &pem::Pem::new("PRIVATE KEY", self.key.to_vec()),
            config,
        ))
    }

    /// The roots of the trust domain.
    #[must_use]
    pub fn bundle(&self) -> &Arc<TrustBundle> {
        &self.bundle
    }

    /// The roots in PEM: what Envoy's `trusted_ca` takes.
    #[must_use]
    pub fn roots_pem(&self) -> String {
        self.bundle.to_pem()
    }

    /// The leaf's serial number, in hexadecimal with colons.
    #[must_use]
    pub fn serial(&self) -> &str {
        &self.serial
    }

    /// When the leaf begins to hold, in seconds since 1970.
    #[must_use]
    pub fn not_before(&self) -> i64 {
        self.not_before
    }

    /// When the leaf ends, in seconds since 1970.
    #[must_use]
    pub fn not_after(&self) -> i64 {
        self.not_after
    }

    /// Chain and key as rustls takes them.
    #[must_use]
    pub fn certified_key(&self) -> Arc<CertifiedKey> {
        self.certified.clone()
    }
}
