//! What changes an authority's folder: the steps of a rotation, tainting, revoking. Each is taken under the folder's
//! lock and can be taken again after it was interrupted anywhere.

use super::authority::{Authority, AuthorityError, now};
use super::files;
use super::folder::{Folder, KEY_FILE, NEXT_KEY_FILE, RETIRING_KEY_FILE, REVOKED_FILE, fingerprint, of_key};
use super::key::Key;
use super::revocation::Revoked;
use super::rotation::Record;

impl Folder {
    /// Changes what is revoked, and keeps that; nothing is written when `change` fails.
    ///
    /// # Errors
    /// `change`'s, or when the file cannot be read or written; then nothing has changed.
    pub fn revoke<T, E: From<AuthorityError>>(
        &self,
        change: impl FnOnce(&mut Revoked) -> Result<T, E>,
    ) -> Result<T, E> {
        let _lock = self.lock()?;
        let mut revoked = self.revoked()?;
        let before = revoked.clone();
        let done = change(&mut revoked)?;
        if revoked != before {
            let text = serde_json::to_string(&revoked).unwrap_or_default();
            files::write_atomic(&self.state_path(REVOKED_FILE), text.as_bytes(), 0o600)
                .map_err(AuthorityError::from)?;
        }
        Ok(done)
    }

    /// Whether this authority can sign lists of what is revoked.
    ///
    /// # Errors
    /// When it must not, or the folder cannot be read.
    pub fn try_lists(&self, revoked: &Revoked) -> Result<(), AuthorityError> {
        let mut parts = self.parts()?;
        parts.revoked = revoked.clone();
        Authority::assemble(parts, self.trust_domain(), now()).map(drop)
    }

    /// Makes the next root, which is trusted from now on and does not sign yet. What an interrupted call left is used.
    ///
    /// # Errors
    /// When files cannot be read or written; then nothing has changed that matters.
    pub fn prepare(&self, emergency: bool) -> Result<(), AuthorityError> {
        let _lock = self.lock()?;
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

    /// Lets the next root sign. The old key is put aside: proxies that have lists of revoked certificates want one of each
    /// root that they trust.
    ///
    /// # Errors
    /// When files cannot be read or written; the step can be taken again.
    pub fn activate(&self) -> Result<(), AuthorityError> {
        let _lock = self.lock()?;
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
        self.write_key(RETIRING_KEY_FILE, &old)?;
        self.write_record(&record)?;
        Ok(files::rename(&self.path(NEXT_KEY_FILE), &self.path(KEY_FILE))?)
    }

    /// Trusts the roots no more that are to be retired; their keys are destroyed.
    ///
    /// # Errors
    /// When files cannot be read or written; the step can be taken again.
    pub fn retire(&self) -> Result<(), AuthorityError> {
        let _lock = self.lock()?;
        let record = self.record()?;
        let mut distrusted = record.distrusted;
        if self.plugged() {
            distrusted.extend(record.retiring);
            distrusted.sort();
            distrusted.dedup();
        } else {
            files::remove(&self.path(RETIRING_KEY_FILE))?;
            let mut roots = self.roots()?.unwrap_or_default();
            roots.retain(|root| !record.retiring.contains(&fingerprint(root)));
            self.write_roots(&roots)?;
        }
        let record = Record {
            reissue_before: record.reissue_before,
            distrusted,
            ..Record::default()
        };
        self.write_record(&record)
    }

    /// Has every certificate that was issued until now issued again at once, and then trusts the root with this
    /// fingerprint no more. An intermediate's need not be known: it is enough that the authority that signs now is another.
    ///
    /// # Errors
    /// When files cannot be read or written; then nothing has changed.
    pub fn taint(&self, fingerprint: &str) -> Result<(), AuthorityError> {
        let _lock = self.lock()?;
        let mut record = self.record()?;
        let now = now().unix_timestamp();
        if !record.retiring.iter().any(|retiring| retiring == fingerprint) {
            record.retiring.push(fingerprint.to_owned());
            record.activated = Some(now);
        }
        record.emergency = true;
        record.reissue_before = record.reissue_before.max(record.activated.unwrap_or(now));
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
}

#[cfg(test)]
#[path = "steps_tests.rs"]
mod tests;
