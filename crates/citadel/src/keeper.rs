//! Keeps the authority in step with its folder, and takes the steps of a rotation when they are due.
//!
//! What to do next is decided by [`rotation::next`]; how a step is taken is [`Folder`]'s. Several Citadels may keep the
//! same folder: whoever comes first takes the step and the others see its files change.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::ca::folder::fingerprint;
use crate::ca::rotation::{self, Policy, Stage, Step};
use crate::ca::{self, AuthorityError, Folder, Journal};
use crate::current::Current;
use crate::meters::Meters;
use crate::owed::Owed;
use crate::revoke::{self, RevokeError, Which};
use crate::status::{self, Status};
use runtime::logging::utc;

/// How often the folder is looked at.
const INTERVAL: Duration = Duration::from_secs(1);
/// The journal is tidied at each of so many looks.
const TIDY: u32 = 600;

/// Why a rotation was not begun.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RotateError {
    /// One is under way.
    #[error("a rotation is under way ({0:?}): look at its state, and ask again when it is stable")]
    UnderWay(Stage),
    /// The authority is somebody else's.
    #[error(
        "the authority is plugged in: replace ca-key.pem, ca-cert.pem, cert-chain.pem and root-cert.pem, with both roots in root-cert.pem until all certificates are renewed"
    )]
    Plugged,
    /// The folder.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// Not a fingerprint.
    #[error(
        "{0:?} is not a SHA-256 fingerprint: 64 hexadecimal digits, with or without colons, as argosy ca status prints it"
    )]
    Fingerprint(String),
    /// Not a root of the mesh.
    #[error("no root of the mesh has the fingerprint {0}; argosy ca status lists them")]
    Unknown(String),
    /// The tainted authority is the plugged-in one.
    #[error(
        "certificates that are signed now lead to that authority: replace ca-key.pem, ca-cert.pem, cert-chain.pem and root-cert.pem first, with the old root still in root-cert.pem, and taint the old one then"
    )]
    Signs,
    /// Citadel ends.
    #[error("Citadel is stopping")]
    Stopping,
}

/// What the admin server asks of the keeper.
pub(crate) enum Command {
    /// Begin a rotation.
    Rotate {
        emergency: bool,
        answer: oneshot::Sender<Result<Status, RotateError>>,
    },
    /// Trust an authority no more.
    Taint {
        fingerprint: String,
        answer: oneshot::Sender<Result<Status, RotateError>>,
    },
    /// Revoke certificates.
    Revoke {
        which: Which,
        answer: oneshot::Sender<Result<revoke::Answer, RevokeError>>,
    },
    /// Tell the state.
    Status(oneshot::Sender<Result<Status, RotateError>>),
}

/// The keeper's state; its methods block on files.
pub(crate) struct Keeper {
    folder: Folder,
    policy: Policy,
    current: Current,
    meters: Meters,
    seen: u64,
    looks: u32,
    /// Whether all that this authority has issued is in this journal: there are no other Citadels.
    alone: bool,
    /// When this process began to note what it issues, in seconds since 1970.
    started: i64,
    owed: Owed,
    /// What was last said of a broken folder; said once.
    complaint: Option<String>,
}

impl Keeper {
    /// Loads the authority, or makes one.
    pub(crate) fn open(folder: &Folder) -> Result<(Current, u64), AuthorityError> {
        let seen = folder.seen();
        let authority = folder.load_or_create()?;
        // A record that cannot be read is told of by the first look.
        let record = folder.record().unwrap_or_default();
        let seen = if authority.created() { folder.seen() } else { seen };
        let journal = Journal::new(folder.state_dir());
        Ok((Current::new(authority, &record, journal), seen))
    }

    pub(crate) fn new(
        folder: Folder,
        policy: Policy,
        current: Current,
        (seen, alone): (u64, bool),
        meters: Meters,
    ) -> Self {
        let keeper = Self {
            folder,
            policy,
            current,
            meters,
            seen,
            looks: 0,
            alone,
            started: ca::now().unix_timestamp(),
            owed: Owed::default(),
            complaint: None,
        };
        keeper.measure();
        keeper
    }

    /// Runs until dropped.
    pub(crate) async fn run(self, mut commands: mpsc::Receiver<Command>) {
        let mut keeper = self;
        // An interval, because questions must not put off the next look.
        let mut looks = tokio::time::interval(INTERVAL);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let command = tokio::select! {
                _ = looks.tick() => None,
                command = commands.recv() => command,
            };
            let work = tokio::task::spawn_blocking(move || {
                let mut keeper = keeper;
                keeper.work(command);
                keeper
            });
            keeper = match work.await {
                Ok(keeper) => keeper,
                // The process ends.
                Err(_) => return,
            };
        }
    }

    fn work(&mut self, command: Option<Command>) {
        match command {
            None => {
                let result = self.look();
                self.tell(result);
                self.tidy();
            }
            Some(Command::Status(answer)) => _ = answer.send(self.status().map_err(Into::into)),
            Some(Command::Rotate { emergency, answer }) => _ = answer.send(self.rotate(emergency)),
            Some(Command::Taint { fingerprint, answer }) => _ = answer.send(self.taint(&fingerprint)),
            Some(Command::Revoke { which, answer }) => _ = answer.send(self.revoke(&which)),
        }
    }

    fn look(&mut self) -> Result<(), AuthorityError> {
        self.reload()?;
        let now = ca::now().unix_timestamp();
        self.forget(now)?;
        self.settle(now)?;
        let record = self.folder.record()?;
        let since = self.current.authority().since();
        let step = rotation::next(&record, self.folder.next_key(), since, &self.policy(), now);
        match step {
            Step::Wait(_) => return Ok(()),
            Step::Prepare => self.folder.prepare(false)?,
            Step::Note => self.folder.note()?,
            Step::Activate => self.folder.activate()?,
            Step::Retire => self.folder.retire()?,
        }
        self.meters.rotation_steps.inc();
        tracing::info!(target: "citadel::audit", ?step, "step of a root rotation taken");
        self.reload()
    }

    /// Takes certificates off the lists that have ended.
    fn forget(&mut self, now: i64) -> Result<(), AuthorityError> {
        if !self.current.authority().revoked().stale(now) {
            return Ok(());
        }
        self.folder.revoke(|revoked| {
            revoked.forget(now);
            Ok::<_, AuthorityError>(())
        })?;
        self.reload()
    }

    /// Puts on the lists what is owed to them.
    fn settle(&mut self, now: i64) -> Result<(), AuthorityError> {
        let authority = self.current.authority();
        let journal = self.current.journal();
        let Some(missing) = self.owed.missing(authority.revoked(), journal, now)? else {
            return Ok(());
        };
        match missing.put(&self.folder, now) {
            Ok(()) => self.reload(),
            Err(RevokeError::Authority(error)) => Err(error),
            Err(error) => {
                tracing::error!(target: "citadel::audit", %error, "certificates of a revoked identity stay in force");
                self.owed.give_up();
                Ok(())
            }
        }
    }

    /// Deletes what the journal has of certificates that have ended, and writes what it could not write before.
    fn tidy(&mut self) {
        let dropped = i64::try_from(self.current.journal().dropped());
        self.meters.journal_dropped.set(dropped.unwrap_or(i64::MAX));
        let unnoted = self.current.unnoted();
        self.looks = self.looks.wrapping_add(1);
        if self.looks % TIDY != 1 && !unnoted.load(Ordering::Relaxed) {
            return;
        }
        let tidied = self.current.journal().tidy(ca::now().unix_timestamp());
        self.meters.journal_stale.set(i64::from(tidied.is_err()));
        unnoted.store(tidied.is_err(), Ordering::Relaxed);
    }

    /// Whoever plugged an authority in decides when it is replaced.
    fn policy(&self) -> Policy {
        let max_age = self.policy.max_age.filter(|_| !self.folder.plugged());
        Policy {
            max_age,
            ..self.policy
        }
    }

    /// Takes what the folder holds when it has changed.
    fn reload(&mut self) -> Result<(), AuthorityError> {
        let seen = self.folder.seen();
        if seen == self.seen {
            return Ok(());
        }
        let authority = self.folder.load()?;
        let record = self.folder.record()?;
        self.seen = seen;
        tracing::info!(
            roots = authority.bundle().roots().len(),
            signing = fingerprint(authority.certificate()),
            not_after = utc(authority.not_after()),
            "authority loaded"
        );
        self.current.replace(authority, &record);
        self.measure();
        Ok(())
    }

    fn tell(&mut self, result: Result<(), AuthorityError>) {
        let complaint = result.err().map(|error| error.to_string());
        self.meters.authority_stale.set(i64::from(complaint.is_some()));
        if let Some(reason) = complaint
            .as_ref()
            .filter(|reason| self.complaint.as_ref() != Some(reason))
        {
            self.meters.authority_errors.inc();
            tracing::error!(%reason, "the authority's folder cannot be used; what was loaded before stays in force");
        }
        self.complaint = complaint;
    }

    fn measure(&self) {
        let authority = self.current.authority();
        self.meters.root_expiry.set(authority.not_after());
        self.meters.signing_since.set(authority.not_before());
        let revoked = authority.revoked().entries.len();
        self.meters
            .revoked
            .set(i64::try_from(revoked).unwrap_or(i64::MAX));
        self.meters.crl_next_update.set(authority.lists().next_update);
        let roots = i64::try_from(authority.bundle().roots().len()).unwrap_or(i64::MAX);
        self.meters.roots.set(roots);
    }

    fn rotate(&mut self, emergency: bool) -> Result<Status, RotateError> {
        if self.folder.plugged() {
            return Err(RotateError::Plugged);
        }
        let record = self.folder.record()?;
        match rotation::stage(&record, self.folder.next_key()) {
            Stage::Stable => {}
            // A rotation that waits for its time can be hurried; the next root is used as it is.
            Stage::Distributing if emergency && !record.emergency => {}
            stage => return Err(RotateError::UnderWay(stage)),
        }
        self.folder.prepare(emergency)?;
        self.meters.rotation_steps.inc();
        tracing::warn!(target: "citadel::audit", emergency, "root rotation begun by request");
        self.reload()?;
        Ok(self.status()?)
    }

    /// Has all that one authority signed issued again, and trusts it no more.
    fn taint(&mut self, text: &str) -> Result<Status, RotateError> {
        let tainted = fingerprint_of(text)?;
        let authority = self.current.authority();
        let plugged = self.folder.plugged();
        let own = std::iter::once(authority.certificate()).chain(authority.chain());
        let signs = own.into_iter().any(|der| fingerprint(der) == tainted);
        let known = authority
            .bundle()
            .roots()
            .iter()
            .any(|root| fingerprint(root) == tainted);
        let stage = rotation::stage(&self.folder.record()?, self.folder.next_key());
        match () {
            () if signs && !plugged => return self.rotate(true),
            () if signs || !authority.stands_without(&tainted) => return Err(RotateError::Signs),
            () if !known && !plugged => return Err(RotateError::Unknown(tainted)),
            () if stage == Stage::Distributing => return Err(RotateError::UnderWay(stage)),
            () => {}
        }
        self.folder.taint(&tainted)?;
        tracing::warn!(target: "citadel::audit", authority = tainted, "authority tainted by request: all certificates are issued again");
        self.reload()?;
        Ok(self.status()?)
    }

    fn revoke(&mut self, which: &Which) -> Result<revoke::Answer, RevokeError> {
        let now = ca::now().unix_timestamp();
        let added = revoke::revoke(&self.folder, self.current.journal(), which, self.alone, now)?;
        let listed = added.entries.len();
        self.owed.note(added, now);
        self.reload()?;
        let others = (!self.alone).then_some(self.started);
        Ok(revoke::Answer {
            listed,
            warning: others.and_then(|started| revoke::warning(which, listed, started, now)),
            status: self.status()?,
        })
    }

    fn status(&self) -> Result<Status, AuthorityError> {
        let now = ca::now().unix_timestamp();
        status::status(
            &self.folder,
            &self.policy(),
            &self.current.authority(),
            self.meters.counts(),
            now,
        )
    }
}

/// A SHA-256 fingerprint as openssl prints it, or without colons.
fn fingerprint_of(text: &str) -> Result<String, RotateError> {
    let digits: String = text.chars().filter(|c| *c != ':').collect();
    match digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        true => Ok(digits.to_ascii_lowercase()),
        false => Err(RotateError::Fingerprint(text.chars().take(128).collect())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use runtime::Metrics;
    use runtime::spiffe::{SpiffeId, TrustDomain};

    fn keeper(dir: &std::path::Path) -> Keeper {
        let folder = Folder::new(dir.to_owned(), TrustDomain::default());
        let (current, seen) = Keeper::open(&folder).unwrap();
        let policy = Policy {
            leaf_ttl: Duration::from_secs(10),
            max_age: None,
        };
        Keeper::new(
            folder,
            policy,
            current,
            (seen, true),
            Meters::new(&Metrics::new()),
        )
    }

    fn issue(keeper: &Keeper) {
        let id = SpiffeId::workload(&TrustDomain::default(), "shop", "orders").unwrap();
        let now = ca::now().unix_timestamp();
        let issued = ca::Issued {
            serial: ca::Serial::parse("a1").unwrap(),
            not_after: now + 1000,
            identity: id.to_string(),
            at: now,
            renewed: false,
        };
        _ = keeper.current.journal().note(issued);
    }

    #[test]
    fn a_folder_that_is_away_while_citadel_runs_is_no_first_start() {
        let dir = tempfile::tempdir().unwrap();
        let (identity, away) = (dir.path().join("identity"), dir.path().join("away"));
        let mut keeper = keeper(&identity.join("ca"));
        let signing = keeper.current.authority().certificate().clone();

        std::fs::rename(&identity, &away).unwrap();
        keeper.work(None);
        issue(&keeper);
        assert!(keeper.complaint.is_some());
        assert!(keeper.rotate(false).is_err());
        assert!(!identity.exists(), "brought back");
        assert_eq!(*keeper.current.authority().certificate(), signing);

        std::fs::rename(&away, &identity).unwrap();
        keeper.work(None);
        assert_eq!(keeper.complaint, None);
        assert_eq!(*keeper.current.authority().certificate(), signing);
        assert!(keeper.rotate(false).is_ok());
    }
}
