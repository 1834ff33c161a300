//! What this Citadel has to see on the lists of revoked certificates, and puts there again while it is not.
//!
//! Of several Citadels that write at once only one is heard (compare-and-swap), and each has a journal of its own: of an identity
//! that was revoked at another one, this one has issued certificates of which the other knows nothing.

use std::collections::BTreeMap;

use crate::ca::files::FileError;
use crate::ca::{Journal, Revoked};
use crate::revoke::{Added, issued};

/// For so many seconds it is seen to that what was put on the lists stays there; all that write at once have been heard by then.
const WATCHED: i64 = 60;

/// What is owed to the lists.
#[derive(Debug, Default)]
pub(crate) struct Owed {
    added: Added,
    until: i64,
    /// Identities whose revocation was seen, with its time.
    seen: BTreeMap<String, i64>,
    /// Whether identities that were revoked before this process was started have been looked at.
    running: bool,
}

impl Owed {
    /// Takes note of what this Citadel has put on the lists at `now`.
    pub(crate) fn note(&mut self, added: Added, now: i64) {
        let cuts = added.identities.iter();
        self.seen.extend(cuts.map(|(id, cut)| (id.clone(), cut.before)));
        self.added.extend(added);
        self.until = now.saturating_add(WATCHED);
    }

    /// What has to be put on the lists, which are `revoked`.
    ///
    /// An identity whose revocation comes to be known while this process runs loses all that was issued to it here until then,
    /// whatever the clocks say; one that was revoked before, what was issued before its second.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub(crate) fn missing(
        &mut self,
        revoked: &Revoked,
        journal: &Journal,
        now: i64,
    ) -> Result<Option<&Added>, FileError> {
        self.seen.retain(|id, _| revoked.identities.contains_key(id));
        for (id, cut) in &revoked.identities {
            if self.seen.get(id) == Some(&cut.before) {
                continue;
            }
            let running = self.running;
            let entries = issued(journal, id, now, |issued| running || issued.at < cut.before)?;
            let identities = BTreeMap::from([(id.clone(), cut.clone())]);
            self.note(Added { entries, identities }, now);
        }
        self.running = true;
        if now > self.until {
            self.added = Added::default();
        }
        self.added.forget(now);
        Ok((!self.added.is_in(revoked)).then_some(&self.added))
    }

    /// Gives up what cannot be put on the lists.
    pub(crate) fn give_up(&mut self) {
        self.added = Added::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ca::revocation::Cut;
    use crate::ca::{Issued, Serial};

    const ID: &str = "spiffe://td/ns/shop/sa/orders";

    fn journal(dir: &tempfile::TempDir) -> Journal {
        let journal = Journal::new(dir.path());
        for (serial, identity, at) in [("a", ID, 10), ("b", ID, 30), ("c", "spiffe://td/x", 10)] {
            let issued = Issued {
                serial: Serial::parse(serial).unwrap(),
                not_after: 1000,
                identity: identity.to_owned(),
                at,
                renewed: false,
            };
            journal.note(issued).unwrap();
        }
        journal
    }

    fn cut(before: i64) -> Revoked {
        let mut revoked = Revoked::default();
        revoked.cut(ID, Cut { before, until: 2000 }).unwrap();
        revoked
    }

    fn serials(added: Option<&Added>) -> Vec<&str> {
        let entries = added.into_iter().flat_map(|added| added.entries.keys());
        entries.map(Serial::as_str).collect()
    }

    #[test]
    fn what_was_revoked_elsewhere_takes_what_was_issued_here() {
        let dir = tempfile::tempdir().unwrap();
        let journal = journal(&dir);
        let mut owed = Owed::default();
        assert_eq!(owed.missing(&Revoked::default(), &journal, 31).unwrap(), None);
        // Whatever the clock over there was.
        let revoked = cut(5);
        assert_eq!(serials(owed.missing(&revoked, &journal, 32).unwrap()), ["a", "b"]);
        // Lost, so it is put there again; and once it is there no more.
        assert_eq!(serials(owed.missing(&revoked, &journal, 33).unwrap()), ["a", "b"]);
        let mut done = revoked.clone();
        done.add(owed.added.entries.clone(), 33).unwrap();
        assert_eq!(owed.missing(&done, &journal, 34).unwrap(), None);
        // What is issued later is none of its business.
        let later = Issued {
            serial: Serial::parse("d").unwrap(),
            not_after: 1000,
            identity: ID.to_owned(),
            at: 35,
            renewed: false,
        };
        journal.note(later).unwrap();
        assert_eq!(owed.missing(&done, &journal, 36).unwrap(), None);
        assert_eq!(
            serials(owed.missing(&cut(36), &journal, 37).unwrap()),
            ["a", "b", "d"]
        );
    }

    #[test]
    fn at_the_start_the_time_decides() {
        let dir = tempfile::tempdir().unwrap();
        let journal = journal(&dir);
        let mut owed = Owed::default();
        assert_eq!(serials(owed.missing(&cut(20), &journal, 40).unwrap()), ["a"]);
    }

    #[test]
    fn what_this_one_has_revoked_is_seen_to_for_a_while() {
        let dir = tempfile::tempdir().unwrap();
        let journal = journal(&dir);
        let mut owed = Owed::default();
        let identities = cut(20).identities;
        let entries = issued(&journal, ID, 20, |_| true).unwrap();
        owed.note(Added { entries, identities }, 20);
        // Another's word has replaced it.
        assert_eq!(
            serials(owed.missing(&Revoked::default(), &journal, 21).unwrap()),
            ["a", "b"]
        );
        assert_eq!(owed.missing(&Revoked::default(), &journal, 200).unwrap(), None);
    }
}
