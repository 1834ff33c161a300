//! Writes statuses into the cluster: the shell around [`super::queue`] and [`super::plan`]. Only the leader writes, at a
//! bounded rate, and only what differs from what is there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use analysis::Analysis;
use config::{Kind, ObjectKey, Scope};
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams};
use kube::{Client, Error};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use runtime::Context;
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::watch;
use tokio::time::Instant;

use super::compiled::Compiled;
use super::lease::Leader;
use super::pace::Pace;
use super::plan::plan;
use super::queue::Queue;
use super::reports::Reports;
use super::subjects::{Subject, has_status, subjects};
use super::wanted::Wanted;
use crate::store::State;

/// The name under which the writes appear in `managedFields`.
pub const FIELD_MANAGER: &str = "argosy-galley-status";
/// How often everything is compared with the cluster, for what others changed.
const COMPARE: Duration = Duration::from_secs(600);
/// How often due writes are looked for.
const TICK: Duration = Duration::from_millis(500);
/// Longest time for one request.
const PATIENCE: Duration = Duration::from_secs(10);
/// First and longest wait while the API server is away.
const AWAY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// How long a kind is left alone whose statuses may not be written.
const FORBIDDEN: Duration = Duration::from_secs(300);
/// Most writes before news are taken up.
const ROUND: usize = 40;
/// Objects in one page of a list.
const PAGE: u32 = 500;

/// What the writer reads.
#[derive(Debug, Clone)]
pub struct Sources {
    /// Galley's objects and findings.
    pub states: watch::Receiver<Option<Arc<State>>>,
    /// What analysis says.
    pub analyses: watch::Receiver<Arc<Analysis>>,
    /// What Pilots say.
    pub reports: Reports,
    /// What proxies do for rules by themselves.
    pub compiled: watch::Receiver<Arc<Compiled>>,
}

/// Writes until the context's shutdown, while `leader` says that this process leads.
pub async fn run(
    client: Client,
    mut sources: Sources,
    mut leader: watch::Receiver<Leader>,
    rate: u32,
    context: Context,
) {
    let mut changes = sources.reports.changes();
    let mut writer = Writer::new(client, leader.clone(), rate, &context);
    let mut compared: Option<Instant> = None;
    let (mut stale, mut rest) = (true, TICK);
    loop {
        tokio::select! {
            () = context.shutdown.cancelled() => return,
            changed = sources.states.changed() => if changed.is_err() { return } else { stale = true },
            changed = sources.analyses.changed() => if changed.is_err() { return } else { stale = true },
            changed = sources.compiled.changed() => if changed.is_err() { return } else { stale = true },
            changed = changes.changed() => if changed.is_err() { return } else { stale = true },
            changed = leader.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(rest) => {}
        }
        if !leader.borrow_and_update().is_me {
            compared = None;
            continue;
        }
        // Changes come in bursts; what comes until the next tick is taken together.
        _ = context
            .shutdown
            .run_until_cancelled(tokio::time::sleep(rest))
            .await;
        if stale || compared.is_none() {
            stale = !writer.take(&mut sources);
        }
        let work = async {
            if compared.is_none_or(|at| at.elapsed() > COMPARE) {
                writer.compare().await?;
                compared = Some(Instant::now());
            }
            writer.write_due().await
        };
        let worked = context.shutdown.run_until_cancelled(work).await;
        rest = match worked {
            // More is due than fits into a round.
            Some(Ok(())) if writer.is_due() => Duration::ZERO,
            _ => TICK,
        };
        if let Some(worked) = worked {
            let wait = writer.away(worked);
            _ = context
                .shutdown
                .run_until_cancelled(tokio::time::sleep(wait))
                .await;
        }
    }
}

/// A request that failed for no fault of its object: the API server is away or asks for patience.
#[derive(Debug, thiserror::Error)]
enum Away {
    #[error("{0}")]
    Api(#[from] Error),
    #[error("the API server did not answer within {PATIENCE:?}")]
    Slow,
}

/// What became of one write.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Done,
    Gone,
    Forbidden,
    Failed(String),
    /// Somebody wrote the object meanwhile.
    Overtaken,
    /// This process leads no more.
    Deposed,
}

struct Writer {
    client: Client,
    leader: watch::Receiver<Leader>,
    queue: Queue,
    subjects: BTreeMap<ObjectKey, Subject>,
    forbidden: BTreeMap<Kind, Instant>,
    /// Faults that are in the log already.
    told: BTreeSet<String>,
    wait: Duration,
    start: Instant,
    pace: Pace,
    writes: Counter,
    failures: Counter,
    waiting: Gauge,
}

impl Writer {
    fn new(client: Client, leader: watch::Receiver<Leader>, rate: u32, context: &Context) -> Self {
        let metrics = &context.metrics;
        Self {
            client,
            leader,
            queue: Queue::default(),
            subjects: BTreeMap::new(),
            forbidden: BTreeMap::new(),
            told: BTreeSet::new(),
            wait: AWAY.0,
            start: Instant::now(),
            pace: Pace::new(rate),
            writes: metrics.counter("galley_status_writes", "Statuses written into the cluster"),
            failures: metrics.counter("galley_status_failures", "Writes of statuses that failed"),
            waiting: metrics.gauge("galley_status_waiting", "Objects whose status is to be written"),
        }
    }

    /// Takes up what the sources say; false before Galley has read its source.
    fn take(&mut self, sources: &mut Sources) -> bool {
        let Some(state) = sources.states.borrow_and_update().clone() else {
            return false;
        };
        let analysis = sources.analyses.borrow_and_update().clone();
        if analysis.version == 0 {
            return false;
        }
        let compiled = sources.compiled.borrow_and_update().clone();
        self.subjects = sources
            .reports
            .read(|told| subjects(&state, &analysis, told, &compiled));
        self.queue.want(&self.subjects, self.start.elapsed());
        true
    }

    /// Compares all statuses with the cluster's, a list for each kind. Those that differ stay due.
    async fn compare(&mut self) -> Result<(), Away> {
        let kinds: BTreeSet<Kind> = self.subjects.keys().map(|key| key.kind).collect();
        self.queue.forget_all();
        self.queue.want(&self.subjects, self.start.elapsed());
        for kind in kinds {
            self.compare_kind(kind).await?;
        }
        Ok(())
    }

    async fn compare_kind(&mut self, kind: Kind) -> Result<(), Away> {
        let api: Api<DynamicObject> = Api::all_with(self.client.clone(), &resource(kind));
        let mut params = ListParams::default().limit(PAGE);
        loop {
            self.pace().await;
            let page = match timed(api.list(&params)).await? {
                Ok(page) => page,
                Err(error) => return self.cannot_list(kind, error),
            };
            for object in page.items {
                let namespace = object.metadata.namespace.clone().unwrap_or_default();
                let name = object.metadata.name.clone().unwrap_or_default();
                let key = ObjectKey::new(kind, namespace, name);
                if let Some(subject) = self.subjects.get(&key).filter(|subject| says(&object, subject)) {
                    self.queue.done(&key, subject.clone());
                }
            }
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => return Ok(()),
            }
        }
    }

    fn cannot_list(&mut self, kind: Kind, error: Error) -> Result<(), Away> {
        match &error {
            // The kind is not installed.
            Error::Api(status) if status.code == 404 => Ok(()),
            Error::Api(status) if status.code == 403 => {
                self.forbid(kind, &error);
                Ok(())
            }
            _ => Err(error.into()),
        }
    }

    async fn write_due(&mut self) -> Result<(), Away> {
        self.waiting
            .set(i64::try_from(self.queue.waiting()).unwrap_or(i64::MAX));
        for _ in 0..ROUND {
            let Some(key) = self.queue.next(self.start.elapsed()) else {
                break;
            };
            if self.bring(&key).await? == Outcome::Deposed {
                break;
            }
        }
        self.waiting
            .set(i64::try_from(self.queue.waiting()).unwrap_or(i64::MAX));
        Ok(())
    }

    /// Brings one status to what it should say.
    async fn bring(&mut self, key: &ObjectKey) -> Result<Outcome, Away> {
        let Some(subject) = self.subjects.get(key).cloned() else {
            self.queue.gone(key);
            return Ok(Outcome::Gone);
        };
        let written = match self.may_write(key.kind) {
            Some(refused) => Ok(refused),
            None => self.write(key, &subject).await,
        };
        let now = self.start.elapsed();
        // Should it be this object alone that the API server stumbles over, the others go first next time.
        let outcome = written.inspect_err(|_| self.queue.failed(key, now))?;
        match &outcome {
            // What is gone has nothing to write until the source tells otherwise.
            Outcome::Done | Outcome::Gone => self.queue.done(key, subject),
            Outcome::Forbidden => self.queue.failed(key, now + FORBIDDEN),
            Outcome::Failed(reason) => {
                self.failures.inc();
                self.tell(format!("the status of {key} is not written: {reason}"));
                self.queue.failed(key, now);
            }
            Outcome::Overtaken | Outcome::Deposed => {}
        }
        Ok(outcome)
    }

    fn may_write(&mut self, kind: Kind) -> Option<Outcome> {
        if !self.leader.borrow().is_me {
            return Some(Outcome::Deposed);
        }
        self.forbidden.retain(|_, since| since.elapsed() < FORBIDDEN);
        (self.forbidden.contains_key(&kind) || !has_status(kind)).then_some(Outcome::Forbidden)
    }

    async fn write(&mut self, key: &ObjectKey, subject: &Subject) -> Result<Outcome, Away> {
        let api = api(&self.client, key);
        self.pace().await;
        let object = match timed(api.get(&key.name)).await? {
            Ok(object) => object,
            Err(error) => return self.outcome(key.kind, error),
        };
        let Some(wanted) = wanted(&object, subject) else {
            return Ok(Outcome::Gone);
        };
        let now = OffsetDateTime::now_utc()
            .replace_nanosecond(0)
            .unwrap_or(OffsetDateTime::UNIX_EPOCH);
        let now = now.format(&Rfc3339).unwrap_or_default();
        let Some(mut patch) = plan(object.data.get("status"), &wanted, &now) else {
            return Ok(Outcome::Done);
        };
        if let Some(fields) = patch.as_object_mut() {
            let version = object.metadata.resource_version.unwrap_or_default();
            fields.insert("metadata".to_owned(), json!({ "resourceVersion": version }));
        }
        self.pace().await;
        let params = PatchParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        match timed(api.patch_status(&key.name, &params, &Patch::Merge(&patch))).await? {
            Ok(_) => {
                self.writes.inc();
                Ok(Outcome::Done)
            }
            Err(error) => self.outcome(key.kind, error),
        }
    }

    fn outcome(&mut self, kind: Kind, error: Error) -> Result<Outcome, Away> {
        match &error {
            Error::Api(status) => match status.code {
                404 => Ok(Outcome::Gone),
                409 => Ok(Outcome::Overtaken),
                403 => {
                    self.forbid(kind, &error);
                    Ok(Outcome::Forbidden)
                }
                400..=428 => Ok(Outcome::Failed(status.message.clone())),
                _ => Err(error.into()),
            },
            Error::SerdeError(_) | Error::BuildRequest(_) => Ok(Outcome::Failed(error.to_string())),
            _ => Err(error.into()),
        }
    }

    fn forbid(&mut self, kind: Kind, error: &Error) {
        self.failures.inc();
        self.forbidden.insert(kind, Instant::now());
        let (group, plural) = (kind.group(), kind.plural());
        self.tell(format!(
            "may not write the status of {plural}.{group} ({error}); allow get, list and patch of {plural} and {plural}/status to Galley's service account"
        ));
    }

    /// How long to wait before the next round.
    fn away(&mut self, worked: Result<(), Away>) -> Duration {
        match worked {
            Ok(()) => {
                self.wait = AWAY.0;
                Duration::ZERO
            }
            Err(error) => {
                self.failures.inc();
                self.tell(format!("statuses wait for the API server: {error}"));
                let wait = self.wait;
                self.wait = (wait * 2).min(AWAY.1);
                wait
            }
        }
    }

    fn tell(&mut self, text: String) {
        // Bounded by forgetting all: a fault told twice does less harm than memory that grows.
        if self.told.len() > 1000 {
            self.told.clear();
        }
        if !self.told.contains(&text) {
            tracing::warn!("{text}");
            self.told.insert(text);
        }
    }

    /// Whether something is left to write now.
    fn is_due(&self) -> bool {
        self.queue.next(self.start.elapsed()).is_some()
    }

    async fn pace(&mut self) {
        let wait = self.pace.next(self.start.elapsed());
        tokio::time::sleep(wait).await;
    }
}

/// What the status of this very object should say. `None` for another one of the same name, which Galley has not read yet:
/// its turn comes.
fn wanted(object: &DynamicObject, subject: &Subject) -> Option<Wanted> {
    let mut wanted = subject.wanted.clone();
    if !wanted.served {
        // What is in the cluster is what could not be used.
        wanted.generation = object.metadata.generation.unwrap_or_default();
        return Some(wanted);
    }
    (object.metadata.uid.as_deref().unwrap_or_default() == subject.uid).then_some(wanted)
}

fn says(object: &DynamicObject, subject: &Subject) -> bool {
    wanted(object, subject).is_some_and(|wanted| plan(object.data.get("status"), &wanted, "").is_none())
}

async fn timed<T>(request: impl Future<Output = Result<T, Error>>) -> Result<Result<T, Error>, Away> {
    tokio::time::timeout(PATIENCE, request)
        .await
        .map_err(|_| Away::Slow)
}

fn resource(kind: Kind) -> ApiResource {
    let gvk = GroupVersionKind::gvk(kind.group(), kind.stored_version(), kind.as_str());
    ApiResource::from_gvk_with_plural(&gvk, kind.plural())
}

fn api(client: &Client, key: &ObjectKey) -> Api<DynamicObject> {
    match key.kind.scope() {
        Scope::Cluster => Api::all_with(client.clone(), &resource(key.kind)),
        Scope::Namespaced => Api::namespaced_with(client.clone(), &key.namespace, &resource(key.kind)),
    }
}
