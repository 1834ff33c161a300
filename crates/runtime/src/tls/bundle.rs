//! A trust bundle: the root certificates of one trust domain.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, TrustAnchor};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::revocation::{RevocationError, Revocations};
use crate::spiffe::TrustDomain;

/// Largest PEM file of roots that is read, in bytes.
pub const MAX_PEM: u64 = 1 << 20;
/// Most roots in one bundle.
pub const MAX_ROOTS: usize = 64;

/// Roots could not be used.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The file cannot be read.
    #[error("cannot read the root certificates in {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The file is larger than [`MAX_PEM`].
    #[error("{0} is larger than {MAX_PEM} bytes: not a file of root certificates")]
    TooLarge(PathBuf),
    /// The text is not PEM.
    #[error("the root certificates are not valid PEM: {0}")]
    Pem(rustls_pki_types::pem::Error),
    /// No certificate in it.
    #[error("no CERTIFICATE block among the root certificates")]
    Empty,
    /// More than [`MAX_ROOTS`].
    #[error("more than {MAX_ROOTS} root certificates")]
    TooMany,
    /// One of them is broken.
    #[error("root certificate {index} cannot be parsed: {reason}")]
    Certificate {
        /// Which one, counted from 1.
        index: usize,
        /// What the parser says.
        reason: String,
    },
    /// One of them is not a CA's.
    #[error(
        "root certificate {index} ({subject}) is not a certificate authority's: cA is not set or keyCertSign is missing"
    )]
    NotCa {
        /// Which one, counted from 1.
        index: usize,
        /// Its subject.
        subject: String,
    },
    /// Its revocation lists.
    #[error(transparent)]
    Revocation(#[from] RevocationError),
}

/// The roots that certificates of a trust domain must lead to. Without roots nothing is trusted.
#[derive(Debug, Clone)]
pub struct TrustBundle {
    trust_domain: TrustDomain,
    aliases: Arc<[TrustDomain]>,
    roots: Vec<CertificateDer<'static>>,
    anchors: Vec<TrustAnchor<'static>>,
    revocations: Option<Arc<Revocations>>,
}

impl PartialEq for TrustBundle {
    fn eq(&self, other: &Self) -> bool {
        self.trust_domain == other.trust_domain
            && self.aliases == other.aliases
            && self.roots == other.roots
            && self.revocations == other.revocations
    }
}

impl TrustBundle {
    /// A bundle of DER certificates; a root given twice counts once.
    ///
    /// # Errors
    /// When one is not a certificate authority's, or there are more than [`MAX_ROOTS`].
    pub fn new(
        trust_domain: TrustDomain,
        certificates: impl IntoIterator<Item = CertificateDer<'static>>,
    ) -> Result<Self, BundleError> {
        let mut roots: Vec<CertificateDer<'static>> = Vec::new();
        let mut anchors = Vec::new();
        for (index, root) in certificates.into_iter().enumerate() {
            if roots.contains(&root) {
                continue;
            }
            if roots.len() == MAX_ROOTS {
                return Err(BundleError::TooMany);
            }
            anchors.push(check_root(&root, index + 1)?);
            roots.push(root);
        }
        Ok(Self {
            trust_domain,
            aliases: Arc::default(),
            roots,
            anchors,
            revocations: None,
        })
    }

    /// The bundle with these revocation lists (PEM) in place of its own; an empty text takes them away. `leaf_only`: they
    /// speak of leaves, not of the authorities between those and a root.
    ///
    /// # Errors
    /// When the lists cannot be used.
    pub fn with_revocations(self, pem: &str, leaf_only: bool) -> Result<Self, BundleError> {
        let revocations = match pem.is_empty() {
            true => None,
            false => Some(Arc::new(Revocations::from_pem(pem, leaf_only)?)),
        };
        Ok(Self { revocations, ..self })
    }

    /// The bundle with other names of its trust domain: certificates with them are of the same mesh.
    #[must_use]
    pub fn with_aliases(self, aliases: impl IntoIterator<Item = TrustDomain>) -> Self {
        Self {
            aliases: aliases.into_iter().collect(),
            ..self
        }
    }

    /// The bundle with another's revocation lists and aliases: of the same mesh, told apart from the roots.
    #[must_use]
    pub fn inherit(self, from: &Self) -> Self {
        Self {
            aliases: from.aliases.clone(),
            revocations: from.revocations.clone(),
            ..self
        }
    }

    /// A bundle from PEM text with at least one certificate; other blocks are an error of the file's and are ignored.
    ///
    /// # Errors
    /// When the text is not PEM, has no certificate, or one that is not a certificate authority's.
    pub fn from_pem(trust_domain: TrustDomain, text: &[u8]) -> Result<Self, BundleError> {
        let certificates: Vec<_> = CertificateDer::pem_slice_iter(text)
            .collect::<Result<_, _>>()
            .map_err(BundleError::Pem)?;
        if certificates.is_empty() {
            return Err(BundleError::Empty);
        }
        Self::new(trust_domain, certificates)
    }

    /// A bundle from a PEM file.
    ///
    /// # Errors
    /// When it cannot be read, is larger than [`MAX_PEM`], or as [`TrustBundle::from_pem`].
    pub async fn load(trust_domain: TrustDomain, path: &Path) -> Result<Self, BundleError> {
        let read = |source| BundleError::Read {
            path: path.to_owned(),
            source,
        };
        if tokio::fs::metadata(path).await.map_err(read)?.len() > MAX_PEM {
            return Err(BundleError::TooLarge(path.to_owned()));
        }
        Self::from_pem(trust_domain, &tokio::fs::read(path).await.map_err(read)?)
    }

    /// Other roots first, then this bundle's.
    ///
    /// # Errors
    /// As [`TrustBundle::new`].
    pub fn behind(
        &self,
        first: impl IntoIterator<Item = CertificateDer<'static>>,
    ) -> Result<Self, BundleError> {
        let roots = first.into_iter().chain(self.roots.iter().cloned());
        Ok(Self::new(self.trust_domain.clone(), roots)?.inherit(self))
    }

    /// The trust domain.
    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// Other names of the trust domain.
    #[must_use]
    pub fn aliases(&self) -> &[TrustDomain] {
        &self.aliases
    }

    /// Whether certificates of this trust domain are this mesh's.
    #[must_use]
    pub fn accepts(&self, trust_domain: &TrustDomain) -> bool {
        *trust_domain == self.trust_domain || self.aliases.contains(trust_domain)
    }

    /// The revocation lists, in PEM: what Envoy's `crl` takes; empty where nothing is revoked.
    #[must_use]
    pub fn crl_pem(&self) -> &str {
        self.revocations.as_deref().map_or("", Revocations::pem)
    }

    /// Whether the lists speak of leaves alone: Envoy's `only_verify_leaf_cert_crl`.
    #[must_use]
    pub fn crl_leaf_only(&self) -> bool {
        self.revocations.as_deref().is_some_and(Revocations::leaf_only)
    }

    pub(super) fn revocations(&self) -> Option<&Revocations> {
        self.revocations.as_deref()
    }

    /// The roots, in DER.
    #[must_use]
    pub fn roots(&self) -> &[CertificateDer<'static>] {
        &self.roots
    }

    /// The roots as webpki's trust anchors.
    pub(crate) fn anchors(&self) -> &[TrustAnchor<'static>] {
        &self.anchors
    }

    /// The roots, in PEM.
    #[must_use]
    pub fn to_pem(&self) -> String {
        certificates_to_pem(&self.roots)
    }
}

/// Certificates as PEM blocks, one after the other.
#[must_use]
pub fn certificates_to_pem(certificates: &[CertificateDer<'_>]) -> String {
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    let block =
        |der: &CertificateDer<'_>| pem::encode_config(&pem::Pem::new("CERTIFICATE", der.to_vec()), config);
    certificates.iter().map(block).collect()
}

fn check_root(der: &CertificateDer<'static>, index: usize) -> Result<TrustAnchor<'static>, BundleError> {
    let broken = |reason: String| BundleError::Certificate { index, reason };
    let (_, certificate) = X509Certificate::from_der(der).map_err(|e| broken(e.to_string()))?;
    let signs = certificate
        .key_usage()
        .map_err(|e| broken(e.to_string()))?
        .is_none_or(|u| u.value.key_cert_sign());
    if !certificate.is_ca() || !signs {
        return Err(BundleError::NotCa {
            index,
            subject: certificate.subject().to_string(),
        });
    }
    let anchor = webpki::anchor_from_trusted_cert(der).map_err(|e| broken(e.to_string()))?;
    Ok(anchor.to_owned())
}
