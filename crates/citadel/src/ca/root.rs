//! The mesh's root: a key and a self-signed certificate, kept as two files and made at the first start.

use std::fmt;
use std::path::{Path, PathBuf};

use rcgen::{Issuer, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};
use runtime::spiffe::{SpiffeId, TrustDomain};
use runtime::tls::bundle::certificates_to_pem;
use runtime::tls::{BundleError, TrustBundle, Usage, VerifyError, verify_peer};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, UnixTime};
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::files::{self, FileError};
use super::key::Key;
use super::leaf::IssueError;
use super::profile;

/// Name of the key's file in the CA's folder: PKCS #8 or SEC1, PEM, mode 0600.
pub const KEY_FILE: &str = "root-key.pem";
/// Name of the certificate's file in the CA's folder: PEM.
pub const CERT_FILE: &str = "root-cert.pem";

/// The root could not be had. Nothing is overwritten: the files are as they were.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The certificate without its key.
    #[error(
        "{0} is there without {KEY_FILE}: put the key back, or move the certificate away to have a new root made"
    )]
    KeyMissing(PathBuf),
    /// The key file's contents.
    #[error(
        "{path}: not a private key that can sign ({reason}); wanted is an unencrypted PEM key, ECDSA P-256, P-384 or RSA"
    )]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The certificate file's contents.
    #[error("{path}: {reason}")]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The certificate cannot be a root.
    #[error("{path}: {source}")]
    NotRoot {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: BundleError,
    },
    /// Key and certificate do not belong together.
    #[error("{key} is not the key of {certificate}: the two files are of different roots")]
    WrongPair {
        /// The key's file.
        key: PathBuf,
        /// The certificate's file.
        certificate: PathBuf,
    },
    /// A certificate signed by this root does not verify.
    #[error("{path}: a certificate signed by this root would not verify: {source}")]
    Unusable {
        /// The certificate's file.
        path: PathBuf,
        /// Why not.
        source: VerifyError,
    },
    /// Signing a trial certificate failed.
    #[error("{path}: {source}")]
    Trial {
        /// The certificate's file.
        path: PathBuf,
        /// Why.
        source: IssueError,
    },
    /// A root could not be made.
    #[error("cannot make a root: {0}")]
    Make(#[from] rcgen::Error),
}

/// The mesh's root certificate and its key.
pub struct Root {
    pub(super) issuer: Issuer<'static, Key>,
    pub(super) not_before: OffsetDateTime,
    pub(super) not_after: OffsetDateTime,
    bundle: TrustBundle,
    certificate: CertificateDer<'static>,
    created: bool,
}

impl fmt::Debug for Root {
    /// Never the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Root")
            .field("trust_domain", self.trust_domain())
            .field("not_after", &self.not_after)
            .finish()
    }
}

/// Where a root's parts come from, for messages.
struct Paths {
    key: PathBuf,
    certificate: PathBuf,
}

impl Root {
    /// Loads the root from `dir`, or makes one there: folder 0700, key 0600, each file written whole or not at all. Of
    /// several first starts at once one makes the root and the others load it.
    ///
    /// # Errors
    /// When files are there that cannot be used: they are never replaced. A key alone gets a new certificate, because
    /// the first start may have ended between the two files.
    pub fn load_or_create(dir: &Path, trust_domain: &TrustDomain) -> Result<Self, RootError> {
        files::private_dir(dir)?;
        let paths = Paths {
            key: dir.join(KEY_FILE),
            certificate: dir.join(CERT_FILE),
        };
        // A folder that has both is only read, so it may be read-only.
        let _lock = match paths.key.exists() && paths.certificate.exists() {
            true => None,
            false => Some(files::lock(dir)?),
        };
        match (files::read_private(&paths.key)?, files::read(&paths.certificate)?) {
            (Some(key), Some(certificate)) => Self::load(&paths, &key, &certificate, trust_domain),
            (Some(key), None) => Self::certify(&paths, load_key(&paths, &key)?, trust_domain),
            (None, Some(_)) => Err(RootError::KeyMissing(paths.certificate)),
            (None, None) => {
                let key = Key::generate()?;
                files::write_atomic(&paths.key, key.to_pem().as_bytes(), 0o600)?;
                Self::certify(&paths, key, trust_domain)
            }
        }
    }

    /// Makes and keeps a certificate for the key.
    fn certify(paths: &Paths, key: Key, trust_domain: &TrustDomain) -> Result<Self, RootError> {
        let now = now();
        let certificate = profile::root(trust_domain, now)?.self_signed(&key)?;
        files::write_atomic(&paths.certificate, certificate.pem().as_bytes(), 0o644)?;
        let root = Self::assemble(paths, key, certificate.der().clone(), trust_domain, now)?;
        Ok(Self {
            created: true,
            ..root
        })
    }

    fn load(
        paths: &Paths,
        key: &[u8],
        certificate: &[u8],
        trust_domain: &TrustDomain,
    ) -> Result<Self, RootError> {
        let wrong = |reason: String| RootError::Certificate {
            path: paths.certificate.clone(),
            reason,
        };
        let mut found: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(certificate)
            .collect::<Result<_, _>>()
            .map_err(|e| wrong(format!("not valid PEM: {e}")))?;
        let root = match (found.pop(), found.len()) {
            (Some(root), 0) => root,
            (None, _) => return Err(wrong("holds no CERTIFICATE block".into())),
            (Some(_), more) => {
                return Err(wrong(format!(
                    "holds {} certificates; one is wanted, the root",
                    more + 1
                )));
            }
        };
        Self::assemble(paths, load_key(paths, key)?, root, trust_domain, now())
    }

    /// Joins the parts and tries them: a wrong pair or an odd root is found now and not by a workload.
    fn assemble(
        paths: &Paths,
        key: Key,
        der: CertificateDer<'static>,
        trust_domain: &TrustDomain,
        now: OffsetDateTime,
    ) -> Result<Self, RootError> {
        let path = paths.certificate.clone();
        let bundle =
            TrustBundle::new(trust_domain.clone(), [der.clone()]).map_err(|source| RootError::NotRoot {
                path: path.clone(),
                source,
            })?;
        let wrong = |reason: String| RootError::Certificate {
            path: path.clone(),
            reason,
        };
        let (_, parsed) = X509Certificate::from_der(&der).map_err(|e| wrong(e.to_string()))?;
        if parsed.public_key().raw != key.subject_public_key_info() {
            return Err(RootError::WrongPair {
                key: paths.key.clone(),
                certificate: path,
            });
        }
        check_trust_domain(&parsed, trust_domain).map_err(wrong)?;
        let validity = parsed.validity();
        let (not_before, not_after) = (
            validity.not_before.to_datetime(),
            validity.not_after.to_datetime(),
        );
        let issuer = Issuer::from_ca_cert_der(&der, key)?;
        let root = Self {
            issuer,
            not_before,
            not_after,
            bundle,
            certificate: der,
            created: false,
        };
        root.try_out(&path, now)?;
        Ok(root)
    }

    fn try_out(&self, path: &Path, now: OffsetDateTime) -> Result<(), RootError> {
        let subject = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let id =
            SpiffeId::new(self.trust_domain().clone(), "/trial").map_err(|e| RootError::Certificate {
                path: path.to_owned(),
                reason: e.to_string(),
            })?;
        let trial = self
            .issue(&subject, &id, std::time::Duration::from_secs(60), now)
            .map_err(|source| RootError::Trial {
                path: path.to_owned(),
                source,
            })?;
        let seconds = u64::try_from(now.unix_timestamp()).unwrap_or(0);
        let at = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
        verify_peer(&self.bundle, &trial.der, &[], at, Usage::Server).map_err(|source| {
            RootError::Unusable {
                path: path.to_owned(),
                source,
            }
        })?;
        Ok(())
    }

    /// The trust domain that this root signs for.
    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        self.bundle.trust_domain()
    }

    /// The root certificate as a trust bundle.
    #[must_use]
    pub fn bundle(&self) -> &TrustBundle {
        &self.bundle
    }

    /// The root certificate, PEM.
    #[must_use]
    pub fn certificate_pem(&self) -> String {
        certificates_to_pem(std::slice::from_ref(&self.certificate))
    }

    /// End of the root, in seconds since 1970.
    #[must_use]
    pub fn not_after(&self) -> i64 {
        self.not_after.unix_timestamp()
    }

    /// Whether this call made the root's certificate.
    #[must_use]
    pub fn created(&self) -> bool {
        self.created
    }
}

fn load_key(paths: &Paths, pem: &[u8]) -> Result<Key, RootError> {
    Key::from_pem(pem).map_err(|reason| RootError::Key {
        path: paths.key.clone(),
        reason,
    })
}

/// A root with a SPIFFE id must have its trust domain's id, without a path (X.509-SVID, section 4.1).
fn check_trust_domain(root: &X509Certificate<'_>, trust_domain: &TrustDomain) -> Result<(), String> {
    let san = root.subject_alternative_name().map_err(|e| e.to_string())?;
    let names = san
        .map(|san| san.value.general_names.as_slice())
        .unwrap_or_default();
    let wanted = format!("spiffe://{trust_domain}");
    for name in names {
        match name {
            GeneralName::URI(uri) if *uri != wanted => {
                return Err(format!("the root is {uri}'s, the trust domain is {trust_domain}"));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Now, in whole seconds, as certificates have it.
pub(crate) fn now() -> OffsetDateTime {
    let now = OffsetDateTime::now_utc();
    now.replace_nanosecond(0).unwrap_or(now)
}

#[cfg(test)]
mod tests;
