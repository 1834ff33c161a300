//! The authority's folder: a root of our own, made at the first start and rotated, or one that was plugged in.
//!
//! Own: `root-key.pem` signs; `root-cert.pem` has all roots that the mesh trusts, among them the key's; `next-key.pem`
//! is there while a rotation distributes the next root; `rotation.json` remembers times. Every step is a rename, so a
//! crash at any point leaves the state before or after it. Several processes may share the folder: steps are taken
//! under its lock.
//!
//! Plugged in, by the names of Istio's `cacerts`: `ca-key.pem`, `ca-cert.pem`, `root-cert.pem`, `cert-chain.pem`.

use std::path::{Path, PathBuf};

use rcgen::PublicKeyData;
use runtime::spiffe::TrustDomain;
use runtime::tls::bundle::certificates_to_pem;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, X509Certificate};
use xxhash_rust::xxh3::Xxh3;

use super::authority::{Authority, AuthorityError, Parts, now};
use super::files::{self, FileError};
use super::key::Key;
use super::profile;
use super::rotation::Record;

/// Name of the root's key in the CA's folder: PKCS #8 or SEC1, PEM, mode 0600.
pub const KEY_FILE: &str = "root-key.pem";
/// Name of the file with the mesh's roots in the CA's folder: PEM.
pub const CERT_FILE: &str = "root-cert.pem";
/// Name of the key of the root to come.
pub const NEXT_KEY_FILE: &str = "next-key.pem";
/// Name of the rotation's record.
pub const RECORD_FILE: &str = "rotation.json";
/// Name of a plugged-in authority's key, as in Istio.
pub const PLUGGED_KEY_FILE: &str = "ca-key.pem";
/// Name of a plugged-in authority's certificate, as in Istio.
pub const PLUGGED_CERT_FILE: &str = "ca-cert.pem";
/// Name of a plugged-in authority's chain, itself first, as in Istio.
pub const PLUGGED_CHAIN_FILE: &str = "cert-chain.pem";

const FILES: [&str; 7] = [
    KEY_FILE,
    CERT_FILE,
    NEXT_KEY_FILE,
    RECORD_FILE,
    PLUGGED_KEY_FILE,
    PLUGGED_CERT_FILE,
    PLUGGED_CHAIN_FILE,
];

/// An authority's folder.
#[derive(Debug, Clone)]
pub struct Folder {
    dir: PathBuf,
    trust_domain: TrustDomain,
}

impl Authority {
    /// Loads the authority from `dir`, or makes a root there: folder 0700, key 0600, each file written whole or not at
    /// all. Of several first starts at once one makes the root and the others load it.
    ///
    /// # Errors
    /// When files are there that cannot be used: they are never replaced. A key alone gets a new certificate, because
    /// the first start may have ended between the two files.
    pub fn load_or_create(dir: &Path, trust_domain: &TrustDomain) -> Result<Self, AuthorityError> {
        Folder::new(dir.to_owned(), trust_domain.clone()).load_or_create()
    }
}

impl Folder {
    /// The folder of this trust domain's authority; nothing is read yet.
    #[must_use]
    pub fn new(dir: PathBuf, trust_domain: TrustDomain) -> Self {
        Self { dir, trust_domain }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Whether somebody else's authority is plugged in: then its owner rotates it.
    #[must_use]
    pub fn plugged(&self) -> bool {
        self.path(PLUGGED_KEY_FILE).exists() || self.path(PLUGGED_CERT_FILE).exists()
    }

    /// As [`Authority::load_or_create`].
    ///
    /// # Errors
    /// As [`Authority::load_or_create`].
    pub fn load_or_create(&self) -> Result<Authority, AuthorityError> {
        if self.plugged() {
            return self.load_plugged();
        }
        files::private_dir(&self.dir)?;
        // A folder that has both is only read, so it may be read-only.
        let _lock = match self.path(KEY_FILE).exists() && self.path(CERT_FILE).exists() {
            true => None,
            false => Some(files::lock(&self.dir)?),
        };
        match (self.key(KEY_FILE)?, self.roots()?) {
            (Some(key), Some(roots)) => self.join(key, roots, now()),
            (Some(key), None) => self.certify(key),
            (None, Some(_)) => Err(AuthorityError::KeyMissing {
                certificate: self.path(CERT_FILE),
                key: KEY_FILE,
            }),
            (None, None) => {
                let key = Key::generate()?;
                self.write_key(KEY_FILE, &key)?;
                self.certify(key)
            }
        }
    }

    /// Makes and keeps a certificate for the key.
    fn certify(&self, key: Key) -> Result<Authority, AuthorityError> {
        let now = now();
        let certificate = self.self_signed(&key, now)?;
        self.write_roots(std::slice::from_ref(&certificate))?;
        let mut authority = self.join(key, vec![certificate], now)?;
        authority.created = true;
        Ok(authority)
    }

    fn self_signed(&self, key: &Key, now: OffsetDateTime) -> Result<CertificateDer<'static>, AuthorityError> {
        let certificate = profile::root(&self.trust_domain, now)?.self_signed(key)?;
        Ok(certificate.der().clone())
    }

    /// The authority of our own root.
    fn join(
        &self,
        key: Key,
        roots: Vec<CertificateDer<'static>>,
        now: OffsetDateTime,
    ) -> Result<Authority, AuthorityError> {
        let (key_path, path) = (self.path(KEY_FILE), self.path(CERT_FILE));
        let Some(certificate) = of_key(&roots, &key).or(only(&roots)).cloned() else {
            return Err(AuthorityError::WrongPair {
                key: key_path,
                certificate: path,
            });
        };
        let parts = Parts {
            key,
            key_path,
            certificate,
            certificate_path: path.clone(),
            chain: Vec::new(),
            roots,
            roots_path: path,
        };
        Authority::assemble(parts, &self.trust_domain, now)
    }

    fn load_plugged(&self) -> Result<Authority, AuthorityError> {
        let missing = |name: &str| AuthorityError::Missing(self.path(name));
        let key_path = self.path(PLUGGED_KEY_FILE);
        let pem = files::read_shared(&key_path)?.ok_or_else(|| missing(PLUGGED_KEY_FILE))?;
        let key = load_key(&key_path, &pem)?;
        let own = self
            .certificates(PLUGGED_CERT_FILE)?
            .ok_or_else(|| missing(PLUGGED_CERT_FILE))?;
        let roots = self.roots()?.ok_or_else(|| missing(CERT_FILE))?;
        let certificate_path = self.path(PLUGGED_CERT_FILE);
        let certificate = own
            .first()
            .cloned()
            .ok_or_else(|| AuthorityError::Missing(certificate_path.clone()))?;
        let mut chain = vec![certificate.clone()];
        chain.extend(own.into_iter().skip(1));
        chain.extend(self.certificates(PLUGGED_CHAIN_FILE)?.unwrap_or_default());
        let parts = Parts {
            key,
            key_path,
            certificate,
            certificate_path,
            chain: intermediates(chain, &roots),
            roots,
            roots_path: self.path(CERT_FILE),
        };
        Authority::assemble(parts, &self.trust_domain, now())
    }

    /// Makes the next root, which is trusted from now on and does not sign yet. What an interrupted call left is used.
    ///
    /// # Errors
    /// When files cannot be read or written; then nothing has changed that matters.
    pub fn prepare(&self, emergency: bool) -> Result<(), AuthorityError> {
        let _lock = files::lock(&self.dir)?;
        let next = match self.key(NEXT_KEY_FILE)? {
            Some(key) => key,
            None => {
                let key = Key::generate()?;
                self.write_key(NEXT_KEY_FILE, &key)?;
                key
            }
        };
        let mut roots = self.roots()?.unwrap_or_default();
        let now = now();
        if of_key(&roots, &next).is_none() {
            roots.push(self.self_signed(&next, now)?);
            self.write_roots(&roots)?;
        }
        let record = Record {
            prepared: Some(now.unix_timestamp()),
            emergency,
            activated: None,
            ..self.record()?
        };
        self.write_record(&record)
    }

    /// Lets the next root sign; the old key is overwritten.
    ///
    /// # Errors
    /// When files cannot be read or written; the step can be taken again.
    pub fn activate(&self) -> Result<(), AuthorityError> {
        let _lock = files::lock(&self.dir)?;
        let (Some(_), Some(old)) = (self.key(NEXT_KEY_FILE)?, self.key(KEY_FILE)?) else {
            return Ok(());
        };
        let mut record = self.record()?;
        let roots = self.roots()?.unwrap_or_default();
        record
            .retiring
            .extend(of_key(&roots, &old).map(|root| fingerprint(root)));
        record.retiring.dedup();
        let now = now().unix_timestamp();
        record.prepared = None;
        record.activated = Some(now);
        record.reissue_before = if record.emergency {
            now
        } else {
            record.reissue_before
        };
        self.write_record(&record)?;
        Ok(files::rename(&self.path(NEXT_KEY_FILE), &self.path(KEY_FILE))?)
    }

    /// Trusts the old root no more.
    ///
    /// # Errors
    /// When files cannot be read or written; the step can be taken again.
    pub fn retire(&self) -> Result<(), AuthorityError> {
        let _lock = files::lock(&self.dir)?;
        let record = self.record()?;
        let mut roots = self.roots()?.unwrap_or_default();
        roots.retain(|root| !record.retiring.contains(&fingerprint(root)));
        self.write_roots(&roots)?;
        let record = Record {
            reissue_before: record.reissue_before,
            ..Record::default()
        };
        self.write_record(&record)
    }

    /// Notes that the next root counts as distributed from now on only, because nobody knows since when it is.
    ///
    /// # Errors
    /// When the record cannot be read or written.
    pub fn note(&self) -> Result<(), AuthorityError> {
        let emergency = self.record()?.emergency;
        self.prepare(emergency)
    }

    /// Whether the next root is there.
    #[must_use]
    pub fn next_key(&self) -> bool {
        self.path(NEXT_KEY_FILE).exists()
    }

    /// What is remembered of a rotation.
    ///
    /// # Errors
    /// When the file cannot be read or is not what was written.
    pub fn record(&self) -> Result<Record, AuthorityError> {
        let path = self.path(RECORD_FILE);
        let Some(bytes) = files::read(&path)? else {
            return Ok(Record::default());
        };
        serde_json::from_slice(&bytes).map_err(|error| AuthorityError::Certificate {
            path,
            reason: format!(
                "not a rotation's record ({error}); take it away to have a rotation counted from now"
            ),
        })
    }

    fn write_record(&self, record: &Record) -> Result<(), AuthorityError> {
        let text = serde_json::to_string_pretty(record).unwrap_or_default();
        Ok(files::write_atomic(
            &self.path(RECORD_FILE),
            text.as_bytes(),
            0o600,
        )?)
    }

    fn write_roots(&self, roots: &[CertificateDer<'static>]) -> Result<(), AuthorityError> {
        let text = certificates_to_pem(roots);
        Ok(files::write_atomic(
            &self.path(CERT_FILE),
            text.as_bytes(),
            0o644,
        )?)
    }

    fn write_key(&self, name: &str, key: &Key) -> Result<(), FileError> {
        files::write_atomic(&self.path(name), key.to_pem().as_bytes(), 0o600)
    }

    fn key(&self, name: &str) -> Result<Option<Key>, AuthorityError> {
        let path = self.path(name);
        files::read_private(&path)?
            .map(|pem| load_key(&path, &pem))
            .transpose()
    }

    fn roots(&self) -> Result<Option<Vec<CertificateDer<'static>>>, AuthorityError> {
        self.certificates(CERT_FILE)
    }

    fn certificates(&self, name: &str) -> Result<Option<Vec<CertificateDer<'static>>>, AuthorityError> {
        let path = self.path(name);
        let Some(text) = files::read(&path)? else {
            return Ok(None);
        };
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
        let wrong = |reason: String| AuthorityError::Certificate {
            path: path.clone(),
            reason,
        };
        match found.map_err(|e| wrong(format!("not valid PEM: {e}")))? {
            found if found.is_empty() => Err(wrong("holds no CERTIFICATE block".into())),
            found => Ok(Some(found)),
        }
    }

    /// A number that changes when a file of the folder does.
    #[must_use]
    pub fn seen(&self) -> u64 {
        let mut hash = Xxh3::new();
        for name in FILES {
            // A file that cannot be read counts as absent here; loading says why.
            let bytes = files::read(&self.path(name)).ok().flatten();
            hash.update(&[u8::from(bytes.is_some())]);
            hash.update(&bytes.unwrap_or_default());
            hash.update(&[0]);
        }
        hash.digest()
    }
}

fn load_key(path: &Path, pem: &[u8]) -> Result<Key, AuthorityError> {
    Key::from_pem(pem).map_err(|reason| AuthorityError::Key {
        path: path.to_owned(),
        reason,
    })
}

/// The certificate of this key.
fn of_key<'a>(certificates: &'a [CertificateDer<'static>], key: &Key) -> Option<&'a CertificateDer<'static>> {
    let wanted = key.subject_public_key_info();
    certificates.iter().find(|der| {
        X509Certificate::from_der(der).is_ok_and(|(_, certificate)| certificate.public_key().raw == wanted)
    })
}

/// Whether this private key (PEM) is the certificate's; the error says what is wrong with the key.
pub(crate) fn is_key_of(pem: &[u8], certificate: Option<&CertificateDer<'static>>) -> Result<bool, String> {
    let key = Key::from_pem(pem)?;
    let certificate = certificate.map(std::slice::from_ref).unwrap_or_default();
    Ok(of_key(certificate, &key).is_some())
}

/// The only certificate there is: what is wrong with it is told rather than that it is not the key's.
fn only<'a>(certificates: &'a [CertificateDer<'static>]) -> Option<&'a CertificateDer<'static>> {
    match certificates {
        [one] => Some(one),
        _ => None,
    }
}

/// A chain without roots and repetitions: what a leaf is sent with.
fn intermediates(
    chain: Vec<CertificateDer<'static>>,
    roots: &[CertificateDer<'static>],
) -> Vec<CertificateDer<'static>> {
    let mut kept: Vec<CertificateDer<'static>> = Vec::new();
    for certificate in chain {
        if !roots.contains(&certificate) && !kept.contains(&certificate) {
            kept.push(certificate);
        }
    }
    kept
}

/// SHA-256 of a certificate, hexadecimal: what `openssl x509 -fingerprint -sha256` prints, without colons.
#[must_use]
pub fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, certificate);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
#[path = "folder_tests.rs"]
mod tests;
