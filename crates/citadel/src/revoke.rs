//! Revoking certificates before their end, by serial number or by identity.

use std::collections::BTreeMap;

use runtime::spiffe::{SpiffeId, SpiffeIdError};

use crate::ca::files::FileError;
use crate::ca::revocation::{SerialError, TooMany};
use crate::ca::{AuthorityError, Cut, Entry, Folder, Issued, Journal, MAX_LEAF_TTL, Revoked, Serial};

/// What was asked to be revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Which {
    /// One certificate.
    Serial {
        /// Its number.
        serial: Serial,
        /// Also when nobody here knows of such a certificate.
        force: bool,
    },
    /// All that an identity has.
    Identity(SpiffeId),
}

/// Nothing was revoked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RevokeError {
    /// Neither a serial number nor an identity, or both.
    #[error("name one serial number or one identity: argosy ca revoke SERIAL, or --identity SPIFFE-ID")]
    Which,
    /// The serial number.
    #[error(transparent)]
    Serial(#[from] SerialError),
    /// The identity.
    #[error("--identity: {0}")]
    Identity(#[from] SpiffeIdError),
    /// Nobody has a certificate for it.
    #[error(
        "{0} has no certificate that has not ended, by this authority's journal; revoke by the serial number of the audit log"
    )]
    Nothing(SpiffeId),
    /// Nobody has issued it here.
    #[error(
        "no certificate with the serial number {serial} is in this Citadel's journal of {known} that have not ended; when another Citadel or a tool has issued it, revoke it with --force"
    )]
    Unknown {
        /// The serial number.
        serial: String,
        /// How many certificates are in the journal.
        known: usize,
    },
    /// Too many.
    #[error(transparent)]
    TooMany(#[from] TooMany),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] FileError),
    /// The folder.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// Citadel ends.
    #[error("Citadel is stopping")]
    Stopping,
}

impl Which {
    /// From a request's parameters.
    pub(crate) fn parse(
        serial: Option<&str>,
        identity: Option<&str>,
        force: bool,
    ) -> Result<Self, RevokeError> {
        match (serial, identity) {
            (Some(serial), None) => Ok(Self::Serial {
                serial: Serial::parse(serial)?,
                force,
            }),
            (None, Some(identity)) => Ok(Self::Identity(SpiffeId::parse(identity)?)),
            _ => Err(RevokeError::Which),
        }
    }
}

/// What is put on the lists.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Added {
    pub(crate) entries: BTreeMap<Serial, Entry>,
    pub(crate) identities: BTreeMap<String, Cut>,
}

impl Added {
    /// Of one serial number or one identity, by what was issued here. A certificate that the journal does not know may live for as
    /// long as any can.
    fn of(journal: &Journal, which: &Which, now: i64) -> Result<Self, RevokeError> {
        let until = now.saturating_add(i64::try_from(MAX_LEAF_TTL.as_secs()).unwrap_or(i64::MAX));
        match which {
            Which::Identity(id) => {
                let id = id.to_string();
                let entries = issued(journal, &id, now, |_| true)?;
                let cut = Cut { before: now, until };
                let identities = BTreeMap::from([(id, cut)]);
                Ok(Self { entries, identities })
            }
            Which::Serial { serial, force } => {
                let found = journal.find(now, |issued| issued.serial == *serial)?;
                let entry = match found.into_iter().next() {
                    Some(issued) => of_issued(now, issued),
                    None if *force => entry(now, until, None),
                    None => {
                        return Err(RevokeError::Unknown {
                            serial: serial.as_str().to_owned(),
                            known: journal.find(now, |_| true)?.len(),
                        });
                    }
                };
                Ok(Self {
                    entries: BTreeMap::from([(serial.clone(), entry)]),
                    ..Self::default()
                })
            }
        }
    }

    /// Puts all of it on the lists that is not there.
    ///
    /// # Errors
    /// When it is too much, the folder cannot be used, or the authority cannot sign lists (that is tried out first); then nothing
    /// has changed.
    pub(crate) fn put(&self, folder: &Folder, now: i64) -> Result<(), RevokeError> {
        folder.revoke(|revoked| {
            for (identity, cut) in &self.identities {
                revoked.cut(identity, cut.clone())?;
            }
            revoked.add(self.entries.clone(), now)?;
            folder.try_lists(revoked)?;
            Ok::<_, RevokeError>(())
        })
    }

    /// Whether all of it is on the lists.
    pub(crate) fn is_in(&self, revoked: &Revoked) -> bool {
        let has = |id: &String, cut: &Cut| {
            revoked
                .identities
                .get(id)
                .is_some_and(|own| own.before >= cut.before)
        };
        self.entries
            .keys()
            .all(|serial| revoked.entries.contains_key(serial))
            && self.identities.iter().all(|(id, cut)| has(id, cut))
    }

    /// Without what has ended.
    pub(crate) fn forget(&mut self, now: i64) {
        self.entries.retain(|_, entry| entry.until > now);
        self.identities.retain(|_, cut| cut.until > now);
    }

    pub(crate) fn extend(&mut self, other: Self) {
        self.entries.extend(other.entries);
        self.identities.extend(other.identities);
    }
}

/// The certificates of an identity that were issued here, have not ended and satisfy `wanted`, as entries of the list.
///
/// # Errors
/// When the journal cannot be read.
pub(crate) fn issued(
    journal: &Journal,
    identity: &str,
    now: i64,
    wanted: impl Fn(&Issued) -> bool,
) -> Result<BTreeMap<Serial, Entry>, FileError> {
    let found = journal.find(now, |issued| issued.identity == identity && wanted(issued))?;
    Ok(found
        .into_iter()
        .map(|issued| (issued.serial.clone(), of_issued(now, issued)))
        .collect())
}

/// Puts certificates on the lists, and says what.
///
/// # Errors
/// As [`Added::put`], and for an identity that has no certificate: with `alone` the journal knows them all.
pub(crate) fn revoke(
    folder: &Folder,
    journal: &Journal,
    which: &Which,
    alone: bool,
    now: i64,
) -> Result<Added, RevokeError> {
    let added = Added::of(journal, which, now)?;
    if let (Which::Identity(id), true, true) = (which, alone, added.entries.is_empty()) {
        return Err(RevokeError::Nothing(id.clone()));
    }
    added.put(folder, now)?;
    for serial in added.entries.keys() {
        let serial = serial.as_str();
        tracing::warn!(target: "citadel::audit", serial, ?which, "certificate revoked by request");
    }
    Ok(added)
}

fn of_issued(now: i64, issued: Issued) -> Entry {
    entry(now, issued.not_after, Some(issued.identity))
}

fn entry(now: i64, until: i64, identity: Option<String>) -> Entry {
    Entry {
        revoked: now,
        until,
        identity,
    }
}
