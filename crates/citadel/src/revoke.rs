//! Revoking certificates before their end, by serial number or by identity.

use std::collections::BTreeMap;

use runtime::logging::utc;
use runtime::spiffe::{SpiffeId, SpiffeIdError};

use crate::ca::files::FileError;
use crate::ca::revocation::{SerialError, TooMany};
use crate::ca::{self, AuthorityError, Cut, Entry, Folder, Issued, Journal, MAX_LEAF_TTL, Revoked, Serial};
use crate::status::Status;

/// What whoever has asked is told.
#[derive(Debug, Clone, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Answer {
    /// How many serial numbers this Citadel's journal has put on the list for it.
    pub(crate) listed: usize,
    /// What may not be on the list, and what to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) warning: Option<String>,
    /// How the authority stands now.
    #[serde(flatten)]
    pub(crate) status: Status,
}

/// What to warn of where there are other Citadels, each with a journal of its own that goes when its Pod does: certificates of the
/// identity may be in none of them. `started`: since when this one has noted what it issued, in seconds since 1970.
pub(crate) fn warning(which: &Which, listed: usize, started: i64, now: i64) -> Option<String> {
    let Which::Identity(id) = which else {
        return None;
    };
    let complete = now.saturating_sub(started) >= longest_life();
    (listed == 0 || !complete).then(|| {
        format!(
            "this Citadel has issued {listed} certificates of {id} that have not ended since it was started ({}); other replicas that run add theirs within seconds (argosy ca status). What Pods have issued that are gone is in no journal: workloads accept it until it ends, at {} at the latest. Revoke it by the serial numbers in the audit log (argosy ca revoke SERIAL --force), or replace the root (argosy ca rotate --emergency)",
            utc(started),
            utc(now.saturating_add(longest_life()))
        )
    })
}

/// The longest life of a certificate, in seconds.
fn longest_life() -> i64 {
    i64::try_from(MAX_LEAF_TTL.as_secs()).unwrap_or(i64::MAX)
}

/// What was asked to be revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Which {
    /// One certificate, and what was renewed by it.
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
        let until = now.saturating_add(longest_life());
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
                let entries = match found.into_iter().next() {
                    Some(issued) => family(journal, issued, now)?,
                    None if *force => BTreeMap::from([(serial.clone(), entry(now, until, None))]),
                    None => {
                        return Err(RevokeError::Unknown {
                            serial: serial.as_str().to_owned(),
                            known: journal.find(now, |_| true)?.len(),
                        });
                    }
                };
                Ok(Self {
                    entries,
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

/// A certificate with those that were had by showing it, or by what it was had by: who has stolen its key may have renewed by it,
/// for keys of their own. All of them tell the same time of the last proof, and no token came between.
///
/// # Errors
/// When the journal cannot be read.
fn family(journal: &Journal, of: Issued, now: i64) -> Result<BTreeMap<Serial, Entry>, FileError> {
    let proven = |serial: &Serial| ca::proven(serial.as_str());
    let same = |other: &Issued| {
        let time = proven(&of.serial);
        (of.renewed || other.renewed) && time.is_some() && proven(&other.serial) == time
    };
    let mut entries = issued(journal, &of.identity, now, same)?;
    entries.insert(of.serial.clone(), of_issued(now, of));
    Ok(entries)
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

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "spiffe://td/ns/shop/sa/orders";

    /// The serial number of a certificate whose holder was recognised at `proven`, as Citadel makes it.
    fn serial(proven: u32, random: u8) -> Serial {
        Serial::parse(&format!(
            "417267{proven:08x}{}",
            format!("{random:02x}").repeat(13)
        ))
        .unwrap()
    }

    #[test]
    fn what_was_renewed_by_a_certificate_goes_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::new(dir.path());
        let note = |proven, random, identity: &str, renewed| {
            let serial = serial(proven, random);
            let (identity, not_after, at) = (identity.to_owned(), 1000, 50);
            let issued = Issued {
                serial,
                not_after,
                identity,
                at,
                renewed,
            };
            journal.note(issued).unwrap();
        };
        // By a token; by that, and by what came of it; by a token again; another's.
        note(10, 1, ID, false);
        note(10, 2, ID, true);
        note(10, 3, ID, true);
        note(60, 4, ID, false);
        note(10, 5, "spiffe://td/ns/shop/sa/stock", true);
        // Another replica of the workload, that came in the same second.
        note(60, 6, ID, false);
        let check = |revoked: Serial, expected: &[Serial]| {
            let which = Which::Serial {
                serial: revoked,
                force: false,
            };
            let added = Added::of(&journal, &which, 100).unwrap();
            let seen: Vec<Serial> = added.entries.into_keys().collect();
            assert_eq!(seen, expected, "{which:?}");
        };
        let family = [serial(10, 1), serial(10, 2), serial(10, 3)];
        check(serial(10, 1), &family);
        check(serial(10, 3), &family);
        check(serial(60, 4), &[serial(60, 4)]);
    }

    #[test]
    fn what_journals_may_lack_is_said() {
        let id = Which::Identity(SpiffeId::parse(ID).unwrap());
        let day = longest_life();
        let check = |which: &Which, listed, age, expected: bool| {
            let seen = warning(which, listed, 1000, 1000 + age);
            assert_eq!(seen.is_some(), expected, "{seen:?}");
            for part in [
                "SERIAL --force",
                "rotate --emergency",
                &format!("issued {listed} certificates of {ID}"),
            ] {
                assert!(seen.as_ref().is_none_or(|text| text.contains(part)), "{seen:?}");
            }
        };
        check(&id, 0, 10, true);
        check(&id, 0, 2 * day, true);
        check(&id, 3, 10, true);
        check(&id, 3, day, false);
        check(
            &Which::Serial {
                serial: serial(1, 1),
                force: true,
            },
            1,
            10,
            false,
        );
    }
}
