//! Notices a client that asks and takes nothing: HTTP/2 pulls responses only while the client gives it a window for them, so
//! that nothing else here runs meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

/// Nothing waits for the client.
const NOTHING: u64 = u64::MAX;

/// Cuts a connection when bytes wait for longer than they may.
#[derive(Debug)]
pub(super) struct Watchdog {
    began: Instant,
    /// Milliseconds after `began` at which the newest bytes were handed over.
    waits_since: Arc<AtomicU64>,
    _task: AbortOnDropHandle<()>,
}

impl Watchdog {
    /// Looks every `limit` whether bytes wait for as long already, and then cancels `connection`.
    pub(super) fn new(limit: Duration, connection: CancellationToken) -> Self {
        let began = Instant::now();
        let waits_since = Arc::new(AtomicU64::new(NOTHING));
        let waits = waits_since.clone();
        let task = tokio::spawn(async move {
            while waits_for(&waits, began).is_none_or(|waited| waited < limit) {
                sleep(limit).await;
            }
            connection.cancel();
        });
        Self {
            began,
            waits_since,
            _task: AbortOnDropHandle::new(task),
        }
    }

    /// Bytes were handed over; they wait until [`Self::taken`].
    pub(super) fn given(&self) {
        self.waits_since.store(since(self.began), Ordering::Relaxed);
    }

    /// All that was handed over has been taken.
    pub(super) fn taken(&self) {
        self.waits_since.store(NOTHING, Ordering::Relaxed);
    }
}

fn since(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_millis()).unwrap_or(NOTHING)
}

fn waits_for(waits_since: &AtomicU64, began: Instant) -> Option<Duration> {
    let given = waits_since.load(Ordering::Relaxed);
    (given != NOTHING).then(|| Duration::from_millis(since(began).saturating_sub(given)))
}
