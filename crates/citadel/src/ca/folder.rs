//! The authority's folder: a root of our own, made at the first start and rotated, or one that was plugged in.
//!
//! Own: `root-key.pem` signs; `root-cert.pem` has all roots that the mesh trusts, among them the key's; `next-key.pem`
//! is there while a rotation distributes the next root; `retiring-key.pem`, while the old root is still trusted, signs
//! lists of revoked certificates and nothing else; `rotation.json` remembers times. Every step is a rename, so a crash at
//! any point leaves the state before or after it. Several processes may share the folder: steps are taken under its lock.
//!
//! Plugged in, by the names of Istio's `cacerts`: `ca-key.pem`, `ca-cert.pem`, `root-cert.pem`, `cert-chain.pem`,
//! `ca-crl.pem`. What Citadel itself notes is then in a state folder of its own, where there is one.
//!
//! Both: `revoked.json` has what was revoked.

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
use super::revocation::Revoked;
use super::rotation::Record;
use super::{journal, notes, profile};

/// Name of the root's key in the CA's folder: PKCS #8 or SEC1, PEM, mode 0600.
pub const KEY_FILE: &str = "root-key.pem";
/// Name of the file with the mesh's roots in the CA's folder: PEM.
pub const CERT_FILE: &str = "root-cert.pem";
/// Name of the key of the first root while that is made; it gets its place last.
const FIRST_KEY_FILE: &str = "first-root-key.pem";
/// Name of the key of the root to come.
pub const NEXT_KEY_FILE: &str = "next-key.pem";
/// Name of the key of the root that was in force before.
pub const RETIRING_KEY_FILE: &str = "retiring-key.pem";
/// Name of the file with what was revoked.
pub const REVOKED_FILE: &str = "revoked.json";
/// Name of lists of revoked certificates that were plugged in, as in Istio.
pub const PLUGGED_CRL_FILE: &str = "ca-crl.pem";
/// Name of the rotation's record.
pub const RECORD_FILE: &str = "rotation.json";
/// Name of a plugged-in authority's key, as in Istio.
pub const PLUGGED_KEY_FILE: &str = "ca-key.pem";
/// Name of a plugged-in authority's certificate, as in Istio.
pub const PLUGGED_CERT_FILE: &str = "ca-cert.pem";
/// Name of a plugged-in authority's chain, itself first, as in Istio.
pub const PLUGGED_CHAIN_FILE: &str = "cert-chain.pem";

const FILES: [&str; 8] = [
    KEY_FILE,
    CERT_FILE,
    NEXT_KEY_FILE,
    RETIRING_KEY_FILE,
    PLUGGED_KEY_FILE,
    PLUGGED_CERT_FILE,
    PLUGGED_CHAIN_FILE,
    PLUGGED_CRL_FILE,
];
const STATE_FILES: [&str; 2] = [RECORD_FILE, REVOKED_FILE];

/// An authority's folder.
#[derive(Debug, Clone)]
pub struct Folder {
    dir: PathBuf,
    /// Where a plugged-in authority's notes are; its own folder may be read-only.
    state: Option<PathBuf>,
    trust_domain: TrustDomain,
    aliases: Vec<TrustDomain>,
}

impl Authority {
    /// Loads the authority from `dir`, or makes a root there: folder 0700, key 0600, each file written whole or not at
    /// all. Of several first starts at once one makes the root and the others load it.
    ///
    /// # Errors
    /// When files are there that cannot be used, or some that belong to them are lost: nothing is replaced, and no new root
    /// is made beside what is left of another.
    pub fn load_or_create(dir: &Path, trust_domain: &TrustDomain) -> Result<Self, AuthorityError> {
        Folder::new(dir.to_owned(), trust_domain.clone()).load_or_create()
    }
}

impl Folder {
    /// The folder of this trust domain's authority; nothing is read yet.
    #[must_use]
    pub fn new(dir: PathBuf, trust_domain: TrustDomain) -> Self {
        Self {
            dir,
            state: None,
            trust_domain,
            aliases: Vec::new(),
        }
    }

    /// The folder with notes on a plugged-in authority elsewhere.
    #[must_use]
    pub fn with_state(self, state: Option<PathBuf>) -> Self {
        Self { state, ..self }
    }

    /// The folder with other names of the trust domain.
    #[must_use]
    pub fn with_aliases(self, aliases: Vec<TrustDomain>) -> Self {
        Self { aliases, ..self }
    }

    /// Where notes are kept: what was issued, what was revoked, where a rotation stands.
    #[must_use]
    pub fn state_dir(&self) -> &Path {
        match &self.state {
            Some(state) if self.plugged() => state,
            _ => &self.dir,
        }
    }

    /// Where notes on an authority that is plugged in are kept, whether or not one is.
    #[must_use]
    pub fn notes_dir(&self) -> &Path {
        self.state.as_deref().unwrap_or(&self.dir)
    }

    pub(super) fn state_path(&self, name: &str) -> PathBuf {
        self.state_dir().join(name)
    }

    /// Waits for the right to change something, and clears away what a crash left half written.
    pub(super) fn lock(&self) -> Result<std::fs::File, AuthorityError> {
        files::check_private_dir(self.state_dir())?;
        let lock = files::lock(self.state_dir())?;
        files::sweep(self.state_dir())?;
        Ok(lock)
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
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
        if let Some(state) = &self.state {
            files::private_dir(state)?;
        }
        if self.plugged() {
            return self.load();
        }
        files::private_dir(&self.dir)?;
        // A folder that has both is only read, so it may be read-only.
        if self.path(KEY_FILE).exists() && self.path(CERT_FILE).exists() {
            return self.load();
        }
        let _lock = self.lock()?;
        match self.key(KEY_FILE)? {
            Some(_) => self.load(),
            None => self.first(self.roots()?),
        }
    }

    /// The authority that the folder has; nothing is made. For a Citadel that runs: a folder that is away while another is
    /// put in its place is no first start.
    ///
    /// # Errors
    /// When files cannot be used, or are not there.
    pub fn load(&self) -> Result<Authority, AuthorityError> {
        if self.plugged() {
            return Authority::assemble(self.plugged_parts()?, &self.trust_domain, now());
        }
        files::check_private_dir(&self.dir)?;
        match (self.key(KEY_FILE)?, self.roots()?) {
            (Some(key), Some(roots)) => self.join(key, roots, now()),
            (Some(_), None) => Err(AuthorityError::CertificateMissing {
                key: self.path(KEY_FILE),
                certificate: CERT_FILE,
            }),
            (None, _) => Err(AuthorityError::KeyMissing {
                certificate: self.path(CERT_FILE),
                key: KEY_FILE,
            }),
        }
    }

    /// The first start, or the rest of one that a crash ended. The key gets its place last: where it is in its place, there was
    /// a certificate.
    fn first(&self, roots: Option<Vec<CertificateDer<'static>>>) -> Result<Authority, AuthorityError> {
        let begun = self.key(FIRST_KEY_FILE)?;
        let key = match (begun, &roots) {
            (Some(key), None) => key,
            (Some(key), Some(roots)) if of_key(roots, &key).is_some() => key,
            (_, Some(_)) => {
                return Err(AuthorityError::KeyMissing {
                    certificate: self.path(CERT_FILE),
                    key: KEY_FILE,
                });
            }
            (None, None) => {
                self.refuse_remains()?;
                let key = Key::generate()?;
                self.write_key(FIRST_KEY_FILE, &key)?;
                key
            }
        };
        let now = now();
        let roots = match roots {
            Some(roots) => roots,
            None => {
                let certificate = self.self_signed(&key, now)?;
                self.write_roots(std::slice::from_ref(&certificate))?;
                vec![certificate]
            }
        };
        files::rename(&self.path(FIRST_KEY_FILE), &self.path(KEY_FILE))?;
        let mut authority = self.join(key, roots, now)?;
        authority.created = true;
        Ok(authority)
    }

    /// A folder that has something of an authority without its root is no new one, nor one whose notes on an authority that
    /// was plugged in are still there.
    fn refuse_remains(&self) -> Result<(), AuthorityError> {
        let keys = [NEXT_KEY_FILE, RETIRING_KEY_FILE];
        let notes = [journal::FOLDER, REVOKED_FILE, RECORD_FILE];
        let mut remains = keys.into_iter().chain(notes);
        if let Some(remains) = remains.find(|name| self.path(name).exists()) {
            return Err(AuthorityError::RootMissing {
                dir: self.dir.clone(),
                remains,
            });
        }
        let state = self.notes_dir();
        match notes.into_iter().find(|name| state.join(name).exists()) {
            Some(remains) => Err(AuthorityError::PluggedMissing {
                dir: self.dir.clone(),
                state: state.to_owned(),
                remains,
            }),
            None => Ok(()),
        }
    }

    pub(super) fn self_signed(
        &self,
        key: &Key,
        now: OffsetDateTime,
    ) -> Result<CertificateDer<'static>, AuthorityError> {
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
        Authority::assemble(self.own_parts(key, roots)?, &self.trust_domain, now)
    }

    fn own_parts(&self, key: Key, roots: Vec<CertificateDer<'static>>) -> Result<Parts, AuthorityError> {
        let (key_path, path) = (self.path(KEY_FILE), self.path(CERT_FILE));
        let Some(certificate) = of_key(&roots, &key).or(only(&roots)).cloned() else {
            return Err(AuthorityError::WrongPair {
                key: key_path,
                certificate: path,
            });
        };
        let mut others = Vec::new();
        for name in [NEXT_KEY_FILE, RETIRING_KEY_FILE] {
            // What a step that was interrupted left without a root is taken up by the next.
            let held = self.key(name)?;
            others.extend(held.and_then(|held| Some((of_key(&roots, &held)?.clone(), held))));
        }
        others.retain(|(other, _)| *other != certificate);
        Ok(Parts {
            key,
            key_path,
            certificate,
            certificate_path: path.clone(),
            chain: Vec::new(),
            roots,
            roots_path: path,
            others: others
                .into_iter()
                .map(|(certificate, key)| (key, certificate))
                .collect(),
            revoked: self.revoked()?,
            plugged_lists: self.plugged_lists()?,
            aliases: self.aliases.clone(),
        })
    }

    fn plugged_parts(&self) -> Result<Parts, AuthorityError> {
        let missing = |name: &str| AuthorityError::Missing(self.path(name));
        let key_path = self.path(PLUGGED_KEY_FILE);
        let pem = files::read_shared(&key_path)?.ok_or_else(|| missing(PLUGGED_KEY_FILE))?;
        let key = load_key(&key_path, &pem)?;
        let own = self
            .certificates(PLUGGED_CERT_FILE)?
            .ok_or_else(|| missing(PLUGGED_CERT_FILE))?;
        let mut roots = self.roots()?.ok_or_else(|| missing(CERT_FILE))?;
        let distrusted = self.record()?.distrusted;
        roots.retain(|root| !distrusted.contains(&fingerprint(root)));
        let certificate_path = self.path(PLUGGED_CERT_FILE);
        let certificate = own
            .first()
            .cloned()
            .ok_or_else(|| AuthorityError::Missing(certificate_path.clone()))?;
        let mut chain = vec![certificate.clone()];
        chain.extend(own.into_iter().skip(1));
        chain.extend(self.certificates(PLUGGED_CHAIN_FILE)?.unwrap_or_default());
        Ok(Parts {
            key,
            key_path,
            certificate,
            certificate_path,
            chain: intermediates(chain, &roots),
            roots,
            roots_path: self.path(CERT_FILE),
            others: Vec::new(),
            revoked: self.revoked()?,
            plugged_lists: self.plugged_lists()?,
            aliases: self.aliases.clone(),
        })
    }

    fn plugged_lists(&self) -> Result<Option<(Vec<u8>, PathBuf)>, AuthorityError> {
        let path = self.path(PLUGGED_CRL_FILE);
        Ok(files::read(&path)?.map(|pem| (pem, path)))
    }

    /// What was revoked.
    ///
    /// # Errors
    /// When the file cannot be read or is not what was written: then it is not known who is to be refused.
    pub fn revoked(&self) -> Result<Revoked, AuthorityError> {
        let way_out = "put a good copy back, or take it away to revoke none";
        Ok(notes::read(&self.state_path(REVOKED_FILE), way_out)?.unwrap_or_default())
    }

    /// Whether the next root is there.
    #[must_use]
    pub fn next_key(&self) -> bool {
        self.path(NEXT_KEY_FILE).exists()
    }

    /// What the authority would be put together from now, without changing anything.
    pub(super) fn parts(&self) -> Result<Parts, AuthorityError> {
        if self.plugged() {
            return self.plugged_parts();
        }
        let missing = |name: &str| AuthorityError::Missing(self.path(name));
        let key = self.key(KEY_FILE)?.ok_or_else(|| missing(KEY_FILE))?;
        self.own_parts(key, self.roots()?.ok_or_else(|| missing(CERT_FILE))?)
    }

    /// The trust domain.
    pub(super) fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// What is remembered of a rotation.
    ///
    /// # Errors
    /// When the file cannot be read or is not what was written.
    pub fn record(&self) -> Result<Record, AuthorityError> {
        let way_out = "take it away to have a rotation counted from now";
        Ok(notes::read(&self.state_path(RECORD_FILE), way_out)?.unwrap_or_default())
    }

    pub(super) fn write_record(&self, record: &Record) -> Result<(), AuthorityError> {
        let text = serde_json::to_string_pretty(record).unwrap_or_default();
        Ok(files::write_atomic(
            &self.state_path(RECORD_FILE),
            text.as_bytes(),
            0o600,
        )?)
    }

    pub(super) fn write_roots(&self, roots: &[CertificateDer<'static>]) -> Result<(), AuthorityError> {
        let text = certificates_to_pem(roots);
        Ok(files::write_atomic(
            &self.path(CERT_FILE),
            text.as_bytes(),
            0o644,
        )?)
    }

    pub(super) fn write_key(&self, name: &str, key: &Key) -> Result<(), FileError> {
        files::write_atomic(&self.path(name), key.to_pem().as_bytes(), 0o600)
    }

    pub(super) fn key(&self, name: &str) -> Result<Option<Key>, AuthorityError> {
        let path = self.path(name);
        files::read_private(&path)?
            .map(|pem| load_key(&path, &pem))
            .transpose()
    }

    pub(super) fn roots(&self) -> Result<Option<Vec<CertificateDer<'static>>>, AuthorityError> {
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
        let state = STATE_FILES.iter().map(|name| self.state_path(name));
        for path in FILES.iter().map(|name| self.path(name)).chain(state) {
            // A file that cannot be read counts as absent here; loading says why.
            let bytes = files::read(&path).ok().flatten();
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
pub(super) fn of_key<'a>(
    certificates: &'a [CertificateDer<'static>],
    key: &Key,
) -> Option<&'a CertificateDer<'static>> {
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
