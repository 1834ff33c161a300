//! Leaf certificates, by SPIFFE X.509-SVID (section 4) to the letter.

use rcgen::PublicKeyData;
use runtime::spiffe::{SpiffeId, SpiffeIdError};
use rustls_pki_types::CertificateDer;
use time::{Duration, OffsetDateTime};

use super::authority::Authority;
use super::profile;
use super::revocation::Serial;

/// The longest life that a leaf can have.
pub const MAX_LEAF_TTL: std::time::Duration = std::time::Duration::from_secs(24 * 3600);
/// A leaf is valid from this long ago, for machines whose clocks are behind.
const BACKDATE: Duration = Duration::minutes(2);

/// A certificate could not be signed.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The root has ended, or has not begun.
    #[error(
        "the root certificate has expired (or is not yet valid) by this machine's clock: replace the root, or correct the clock"
    )]
    RootExpired,
    /// The id is not of this trust domain, or names no workload.
    #[error("{0} is not a workload of this authority's trust domain")]
    Id(SpiffeId),
    /// The trust domain leaves no room for a path.
    #[error("trust domain: {0}")]
    TrustDomain(#[from] SpiffeIdError),
    /// The cryptography library refused.
    #[error("signing failed: {0}")]
    Sign(#[from] rcgen::Error),
}

/// A signed certificate.
#[derive(Debug, Clone)]
pub struct Leaf {
    /// The certificate.
    pub der: CertificateDer<'static>,
    /// Its serial number, hexadecimal.
    pub serial: String,
    /// Its end, in seconds since 1970.
    pub not_after: i64,
}

/// What a leaf is issued for, beside its key and identity.
#[derive(Debug, Clone, Copy)]
pub struct Terms<'a> {
    /// Its life: at most [`MAX_LEAF_TTL`], and never past the root's end.
    pub ttl: std::time::Duration,
    /// When its holder was last recognised by more than a certificate of this authority, in seconds since 1970.
    pub proven: i64,
    /// DNS names beside those that follow from the identity; never a caller's wish.
    pub names: &'a [String],
}

/// When the holder of a certificate of this authority was last recognised by more than a certificate, in seconds since 1970: by
/// its serial number (hexadecimal). `None` for certificates that do not say so.
#[must_use]
pub fn proven(serial: &str) -> Option<i64> {
    profile::proven(&Serial::parse(serial).ok()?.bytes())
}

impl Authority {
    /// Signs `key` for `id`, whose holder is recognised `now`. The life is `ttl`, at most [`MAX_LEAF_TTL`] and never past the root's
    /// end.
    ///
    /// # Errors
    /// When the root has ended, the id is foreign, or signing fails.
    pub fn issue(
        &self,
        key: &impl PublicKeyData,
        id: &SpiffeId,
        ttl: std::time::Duration,
        now: OffsetDateTime,
    ) -> Result<Leaf, IssueError> {
        let terms = Terms {
            ttl,
            proven: now.unix_timestamp(),
            names: &[],
        };
        self.issue_on(key, id, &terms, now)
    }

    /// As [`Authority::issue`], on other terms.
    ///
    /// # Errors
    /// As [`Authority::issue`], and when one of the names is none.
    pub fn issue_on(
        &self,
        key: &impl PublicKeyData,
        id: &SpiffeId,
        terms: &Terms<'_>,
        now: OffsetDateTime,
    ) -> Result<Leaf, IssueError> {
        if id.trust_domain() != self.trust_domain() || id.path().is_empty() {
            return Err(IssueError::Id(id.clone()));
        }
        let not_after = (now + terms.ttl.min(MAX_LEAF_TTL)).min(self.not_after);
        if now < self.not_before || not_after <= now {
            return Err(IssueError::RootExpired);
        }
        let not_before = (now - BACKDATE).max(self.not_before);
        let serial = profile::leaf_serial(terms.proven);
        let text = serial.to_string();
        let params = profile::leaf(id, not_before, not_after, serial, terms.names)?;
        let certificate = params.signed_by(key, &self.issuer)?;
        Ok(Leaf {
            der: certificate.der().clone(),
            serial: text,
            not_after: not_after.unix_timestamp(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::authority::now;
    use super::*;
    use rcgen::{KeyPair, PKCS_ECDSA_P384_SHA384, PKCS_RSA_SHA256, RsaKeySize};
    use runtime::spiffe::TrustDomain;
    use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

    fn root() -> (tempfile::TempDir, Authority) {
        let dir = tempfile::tempdir().unwrap();
        let root = Authority::load_or_create(&dir.path().join("ca"), &TrustDomain::default()).unwrap();
        (dir, root)
    }

    fn id() -> SpiffeId {
        SpiffeId::parse("spiffe://cluster.local/ns/shop/sa/orders").unwrap()
    }

    const HOUR: std::time::Duration = std::time::Duration::from_secs(3600);

    #[test]
    fn each_must_of_the_specification_holds() {
        let (_dir, root) = root();
        let now = now();
        let leaf = root
            .issue(&KeyPair::generate().unwrap(), &id(), HOUR, now)
            .unwrap();
        let (rest, parsed) = X509Certificate::from_der(&leaf.der).unwrap();
        assert!(rest.is_empty() && parsed.subject().iter().count() == 0);
        let san = parsed.subject_alternative_name().unwrap().unwrap();
        assert!(
            san.critical,
            "critical because the subject is empty (RFC 5280, 4.2.1.6)"
        );
        assert_eq!(
            san.value.general_names,
            [GeneralName::URI("spiffe://cluster.local/ns/shop/sa/orders")]
        );
        let constraints = parsed.basic_constraints().unwrap().unwrap();
        assert!(!constraints.value.ca);
        let usage = parsed.key_usage().unwrap().unwrap();
        assert!(
            usage.critical && usage.value.flags == 1,
            "digitalSignature and nothing else"
        );
        let extended = parsed.extended_key_usage().unwrap().unwrap().value;
        assert!(extended.server_auth && extended.client_auth && !extended.any && extended.other.is_empty());
        assert_eq!(
            parsed.validity().not_before.timestamp(),
            now.unix_timestamp() - 120
        );
        assert_eq!(
            parsed.validity().not_after.timestamp(),
            now.unix_timestamp() + 3600
        );
        assert_eq!(leaf.not_after, now.unix_timestamp() + 3600);
        assert_eq!(parsed.tbs_certificate.raw_serial_as_string(), leaf.serial);
        assert_eq!(proven(&leaf.serial), Some(now.unix_timestamp()));
        let authority = parsed
            .iter_extensions()
            .any(|e| e.oid == x509_parser::oid_registry::OID_X509_EXT_AUTHORITY_KEY_IDENTIFIER);
        assert!(authority);
    }

    #[test]
    fn serials_are_positive_random_and_of_full_length() {
        let serials: std::collections::BTreeSet<Vec<u8>> =
            (0..1000).map(|_| profile::leaf_serial(7).to_bytes()).collect();
        assert_eq!(serials.len(), 1000);
        assert!(serials.iter().all(|s| s.len() == 20 && s[0] < 0x80 && s[0] > 0));
        assert!((0..1000).all(|_| profile::serial().to_bytes().len() == 16));
    }

    #[test]
    fn life_is_bounded_by_the_maximum_and_by_the_root() {
        let (_dir, root) = root();
        let now = now();
        let key = KeyPair::generate().unwrap();
        let life = |ttl, at: OffsetDateTime| {
            root.issue(&key, &id(), ttl, at)
                .map(|l| l.not_after - at.unix_timestamp())
        };
        assert_eq!(life(HOUR * 1000, now).unwrap(), 24 * 3600);
        let near = root.not_after - Duration::minutes(10);
        assert_eq!(life(HOUR, near).unwrap(), 600);
        assert!(matches!(life(HOUR, root.not_after), Err(IssueError::RootExpired)));
        assert!(matches!(
            life(HOUR, root.not_before - Duration::seconds(1)),
            Err(IssueError::RootExpired)
        ));
    }

    #[test]
    fn other_keys_are_signed_too() {
        let (_dir, root) = root();
        let rsa = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
        let p384 = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
        assert!(root.issue(&rsa, &id(), HOUR, now()).is_ok());
        assert!(root.issue(&p384, &id(), HOUR, now()).is_ok());
    }

    #[test]
    fn foreign_and_pathless_ids_are_not_signed() {
        let (_dir, root) = root();
        for id in ["spiffe://other/ns/a/sa/b", "spiffe://cluster.local"] {
            let id = SpiffeId::parse(id).unwrap();
            let result = root.issue(&KeyPair::generate().unwrap(), &id, HOUR, now());
            assert!(matches!(result, Err(IssueError::Id(_))), "{id}");
        }
    }
}
