//! Which certificates were revoked before their end, and the lists (RFC 5280, section 5) that say so. Pure.
//!
//! An entry stays until its certificate has ended: leaves live for a day at most, so lists stay short and go away by
//! themselves. Every authority that is held signs a list of all entries: serial numbers are random, so an entry in the
//! list of an authority that did not sign the certificate means nothing.

use std::collections::{BTreeMap, BTreeSet};

use rcgen::{CertificateRevocationListParams, Issuer, KeyIdMethod, RevokedCertParams, SerialNumber};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};
use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};
use x509_parser::prelude::{CertificateRevocationList, FromDer, ParsedExtension, X509Certificate};

use super::key::Key;

/// Most certificates that are revoked at one time.
pub const MAX_REVOKED: usize = 5000;
/// Most octets of a serial number (RFC 5280, section 4.1.2.2).
const MAX_SERIAL: usize = 20;
/// A list is valid from this long before it was made, for machines whose clocks are behind.
const BACKDATE: Duration = Duration::hours(1);
/// A list is valid for this long after its last entry has ended: it changes by then, or is taken away.
const MARGIN: Duration = Duration::days(7);

/// A text that is no serial number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a serial number: write its 1 to {MAX_SERIAL} bytes in hexadecimal, with or without colons, as the audit log and openssl print it"
)]
pub struct SerialError(String);

/// A certificate's serial number: hexadecimal, lower case, without colons and leading zeros.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Serial(String);

impl Serial {
    /// Reads hexadecimal digits of either case, with or without colons.
    ///
    /// # Errors
    /// When there are other characters, no digit or more than 20 bytes.
    pub fn parse(text: &str) -> Result<Self, SerialError> {
        let wrong = || SerialError(text.chars().take(64).collect());
        let digits: String = text.chars().filter(|c| *c != ':').collect();
        let significant = digits.trim_start_matches('0');
        let fits = (1..=2 * MAX_SERIAL).contains(&significant.len());
        match fits && significant.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            true => Ok(Self(significant.to_ascii_lowercase())),
            false => Err(wrong()),
        }
    }

    /// The number's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The number in big-endian bytes.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let padded = format!("{}{}", "0".repeat(self.0.len() % 2), self.0);
        let pairs = padded.as_bytes().chunks(2);
        pairs
            .filter_map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
            .collect()
    }
}

/// Why and until when a certificate is on the list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Entry {
    /// When it was revoked, in seconds since 1970.
    pub revoked: i64,
    /// When the certificate ends, in seconds since 1970: the entry is not needed longer.
    pub until: i64,
    /// Whose it is, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
}

/// An identity all of whose certificates were revoked. Each Citadel puts on the list what it has issued to it, and until the last
/// of these has ended none of them takes a certificate of the identity for proof: a Citadel that is gone has issued some too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Cut {
    /// Certificates that were issued until then are revoked, in seconds since 1970.
    pub before: i64,
    /// When the last of them has ended, in seconds since 1970.
    pub until: i64,
}

/// All revoked certificates, as they are kept in `revoked.json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Revoked {
    /// Counts changes: the lists' CRL number.
    pub number: u64,
    /// The time of the last change, in seconds since 1970: the lists' `thisUpdate`.
    pub changed: i64,
    /// By serial number.
    pub entries: BTreeMap<Serial, Entry>,
    /// Identities all of whose certificates were revoked.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub identities: BTreeMap<String, Cut>,
}

impl Revoked {
    /// Adds entries at `now`; how many are new.
    ///
    /// # Errors
    /// When there would be more than [`MAX_REVOKED`]; then nothing is added.
    pub fn add(&mut self, added: BTreeMap<Serial, Entry>, now: i64) -> Result<usize, TooMany> {
        let new = added
            .keys()
            .filter(|serial| !self.entries.contains_key(*serial))
            .count();
        if self.entries.len() + new > MAX_REVOKED {
            return Err(TooMany);
        }
        for (serial, entry) in added {
            self.entries.entry(serial).or_insert(entry);
        }
        if new > 0 {
            self.step(now);
        }
        Ok(new)
    }

    /// Revokes all that was issued to an identity; a later time than before counts.
    ///
    /// # Errors
    /// When there would be more than [`MAX_REVOKED`] identities; then nothing is added.
    pub fn cut(&mut self, identity: &str, cut: Cut) -> Result<(), TooMany> {
        let full = self.identities.len() >= MAX_REVOKED;
        match self.identities.get_mut(identity) {
            Some(known) if known.before >= cut.before => {}
            Some(known) => *known = cut,
            None if full => return Err(TooMany),
            None => _ = self.identities.insert(identity.to_owned(), cut),
        }
        Ok(())
    }

    /// Whether a certificate has ended that is still on the list.
    #[must_use]
    pub fn stale(&self, now: i64) -> bool {
        self.entries.values().any(|entry| entry.until <= now)
            || self.identities.values().any(|cut| cut.until <= now)
    }

    /// Takes certificates off the list that have ended.
    pub fn forget(&mut self, now: i64) {
        self.entries.retain(|_, entry| entry.until > now);
        self.identities.retain(|_, cut| cut.until > now);
        self.step(now);
    }

    fn step(&mut self, now: i64) {
        self.number = self.number.saturating_add(1);
        self.changed = now;
    }
}

/// More certificates than a list may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "more than {MAX_REVOKED} certificates would be revoked: replace the root instead (argosy ca rotate --emergency)"
)]
pub struct TooMany;

/// A list that was plugged in by the authority's owner.
#[derive(Debug, Clone)]
pub struct Plugged {
    der: CertificateRevocationListDer<'static>,
    issuer: Vec<u8>,
    entries: Vec<(Vec<u8>, i64)>,
    /// When its owner will have made the next, in seconds since 1970; proxies refuse everybody by a list that is older.
    pub next_update: i64,
}

/// Reads the lists in a PEM text, each of which one of `authorities` must have signed.
///
/// # Errors
/// When a list is not what it should be; the text says which and why.
pub fn read(pem: &[u8], authorities: &[CertificateDer<'static>], now: i64) -> Result<Vec<Plugged>, String> {
    let mut lists = Vec::new();
    for (index, der) in CertificateRevocationListDer::pem_slice_iter(pem).enumerate() {
        let wrong = |reason: String| format!("revocation list {}: {reason}", index + 1);
        let der = der.map_err(|error| wrong(format!("not valid PEM: {error}")))?;
        lists.push(read_one(&der, authorities, now).map_err(wrong)?);
    }
    match lists.is_empty() {
        true => Err("holds no \"X509 CRL\" block".into()),
        false => Ok(lists),
    }
}

fn read_one(
    der: &CertificateRevocationListDer<'static>,
    authorities: &[CertificateDer<'static>],
    now: i64,
) -> Result<Plugged, String> {
    let (rest, list) = CertificateRevocationList::from_der(der).map_err(|error| error.to_string())?;
    if !rest.is_empty() {
        return Err("there is something behind it".into());
    }
    let signed = authorities.iter().any(|authority| {
        X509Certificate::from_der(authority).is_ok_and(|(_, authority)| {
            authority.subject().as_raw() == list.issuer().as_raw()
                && list.verify_signature(authority.public_key()).is_ok()
        })
    });
    if !signed {
        return Err(format!(
            "{} is none of this authority's certificates, or did not sign it",
            list.issuer()
        ));
    }
    let Some(next_update) = list.next_update() else {
        return Err("it has no nextUpdate (RFC 5280, section 5.1.2.5)".into());
    };
    if next_update.timestamp() <= now {
        return Err("it has ended: proxies would refuse everybody, nothing can be revoked, and Citadel would not start again with it; put a new one in its place, or take it away".into());
    }
    let entries = list
        .iter_revoked_certificates()
        .map(|entry| (entry.raw_serial().to_vec(), entry.revocation_date.timestamp()))
        .collect();
    Ok(Plugged {
        issuer: list.issuer().as_raw().to_vec(),
        entries,
        next_update: next_update.timestamp(),
        der: der.clone(),
    })
}

/// What goes to proxies beside the roots.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lists {
    /// PEM; empty where nothing is revoked and nothing was plugged in.
    pub pem: String,
    /// Not every authority between a leaf and its root has a list.
    pub leaf_only: bool,
    /// Until when all of them count, in seconds since 1970; 0 for no list.
    pub next_update: i64,
}

/// Puts the lists together: for each authority that is held, one of all entries when there are any, with what was
/// plugged in for it; and what was plugged in for others as it is.
///
/// # Errors
/// When an authority must not sign lists: its key usage lacks cRLSign.
pub(super) fn lists(
    revoked: &Revoked,
    plugged: &[Plugged],
    held: &[(&Issuer<'static, Key>, &CertificateDer<'static>)],
    authorities: &[CertificateDer<'static>],
) -> Result<Lists, rcgen::Error> {
    let mut lists = Lists::default();
    let mut covered = BTreeSet::new();
    let mut next_update = i64::MAX;
    if !revoked.entries.is_empty() {
        for (issuer, certificate) in held {
            let Some(name) = subject(certificate) else {
                continue;
            };
            let theirs = plugged.iter().filter(|list| list.issuer == name);
            let (pem, until) = own(revoked, theirs, issuer, key_id(certificate))?;
            lists.pem.push_str(&pem);
            next_update = next_update.min(until);
            covered.insert(name);
        }
    }
    for list in plugged
        .iter()
        .filter(|list| !covered.contains(&list.issuer))
        .collect::<Vec<_>>()
    {
        lists.pem.push_str(&encode(&list.der));
        next_update = next_update.min(list.next_update);
        covered.insert(list.issuer.clone());
    }
    if !lists.pem.is_empty() {
        lists.next_update = next_update;
        let all = authorities
            .iter()
            .all(|certificate| subject(certificate).is_some_and(|name| covered.contains(&name)));
        lists.leaf_only = !all;
    }
    Ok(lists)
}

fn own<'a>(
    revoked: &Revoked,
    plugged: impl Iterator<Item = &'a Plugged>,
    issuer: &Issuer<'static, Key>,
    key_identifier_method: KeyIdMethod,
) -> Result<(String, i64), rcgen::Error> {
    let entry = |serial: Vec<u8>, at: i64| RevokedCertParams {
        serial_number: SerialNumber::from(serial),
        revocation_time: moment(at),
        reason_code: None,
        invalidity_date: None,
    };
    let mut all: BTreeMap<Vec<u8>, i64> = plugged.flat_map(|list| list.entries.iter().cloned()).collect();
    all.extend(
        revoked
            .entries
            .iter()
            .map(|(serial, entry)| (serial.bytes(), entry.revoked)),
    );
    let last = revoked
        .entries
        .values()
        .map(|entry| entry.until)
        .max()
        .unwrap_or(revoked.changed);
    let next_update = moment(last.max(revoked.changed)) + MARGIN;
    let params = CertificateRevocationListParams {
        this_update: moment(revoked.changed) - BACKDATE,
        next_update,
        crl_number: SerialNumber::from(revoked.number.max(1)),
        issuing_distribution_point: None,
        revoked_certs: all.into_iter().map(|(serial, at)| entry(serial, at)).collect(),
        key_identifier_method,
    };
    let list = params.signed_by(issuer)?;
    Ok((encode(list.der()), next_update.unix_timestamp()))
}

/// How the list names its signer's key: as the signer's certificate does, or verifiers do not take it for that signer's
/// (RFC 5280, section 5.2.1).
fn key_id(certificate: &CertificateDer<'static>) -> KeyIdMethod {
    let named = X509Certificate::from_der(certificate)
        .ok()
        .and_then(|(_, parsed)| {
            parsed
                .iter_extensions()
                .find_map(|extension| match extension.parsed_extension() {
                    ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
                    _ => None,
                })
        });
    named.map_or(KeyIdMethod::Sha256, KeyIdMethod::PreSpecified)
}

fn encode(der: &[u8]) -> String {
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    pem::encode_config(&pem::Pem::new("X509 CRL", der), config)
}

fn moment(seconds: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

fn subject(certificate: &CertificateDer<'static>) -> Option<Vec<u8>> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    Some(parsed.subject().as_raw().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serial_numbers_are_read_as_logs_and_openssl_print_them() {
        let check = |text: &str, expected: Option<&str>| {
            let seen = Serial::parse(text).ok();
            assert_eq!(seen.as_ref().map(Serial::as_str), expected, "{text}");
        };
        check("0a:FF:01", Some("aff01"));
        check("AFF01", Some("aff01"));
        check("00:00", None);
        check("", None);
        check("xyz", None);
        check("-1", None);
        check(&"f".repeat(40), Some(&"f".repeat(40)));
        check(&"f".repeat(41), None);
        assert_eq!(Serial::parse("aff01").unwrap().bytes(), [0x0a, 0xff, 0x01]);
    }

    fn entry(until: i64) -> Entry {
        Entry {
            revoked: 10,
            until,
            identity: None,
        }
    }

    fn serials(count: u64) -> BTreeMap<Serial, Entry> {
        (1..=count)
            .map(|n| (Serial::parse(&format!("{n:x}")).unwrap(), entry(100)))
            .collect()
    }

    #[test]
    fn entries_leave_when_their_certificates_have_ended() {
        let mut revoked = Revoked::default();
        assert_eq!(revoked.add(serials(2), 10), Ok(2));
        assert_eq!(revoked.add(serials(2), 11), Ok(0));
        assert_eq!(
            (revoked.number, revoked.changed),
            (1, 10),
            "nothing new is no change"
        );
        assert!(!revoked.stale(99) && revoked.stale(100));
        revoked.forget(100);
        assert_eq!((revoked.entries.len(), revoked.number), (0, 2));
    }

    #[test]
    fn identities_leave_when_their_last_certificate_has_ended() {
        let cut = |before| Cut {
            before,
            until: before + 100,
        };
        let mut revoked = Revoked::default();
        revoked.cut("spiffe://td/x", cut(10)).unwrap();
        revoked.cut("spiffe://td/x", cut(20)).unwrap();
        revoked.cut("spiffe://td/x", cut(15)).unwrap();
        assert_eq!(revoked.identities["spiffe://td/x"], cut(20));
        assert!(!revoked.stale(119) && revoked.stale(120));
        revoked.forget(120);
        assert_eq!(revoked.identities.len(), 0);
        // What was written before there were identities is read as it was.
        let old: Revoked = serde_json::from_str(r#"{"number":1,"changed":2,"entries":{}}"#).unwrap();
        assert_eq!((old.number, old.identities.len()), (1, 0));
    }

    #[test]
    fn the_number_of_entries_is_bounded() {
        let mut revoked = Revoked::default();
        revoked.add(serials(MAX_REVOKED as u64), 10).unwrap();
        let more = BTreeMap::from([(Serial::parse("ffffff").unwrap(), entry(100))]);
        assert_eq!(revoked.add(more, 10), Err(TooMany));
        assert_eq!(revoked.entries.len(), MAX_REVOKED);
    }
}
