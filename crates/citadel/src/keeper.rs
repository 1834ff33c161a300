//! Keeps the authority in step with its folder, and takes the steps of a rotation when they are due.
//!
//! What to do next is decided by [`rotation::next`]; how a step is taken is [`Folder`]'s. Several Citadels may keep the
//! same folder: whoever comes first takes the step and the others see its files change.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use runtime::logging::utc;
use serde::Serialize;
use tokio::sync::{mpsc, oneshot, watch};

use crate::ca::folder::fingerprint;
use crate::ca::rotation::{self, Policy, Record, Stage, Step};
use crate::ca::{self, Authority, AuthorityError, Folder};
use crate::meters::Meters;

/// How often the folder is looked at.
const INTERVAL: Duration = Duration::from_secs(1);

/// What holders of certificates are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trust {
    /// PEM of the roots that the mesh trusts, the one that signs first.
    pub roots: Arc<str>,
    /// Certificates issued before this time (seconds since 1970) are to be renewed at once; 0 for none.
    pub reissue_before: i64,
}

/// The authority as it is now. Clones are the same.
#[derive(Debug, Clone)]
pub struct Current {
    authority: Arc<ArcSwap<Authority>>,
    trust: watch::Sender<Trust>,
}

impl Current {
    fn new(authority: Authority, record: &Record) -> Self {
        let trust = trust(&authority, record);
        Self {
            authority: Arc::new(ArcSwap::from_pointee(authority)),
            trust: watch::Sender::new(trust),
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

    fn replace(&self, authority: Authority, record: &Record) {
        let news = trust(&authority, record);
        self.authority.store(Arc::new(authority));
        self.trust.send_if_modified(|trust| {
            let changed = *trust != news;
            *trust = news;
            changed
        });
    }
}

fn trust(authority: &Authority, record: &Record) -> Trust {
    Trust {
        roots: authority.bundle().to_pem().into(),
        reissue_before: record.reissue_before,
    }
}

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
    /// Citadel ends.
    #[error("Citadel is stopping")]
    Stopping,
}

/// A root, for people.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RootStatus {
    /// SHA-256, hexadecimal.
    pub(crate) fingerprint: String,
    /// Whether it signs, is about to, or is about to leave.
    pub(crate) role: &'static str,
}

/// The authority's state, for people.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Status {
    /// The mesh's trust domain.
    pub(crate) trust_domain: String,
    /// Whether the authority was plugged in by its owner.
    pub(crate) plugged_in: bool,
    /// Where a rotation stands.
    pub(crate) stage: Stage,
    /// When the next step is due, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next_step: Option<String>,
    /// End of the certificate that signs, RFC 3339.
    pub(crate) not_after: String,
    /// Beginning of the certificate that signs, RFC 3339.
    pub(crate) not_before: String,
    /// All roots that the mesh trusts.
    pub(crate) roots: Vec<RootStatus>,
    /// Certificates issued before this are renewed at once, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reissue_before: Option<String>,
}

/// What the admin server asks of the keeper.
pub(crate) enum Command {
    /// Begin a rotation.
    Rotate {
        emergency: bool,
        answer: oneshot::Sender<Result<Status, RotateError>>,
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
        Ok((Current::new(authority, &record), seen))
    }

    pub(crate) fn new(folder: Folder, policy: Policy, current: Current, seen: u64, meters: Meters) -> Self {
        let keeper = Self {
            folder,
            policy,
            current,
            meters,
            seen,
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
            }
            Some(Command::Status(answer)) => _ = answer.send(self.status().map_err(Into::into)),
            Some(Command::Rotate { emergency, answer }) => _ = answer.send(self.rotate(emergency)),
        }
    }

    fn look(&mut self) -> Result<(), AuthorityError> {
        self.reload()?;
        if self.folder.plugged() {
            return Ok(());
        }
        let record = self.folder.record()?;
        let since = self.current.authority().not_before();
        let now = ca::now().unix_timestamp();
        let step = rotation::next(&record, self.folder.next_key(), since, &self.policy, now);
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

    /// Takes what the folder holds when it has changed.
    fn reload(&mut self) -> Result<(), AuthorityError> {
        let seen = self.folder.seen();
        if seen == self.seen {
            return Ok(());
        }
        let authority = self.folder.load_or_create()?;
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

    fn status(&self) -> Result<Status, AuthorityError> {
        let record = self.folder.record()?;
        let authority = self.current.authority();
        let next_key = self.folder.next_key();
        let stage = rotation::stage(&record, next_key);
        let now = ca::now().unix_timestamp();
        let plugged_in = self.folder.plugged();
        let next_step = match rotation::next(&record, next_key, authority.not_before(), &self.policy, now) {
            _ if plugged_in => None,
            Step::Wait(at) => at,
            _ => Some(now),
        };
        let roots = authority.bundle().roots().iter();
        Ok(Status {
            trust_domain: authority.trust_domain().to_string(),
            plugged_in,
            stage,
            next_step: next_step.map(utc),
            not_after: utc(authority.not_after()),
            not_before: utc(authority.not_before()),
            roots: roots
                .map(|root| root_status(root, &authority, &record, stage))
                .collect(),
            reissue_before: Some(record.reissue_before).filter(|at| *at > 0).map(utc),
        })
    }
}

fn root_status(
    root: &rustls_pki_types::CertificateDer<'_>,
    authority: &Authority,
    record: &Record,
    stage: Stage,
) -> RootStatus {
    let fingerprint = fingerprint(root);
    let role = match stage {
        _ if root == authority.certificate() => "signing",
        _ if record.retiring.contains(&fingerprint) => "retiring",
        Stage::Distributing => "next",
        _ => "trusted",
    };
    RootStatus { fingerprint, role }
}
