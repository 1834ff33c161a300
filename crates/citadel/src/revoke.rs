//! Revoking certificates before their end, by serial number or by identity.

use std::collections::BTreeMap;

use runtime::spiffe::{SpiffeId, SpiffeIdError};

use crate::ca::files::FileError;
use crate::ca::revocation::{SerialError, TooMany};
use crate::ca::{AuthorityError, Entry, Folder, Issued, Journal, MAX_LEAF_TTL, Serial};

/// What was asked to be revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Which {
    /// One certificate.
    Serial(Serial),
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
    pub(crate) fn parse(serial: Option<&str>, identity: Option<&str>) -> Result<Self, RevokeError> {
        match (serial, identity) {
            (Some(serial), None) => Ok(Self::Serial(Serial::parse(serial)?)),
            (None, Some(identity)) => Ok(Self::Identity(SpiffeId::parse(identity)?)),
            _ => Err(RevokeError::Which),
        }
    }

    fn is_of(&self, issued: &Issued) -> bool {
        match self {
            Self::Serial(serial) => issued.serial == *serial,
            Self::Identity(id) => issued.identity == id.to_string(),
        }
    }
}

/// Puts certificates on the lists. One that the journal does not know may live for as long as any can.
///
/// # Errors
/// When there is nothing to revoke, too much, or the folder cannot be used; then nothing has changed. When the authority
/// cannot sign lists, that is tried out first.
pub(crate) fn revoke(folder: &Folder, journal: &Journal, which: &Which, now: i64) -> Result<(), RevokeError> {
    let found = journal.find(now, |issued| which.is_of(issued))?;
    let mut entries: BTreeMap<Serial, Entry> = found
        .into_iter()
        .map(|issued| (issued.serial, entry(now, issued.not_after, Some(issued.identity))))
        .collect();
    match which {
        Which::Identity(id) if entries.is_empty() => return Err(RevokeError::Nothing(id.clone())),
        Which::Identity(_) => {}
        Which::Serial(serial) => {
            let life = i64::try_from(MAX_LEAF_TTL.as_secs()).unwrap_or(i64::MAX);
            let unknown = entry(now, now.saturating_add(life), None);
            entries.entry(serial.clone()).or_insert(unknown);
        }
    }
    let serials: Vec<String> = entries.keys().map(|serial| serial.as_str().to_owned()).collect();
    folder.revoke(|revoked| {
        revoked.add(entries, now)?;
        folder.try_lists(revoked)?;
        Ok::<_, RevokeError>(())
    })?;
    for serial in serials {
        tracing::warn!(target: "citadel::audit", serial, ?which, "certificate revoked by request");
    }
    Ok(())
}

fn entry(now: i64, until: i64, identity: Option<String>) -> Entry {
    Entry {
        revoked: now,
        until,
        identity,
    }
}
