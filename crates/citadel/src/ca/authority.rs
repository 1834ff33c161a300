//! The authority: the key that signs, its certificate, and the roots that the mesh trusts. Immutable; a rotation or a
//! reload makes a new one. It knows nothing of files.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{Issuer, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};
use runtime::spiffe::{SpiffeId, TrustDomain};
use runtime::tls::bundle::certificates_to_pem;
use runtime::tls::{BundleError, TrustBundle, Usage, VerifyError, verify_peer};
use rustls_pki_types::{CertificateDer, UnixTime};
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::files::FileError;
use super::key::Key;
use super::leaf::{IssueError, Leaf};
use super::revocation::{self, Lists, Revoked};

/// The authority could not be had. Nothing is overwritten: the files are as they were.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// A certificate without its key.
    #[error(
        "{certificate} is there without {key}: put the key back, or move the whole folder away to have a new root made, which no workload trusts yet"
    )]
    KeyMissing {
        /// The certificate's file.
        certificate: PathBuf,
        /// The name of the key's file.
        key: &'static str,
    },
    /// A key without its certificate.
    #[error(
        "{key} is there without {certificate}: put the certificate back from a backup (the ConfigMap istio-ca-root-cert of each namespace and the roots of each agent are copies of it), or move the whole folder away to have a new root made, which no workload trusts yet"
    )]
    CertificateMissing {
        /// The key's file.
        key: PathBuf,
        /// The name of the certificate's file.
        certificate: &'static str,
    },
    /// What is left of an authority without its root.
    #[error(
        "{dir} has {remains} of an authority, but neither root-key.pem nor root-cert.pem: put both back from a backup, or move the whole folder away to have a new root made, which no workload trusts yet"
    )]
    RootMissing {
        /// The folder.
        dir: PathBuf,
        /// What is there.
        remains: &'static str,
    },
    /// What is left of an authority that was plugged in: its notes.
    #[error(
        "{state} has {remains} of an authority that was plugged in, but {dir} does not have that: put ca-key.pem, ca-cert.pem and root-cert.pem back into {dir}, or move {state} away to have a new root made, which no workload trusts yet"
    )]
    PluggedMissing {
        /// The folder.
        dir: PathBuf,
        /// The folder of notes (`--ca-state-dir`).
        state: PathBuf,
        /// What is there.
        remains: &'static str,
    },
    /// A file of a plugged-in authority that is not there.
    #[error(
        "{0} is missing: a plugged-in authority is ca-key.pem, ca-cert.pem, root-cert.pem and, where there are more intermediates, cert-chain.pem"
    )]
    Missing(PathBuf),
    /// The key file's contents.
    #[error(
        "{path}: not a private key that can sign ({reason}); wanted is an unencrypted PEM key, ECDSA P-256, P-384, P-521 or RSA"
    )]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A certificate file's contents.
    #[error("{path}: {reason}")]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A certificate cannot be a root.
    #[error("{path}: {source}")]
    NotRoot {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: BundleError,
    },
    /// Key and certificate do not belong together.
    #[error("{key} is not the key of {certificate}: the two files are of different authorities")]
    WrongPair {
        /// The key's file.
        key: PathBuf,
        /// The certificate's file.
        certificate: PathBuf,
    },
    /// A certificate signed by this authority does not verify.
    #[error("{path}: a certificate signed by this authority would not verify: {source}")]
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
    /// The authority cannot sign a list of what is revoked.
    #[error(
        "{path}: cannot sign a list of revoked certificates: {source}; certificates of this authority cannot be revoked singly (argosy ca taint replaces them all)"
    )]
    List {
        /// The certificate's file.
        path: PathBuf,
        /// Why not: its key usage lacks cRLSign, as a rule.
        source: rcgen::Error,
    },
    /// A root could not be made.
    #[error("cannot make a root: {0}")]
    Make(#[from] rcgen::Error),
}

/// What an authority is put together from, and where it came from, for messages.
pub(super) struct Parts {
    pub(super) key: Key,
    pub(super) key_path: PathBuf,
    /// The certificate that belongs to the key.
    pub(super) certificate: CertificateDer<'static>,
    pub(super) certificate_path: PathBuf,
    /// From the certificate towards its root, without the root; empty where the certificate is a root itself.
    pub(super) chain: Vec<CertificateDer<'static>>,
    /// All roots that the mesh trusts.
    pub(super) roots: Vec<CertificateDer<'static>>,
    pub(super) roots_path: PathBuf,
    /// Keys of other roots, which sign nothing but lists of revoked certificates, with their certificates.
    pub(super) others: Vec<(Key, CertificateDer<'static>)>,
    /// Certificates that were revoked.
    pub(super) revoked: Revoked,
    /// Lists that were plugged in, PEM, and their file.
    pub(super) plugged_lists: Option<(Vec<u8>, PathBuf)>,
    /// Other names of the trust domain.
    pub(super) aliases: Vec<TrustDomain>,
}

/// A signing key with its certificate, and the mesh's roots.
pub struct Authority {
    pub(super) issuer: Issuer<'static, Key>,
    pub(super) not_before: OffsetDateTime,
    pub(super) not_after: OffsetDateTime,
    chain: Vec<CertificateDer<'static>>,
    bundle: TrustBundle,
    certificate: CertificateDer<'static>,
    lists: Lists,
    revoked: Revoked,
    /// PEM of what goes with a leaf: each of the chain, and all roots in the last place.
    answer: Vec<Arc<str>>,
    /// Whether a Citadel made the root that signs.
    own: bool,
    pub(super) created: bool,
}

impl fmt::Debug for Authority {
    /// Never the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority")
            .field("trust_domain", self.trust_domain())
            .field("not_after", &self.not_after)
            .field("roots", &self.bundle.roots().len())
            .finish_non_exhaustive()
    }
}

impl Authority {
    /// Joins the parts and tries them: a wrong pair or an odd root is found now and not by a workload.
    pub(super) fn assemble(
        parts: Parts,
        trust_domain: &TrustDomain,
        now: OffsetDateTime,
    ) -> Result<Self, AuthorityError> {
        let path = parts.certificate_path.clone();
        let wrong = |reason: String| AuthorityError::Certificate {
            path: path.clone(),
            reason,
        };
        let not_root = |source| AuthorityError::NotRoot {
            path: parts.roots_path.clone(),
            source,
        };
        // Its own root first: agents that keep only one root of an answer keep the right one.
        let own = parts.roots.iter().position(|root| *root == parts.certificate);
        let mut roots = parts.roots;
        roots.rotate_left(own.unwrap_or(0));
        let bundle = TrustBundle::new(trust_domain.clone(), roots).map_err(not_root)?;
        // The certificate signs too, wherever in the chain it stands.
        TrustBundle::new(trust_domain.clone(), [parts.certificate.clone()]).map_err(|source| {
            AuthorityError::NotRoot {
                path: path.clone(),
                source,
            }
        })?;
        let (_, parsed) = X509Certificate::from_der(&parts.certificate).map_err(|e| wrong(e.to_string()))?;
        if parsed.public_key().raw != parts.key.subject_public_key_info() {
            return Err(AuthorityError::WrongPair {
                key: parts.key_path,
                certificate: path,
            });
        }
        check_trust_domain(&parsed, trust_domain, &parts.aliases).map_err(wrong)?;
        let validity = parsed.validity();
        let (not_before, not_after) = (
            validity.not_before.to_datetime(),
            validity.not_after.to_datetime(),
        );
        let made_here = super::profile::is_own(&parsed);
        let issuer = Issuer::from_ca_cert_der(&parts.certificate, parts.key)?;
        let mut others = Vec::new();
        for (key, certificate) in parts.others {
            others.push((Issuer::from_ca_cert_der(&certificate, key)?, certificate));
        }
        let authorities: Vec<_> = parts.chain.iter().chain(bundle.roots()).cloned().collect();
        let plugged = match &parts.plugged_lists {
            None => Vec::new(),
            Some((pem, path)) => {
                let read = revocation::read(pem, &authorities, now.unix_timestamp());
                read.map_err(|reason| AuthorityError::Certificate {
                    path: path.clone(),
                    reason,
                })?
            }
        };
        let own = std::iter::once((&issuer, &parts.certificate));
        let held: Vec<_> = own
            .chain(others.iter().map(|(issuer, der)| (issuer, der)))
            .collect();
        let lists = revocation::lists(&parts.revoked, &plugged, &held, &authorities).map_err(|source| {
            AuthorityError::List {
                path: path.clone(),
                source,
            }
        })?;
        let bundle = bundle
            .with_aliases(parts.aliases)
            .with_revocations(&lists.pem, lists.leaf_only)
            .map_err(not_root)?;
        let mut answer: Vec<Arc<str>> = Vec::new();
        answer.extend(
            parts
                .chain
                .iter()
                .map(|der| certificates_to_pem(std::slice::from_ref(der)).into()),
        );
        answer.push(bundle.to_pem().into());
        let authority = Self {
            issuer,
            not_before,
            not_after,
            chain: parts.chain,
            bundle,
            certificate: parts.certificate,
            lists,
            revoked: parts.revoked,
            answer,
            own: made_here,
            created: false,
        };
        authority.try_out(&path, now)?;
        Ok(authority)
    }

    /// A leaf that nobody gets, with names of each kind that leaves have: an authority may be constrained in any.
    fn trial(&self, now: OffsetDateTime) -> Result<Leaf, IssueError> {
        let subject = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let id = SpiffeId::system(self.trust_domain(), "citadel")?;
        self.issue(&subject, &id, std::time::Duration::from_secs(60), now)
    }

    fn try_out(&self, path: &std::path::Path, now: OffsetDateTime) -> Result<(), AuthorityError> {
        let path = path.to_owned();
        let trial = self.trial(now).map_err(|source| AuthorityError::Trial {
            path: path.clone(),
            source,
        })?;
        let seconds = u64::try_from(now.unix_timestamp()).unwrap_or(0);
        let at = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
        match verify_peer(&self.bundle, &trial.der, &self.chain, at, Usage::Server) {
            Ok(_) => Ok(()),
            Err(source) => Err(AuthorityError::Unusable { path, source }),
        }
    }

    /// The trust domain that this authority signs for.
    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        self.bundle.trust_domain()
    }

    /// The roots that the mesh trusts: during a rotation there are several.
    #[must_use]
    pub fn bundle(&self) -> &TrustBundle {
        &self.bundle
    }

    /// Intermediates between a leaf and its root, the issuer first; none where the root itself signs.
    #[must_use]
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// The certificate that signs.
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The certificate that signs, PEM.
    #[must_use]
    pub fn certificate_pem(&self) -> String {
        certificates_to_pem(std::slice::from_ref(&self.certificate))
    }

    /// Whether certificates that are signed now still lead to a root when the one with this fingerprint is not trusted.
    #[must_use]
    pub fn stands_without(&self, root: &str) -> bool {
        let kept = self
            .bundle
            .roots()
            .iter()
            .filter(|der| super::folder::fingerprint(der) != root);
        let Ok(bundle) = TrustBundle::new(self.trust_domain().clone(), kept.cloned()) else {
            return false;
        };
        self.trial(now()).is_ok_and(|leaf| {
            verify_peer(&bundle, &leaf.der, &self.chain, UnixTime::now(), Usage::Server).is_ok()
        })
    }

    /// A leaf with what goes with it, in PEM: the leaf first, then intermediates, and in the last place all roots, as
    /// Istio's agents take them.
    #[must_use]
    pub fn answer(&self, leaf: &CertificateDer<'_>) -> Vec<String> {
        let mut answer = Vec::with_capacity(self.answer.len() + 1);
        answer.push(certificates_to_pem(std::slice::from_ref(leaf)));
        answer.extend(self.answer.iter().map(ToString::to_string));
        answer
    }

    /// The lists of revoked certificates that go with the roots.
    #[must_use]
    pub fn lists(&self) -> &Lists {
        &self.lists
    }

    /// Certificates that were revoked here; lists that were plugged in are not in it.
    #[must_use]
    pub fn revoked(&self) -> &Revoked {
        &self.revoked
    }

    /// End of the signing certificate, in seconds since 1970.
    #[must_use]
    pub fn not_after(&self) -> i64 {
        self.not_after.unix_timestamp()
    }

    /// Beginning of the signing certificate, in seconds since 1970.
    #[must_use]
    pub fn not_before(&self) -> i64 {
        self.not_before.unix_timestamp()
    }

    /// Since when this authority can have signed, in seconds since 1970: roots that Citadel makes say an hour earlier.
    #[must_use]
    pub fn since(&self) -> i64 {
        let backdate = match self.own {
            true => super::profile::ROOT_BACKDATE,
            false => time::Duration::ZERO,
        };
        (self.not_before + backdate).unix_timestamp()
    }

    /// Whether this call made the root's certificate.
    #[must_use]
    pub fn created(&self) -> bool {
        self.created
    }
}

/// A signing certificate with a SPIFFE id must have its trust domain's id, without a path (X.509-SVID, section 4.1). A
/// root from before the trust domain was renamed has one of the `aliases`.
fn check_trust_domain(
    root: &X509Certificate<'_>,
    trust_domain: &TrustDomain,
    aliases: &[TrustDomain],
) -> Result<(), String> {
    let san = root.subject_alternative_name().map_err(|e| e.to_string())?;
    let names = san
        .map(|san| san.value.general_names.as_slice())
        .unwrap_or_default();
    let wanted = |uri: &str| {
        let mut names = aliases.iter().chain([trust_domain]);
        uri.strip_prefix("spiffe://")
            .is_some_and(|name| names.any(|domain| domain.as_str() == name))
    };
    for name in names {
        match name {
            GeneralName::URI(uri) if !wanted(uri) => {
                return Err(format!(
                    "the root is {uri}'s, the trust domain is {trust_domain}; name the root's among trustDomainAliases when the trust domain was renamed"
                ));
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
