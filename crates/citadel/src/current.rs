//! The authority as it is now, shared by all that sign or tell of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use rcgen::PublicKeyData;
use runtime::logging::utc;
use runtime::spiffe::SpiffeId;
use tokio::sync::watch;

use crate::auth::Method;
use crate::ca::rotation::Record;
use crate::ca::{self, Authority, IssueError, Issued, Journal, Leaf, Serial, Terms};

/// What holders of certificates are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trust {
    /// PEM of the roots that the mesh trusts, the one that signs first.
    pub roots: Arc<str>,
    /// Certificates issued before this time (seconds since 1970) are to be renewed at once; 0 for none.
    pub reissue_before: i64,
    /// PEM of lists of revoked certificates; empty for none.
    pub crl: Arc<str>,
    /// The lists speak of leaves alone.
    pub crl_leaf_only: bool,
    /// Other names of the trust domain.
    pub aliases: Arc<[String]>,
}

/// How a certificate was asked for, for the audit log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    /// How the caller was recognised.
    pub(crate) by: &'a str,
    /// The kind of key.
    pub(crate) key: &'a str,
    /// Where the caller is.
    pub(crate) remote: &'a str,
}

/// The authority as it is now. Clones are the same.
#[derive(Debug, Clone)]
pub struct Current {
    authority: Arc<ArcSwap<Authority>>,
    trust: watch::Sender<Trust>,
    /// Told of each authority that is put in force: not all of it shows in what holders are told.
    replaced: watch::Sender<()>,
    journal: Arc<Journal>,
    unnoted: Arc<AtomicBool>,
}

impl Current {
    pub(crate) fn new(authority: Authority, record: &Record, journal: Journal) -> Self {
        let trust = trust(&authority, record);
        Self {
            authority: Arc::new(ArcSwap::from_pointee(authority)),
            trust: watch::Sender::new(trust),
            replaced: watch::Sender::new(()),
            journal: Arc::new(journal),
            unnoted: Arc::default(),
        }
    }

    /// The authority that signs now.
    #[must_use]
    pub fn authority(&self) -> Arc<Authority> {
        self.authority.load_full()
    }

    /// What holders are told, now and at each change.
    #[must_use]
    pub fn trust(&self) -> watch::Receiver<Trust> {
        self.trust.subscribe()
    }

    pub(crate) fn replace(&self, authority: Authority, record: &Record) {
        let news = trust(&authority, record);
        self.authority.store(Arc::new(authority));
        self.trust.send_if_modified(|trust| {
            let changed = *trust != news;
            *trust = news;
            changed
        });
        self.replaced.send_replace(());
    }

    /// Hears when the authority, or what it has revoked, may have changed.
    pub(crate) fn replaced(&self) -> watch::Receiver<()> {
        self.replaced.subscribe()
    }

    /// Signs `key` for `id`, notes the certificate in the journal and in the audit log, and gives it with the authority
    /// that signed. A journal that cannot be written holds nobody up: the certificate is kept in memory.
    ///
    /// # Errors
    /// As [`Authority::issue`].
    pub(crate) fn sign(
        &self,
        key: &impl PublicKeyData,
        id: &SpiffeId,
        terms: &Terms<'_>,
        asked: Asked<'_>,
    ) -> Result<(Leaf, Arc<Authority>), IssueError> {
        let authority = self.authority();
        let leaf = authority.issue_on(key, id, terms, ca::now())?;
        self.note(&leaf, id, asked.by == Method::Certificate.as_str());
        tracing::info!(target: "citadel::audit", %id, serial = %leaf.serial, not_after = utc(leaf.not_after),
            by = asked.by, key = asked.key, remote = asked.remote, "certificate issued");
        Ok((leaf, authority))
    }

    fn note(&self, leaf: &Leaf, id: &SpiffeId, renewed: bool) {
        let Ok(serial) = Serial::parse(&leaf.serial) else {
            return;
        };
        let issued = Issued {
            serial,
            not_after: leaf.not_after,
            identity: id.to_string(),
            at: ca::now().unix_timestamp(),
            renewed,
        };
        let Err(error) = self.journal.note(issued) else {
            return;
        };
        // Said until the keeper looks after it, in a second at most: callers decide how often it happens.
        if !self.unnoted.swap(true, Ordering::Relaxed) {
            tracing::error!(%error, "issued certificates cannot be noted: until they can, revoking by identity may miss some after a restart");
        }
    }

    /// The journal of what was issued.
    pub(crate) fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Whether certificates could not be noted since the journal was last tidied.
    pub(crate) fn unnoted(&self) -> &AtomicBool {
        &self.unnoted
    }

    /// Whether all certificates of this identity were revoked and some of them may not have ended: nobody knows of each whether
    /// it was issued later, so none of them is proof for now.
    pub(crate) fn is_cut(&self, id: &SpiffeId) -> bool {
        let authority = self.authority.load();
        authority.revoked().identities.contains_key(&id.to_string())
    }

    /// Whether the certificate with this serial number (hexadecimal, with or without colons) was revoked here.
    pub(crate) fn is_revoked(&self, serial: &str) -> bool {
        Serial::parse(serial)
            .is_ok_and(|serial| self.authority.load().revoked().entries.contains_key(&serial))
    }

    /// Whether this certificate of `id` entitles to nothing at `now` (seconds since 1970): it was revoked, or all of its identity
    /// were and the journal does not have it as issued since. Then the journal's files are read, which blocks; a journal that
    /// cannot be read, or no serial number, speaks against the certificate.
    pub(crate) fn is_withdrawn(&self, id: &SpiffeId, serial: Option<&str>, now: i64) -> bool {
        let Some(serial) = serial.and_then(|serial| Serial::parse(serial).ok()) else {
            return true;
        };
        let (authority, id) = (self.authority.load(), id.to_string());
        let revoked = authority.revoked();
        let Some(cut) = revoked.identities.get(&id) else {
            return revoked.entries.contains_key(&serial);
        };
        let since =
            |issued: &Issued| issued.serial == serial && issued.identity == id && issued.at >= cut.before;
        let known = || self.journal.find(now, since);
        revoked.entries.contains_key(&serial) || known().map_or(true, |found| found.is_empty())
    }
}

fn trust(authority: &Authority, record: &Record) -> Trust {
    let (bundle, lists) = (authority.bundle(), authority.lists());
    Trust {
        roots: bundle.to_pem().into(),
        reissue_before: record.reissue_before,
        crl: lists.pem.as_str().into(),
        crl_leaf_only: lists.leaf_only,
        aliases: bundle.aliases().iter().map(ToString::to_string).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ca::{Cut, Entry, Folder};
    use crate::keeper::Keeper;
    use runtime::spiffe::TrustDomain;
    use std::collections::BTreeMap;

    #[test]
    fn of_a_revoked_identity_only_what_was_issued_here_since_counts() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(dir.path().join("ca"), TrustDomain::default());
        let (current, _) = Keeper::open(&folder).unwrap();
        let now = ca::now().unix_timestamp();
        let until = now + 1000;
        let [orders, stock] = ["orders", "stock"]
            .map(|account| SpiffeId::workload(&TrustDomain::default(), "shop", account).unwrap());
        let serial = |text: &str| Serial::parse(text).unwrap();
        for (text, id, at) in [
            ("a1", &orders, now - 10),
            ("a2", &orders, now),
            ("a3", &orders, now + 1),
            ("a4", &stock, now + 1),
        ] {
            let (serial, identity) = (serial(text), id.to_string());
            let not_after = until;
            let issued = Issued {
                serial,
                not_after,
                identity,
                at,
                renewed: false,
            };
            current.journal().note(issued).unwrap();
        }
        let check = |text: &str, id: &SpiffeId, withdrawn: bool| {
            assert_eq!(
                current.is_withdrawn(id, Some(text), now),
                withdrawn,
                "{text} {id}"
            );
        };
        check("A1", &orders, false);
        // Nobody's journal is asked while nothing of the identity was revoked.
        check("ff", &orders, false);
        assert!(current.is_withdrawn(&orders, None, now), "no serial number");

        let replaced = current.replaced();
        let revoke = |revoked: &mut crate::ca::Revoked| {
            revoked
                .cut(&orders.to_string(), Cut { before: now, until })
                .unwrap();
            let entry = Entry {
                revoked: now,
                until,
                identity: None,
            };
            revoked.add(BTreeMap::from([(serial("a3"), entry)]), now).unwrap();
            Ok::<_, crate::ca::AuthorityError>(())
        };
        folder.revoke(revoke).unwrap();
        current.replace(folder.load_or_create().unwrap(), &folder.record().unwrap());
        assert!(replaced.has_changed().unwrap());
        check("a1", &orders, true);
        check("00:A2", &orders, false);
        check("a3", &orders, true);
        // Issued elsewhere, and to another.
        check("ff", &orders, true);
        check("a4", &orders, true);
        check("a4", &stock, false);
        check("ff", &stock, false);
    }
}
