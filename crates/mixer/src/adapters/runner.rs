//! One handler, isolated: deadlines, a bounded queue, a circuit breaker, and tasks whose panics end nothing else.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use policy::{Answer, BackendHandler, InstanceValue};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::task::AbortOnDropHandle;

use super::kit::Counters;
use super::{Adapter, Batching, Fault, Kit};
use crate::circuit::Circuit;

/// Most checks of one handler under way.
const CHECKS: usize = 256;
/// Failures of checks one after the other, so as many deadlines without an answer, after which nobody asks.
const FAILURES: u32 = 3;
/// How long nobody asks.
const REST: Duration = Duration::from_secs(1);
/// Bytes of a handler's reports that wait or are being sent: clients send long paths and headers.
const MAX_BYTES: usize = 32 << 20;
/// How often a batch is tried while its handler is configured.
const ATTEMPTS: u32 = 6;
/// Time before the second attempt; it doubles with each.
const BACKOFF: Duration = Duration::from_millis(100);

/// A handler that runs.
pub(super) struct Runner {
    handler: Arc<BackendHandler>,
    adapter: Arc<dyn Adapter>,
    pool: Handle,
    checks: Arc<Semaphore>,
    circuit: Circuit,
    /// The circuit's time counts from here.
    started: Instant,
    deadline: Duration,
    reports: mpsc::Sender<Waiting>,
    /// Room for what waits, in bytes.
    room: Arc<Semaphore>,
    counters: Counters,
}

/// A report that waits, and the room that it takes.
struct Waiting {
    instance: InstanceValue,
    room: OwnedSemaphorePermit,
}

impl std::fmt::Debug for Runner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runner")
            .field("handler", &self.handler.name)
            .finish_non_exhaustive()
    }
}

impl Runner {
    /// Starts a handler's task. It ends when the runner is dropped, and what waits is sent.
    pub(super) fn start(
        handler: Arc<BackendHandler>,
        adapter: Arc<dyn Adapter>,
        kit: &Kit,
    ) -> Result<Arc<Self>, String> {
        let pool = kit.pool.handle();
        let pool = pool.map_err(|error| format!("no threads for adapters: {error}"))?;
        let batching = adapter.batching();
        let (reports, queue) = mpsc::channel(batching.queue.max(1));
        let sender = Sender {
            handler: handler.name.clone(),
            adapter: adapter.clone(),
            pool: pool.clone(),
            batching,
            counters: kit.counters.clone(),
            failing: false,
        };
        kit.tracker.spawn_on(sender.run(queue), &pool);
        Ok(Arc::new(Self {
            handler,
            adapter,
            pool,
            checks: Arc::new(Semaphore::new(CHECKS)),
            circuit: Circuit::new(FAILURES, REST),
            started: Instant::now(),
            deadline: kit.deadline,
            reports,
            room: Arc::new(Semaphore::new(MAX_BYTES)),
            counters: kit.counters.clone(),
        }))
    }

    /// Whether this is what `handler` asks for.
    pub(super) fn runs(&self, handler: &BackendHandler) -> bool {
        *self.handler == *handler
    }

    /// Asks about an instance.
    pub(super) async fn check(&self, instance: InstanceValue) -> Result<Answer, Fault> {
        let adapter = self.adapter.clone();
        self.asked(async move { adapter.check(&instance).await }).await
    }

    /// Asks for units.
    pub(super) async fn quota(
        &self,
        instance: InstanceValue,
        amount: u64,
        best_effort: bool,
    ) -> Result<u64, Fault> {
        let adapter = self.adapter.clone();
        self.asked(async move { adapter.quota(&instance, amount, best_effort).await })
            .await
    }

    async fn asked<T: Send + 'static>(
        &self,
        question: impl Future<Output = Result<T, Fault>> + Send + 'static,
    ) -> Result<T, Fault> {
        let answer = self.guarded(question).await;
        let reason = answer.as_ref().map_or_else(Fault::reason, |_| "ok");
        self.counters.called(&self.handler.name, reason);
        answer
    }

    async fn guarded<T: Send + 'static>(
        &self,
        question: impl Future<Output = Result<T, Fault>> + Send + 'static,
    ) -> Result<T, Fault> {
        let Some(pass) = self.circuit.allows(self.started.elapsed()) else {
            return Err(Fault::Resting);
        };
        let permit = self.checks.clone().try_acquire_owned();
        let permit = permit.map_err(|_| Fault::Busy)?;
        let work = async move {
            let answer = question.await;
            // Held by the work itself: what was given up on may still run.
            drop(permit);
            answer
        };
        let answer = isolated(&self.pool, self.deadline, work).await;
        // A refusal to take the instance says nothing of the backend.
        let well = matches!(&answer, Ok(_) | Err(Fault::Refused(_)));
        self.circuit.ended(pass, well, self.started.elapsed());
        answer
    }

    /// Queues a report, or counts it as dropped.
    pub(super) fn report(&self, instance: InstanceValue) {
        let bytes = u32::try_from(instance.fields.size()).ok();
        let room = bytes.and_then(|bytes| self.room.clone().try_acquire_many_owned(bytes).ok());
        let waiting = room.map(|room| Waiting { instance, room });
        if waiting.is_none_or(|waiting| self.reports.try_send(waiting).is_err()) {
            self.counters.dropped(&self.handler.name, "full", 1);
        }
    }
}

/// Runs work as a task of its own, until its deadline.
async fn isolated<T: Send + 'static>(
    pool: &Handle,
    deadline: Duration,
    work: impl Future<Output = Result<T, Fault>> + Send + 'static,
) -> Result<T, Fault> {
    let task = AbortOnDropHandle::new(pool.spawn(work));
    match tokio::time::timeout(deadline, task).await {
        Ok(Ok(done)) => done,
        Ok(Err(_)) => Err(Fault::Panicked),
        Err(_) => Err(Fault::Late(deadline)),
    }
}

/// An id that no other call has, of this Mixer or another: 128 random bits in hexadecimal.
pub(super) fn random_id() -> String {
    format!("{:032x}", rand::random::<u128>())
}

/// What sends a handler's reports.
struct Sender {
    handler: String,
    adapter: Arc<dyn Adapter>,
    pool: Handle,
    batching: Batching,
    counters: Counters,
    /// Whether the last batch was given up: the next is tried once.
    failing: bool,
}

impl Sender {
    async fn run(mut self, mut queue: mpsc::Receiver<Waiting>) {
        loop {
            let batch = self.gather(&mut queue).await;
            if batch.is_empty() {
                return;
            }
            let mut rooms = Vec::with_capacity(batch.len());
            let mut by_template: BTreeMap<Arc<str>, Vec<InstanceValue>> = BTreeMap::new();
            for Waiting { instance, room } in batch {
                rooms.push(room);
                by_template
                    .entry(instance.template.clone())
                    .or_default()
                    .push(instance);
            }
            // Each template by itself: what its backend has taken is not sent again with another's.
            for instances in by_template.into_values() {
                self.send(instances.into(), &queue).await;
            }
        }
    }

    /// The next batch; empty when nothing can come any more.
    async fn gather(&self, queue: &mut mpsc::Receiver<Waiting>) -> Vec<Waiting> {
        let most = self.batching.batch.max(1);
        let mut batch = Vec::new();
        if queue.recv_many(&mut batch, most).await == 0 {
            return batch;
        }
        let full = async {
            while batch.len() < most {
                let room = most - batch.len();
                if queue.recv_many(&mut batch, room).await == 0 {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(self.batching.linger, full).await;
        batch
    }

    async fn send(&mut self, batch: Arc<[InstanceValue]>, queue: &mpsc::Receiver<Waiting>) {
        let id: Arc<str> = random_id().into();
        let mut pause = BACKOFF;
        let mut attempt = 1;
        loop {
            let (adapter, own, id) = (self.adapter.clone(), batch.clone(), id.clone());
            let work = async move { adapter.report_as(&id, &own).await };
            let sent = isolated(&self.pool, self.batching.deadline, work).await;
            let Err(fault) = sent else {
                self.counters.called(&self.handler, "ok");
                self.failing = false;
                return;
            };
            self.counters.called(&self.handler, fault.reason());
            // A handler that is gone sends what waits once.
            let last = self.failing || queue.is_closed() || attempt >= ATTEMPTS;
            if last || !fault.may_pass() {
                self.give_up(&fault, batch.len());
                return;
            }
            tokio::time::sleep(pause).await;
            pause = pause.saturating_mul(2);
            attempt += 1;
        }
    }

    fn give_up(&mut self, fault: &Fault, count: usize) {
        if !self.failing {
            tracing::warn!(handler = self.handler, %fault, count, "reports are dropped");
        }
        self.failing = fault.may_pass();
        self.counters.dropped(&self.handler, fault.reason(), count);
    }
}
