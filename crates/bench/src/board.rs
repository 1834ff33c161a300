//! What all simulated proxies report to: who is ready, who saw the change that is looked for, what one of them was sent.

use std::time::Instant;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use crate::proxy::Tally;

/// Responses are searched for a change's mark up to this size; a push of all is no answer to one change.
const SEARCHED: usize = 4 << 20;

#[derive(Debug, Default)]
struct State {
    ready: Vec<(Instant, Tally)>,
    mark: Option<std::sync::Arc<[u8]>>,
    seen: Vec<Instant>,
    failed: Option<String>,
    responses: u64,
    bytes: u64,
    /// The first responses that some proxy got, until it was ready.
    recorded: Option<Vec<Bytes>>,
}

/// Shared by all proxies of a run.
#[derive(Debug)]
pub(crate) struct Board {
    state: Mutex<State>,
    changed: Notify,
    stop: watch::Sender<bool>,
}

impl Board {
    pub(crate) fn new(record: bool) -> Self {
        let state = State {
            recorded: record.then(Vec::new),
            ..State::default()
        };
        Self {
            state: Mutex::new(state),
            changed: Notify::new(),
            stop: watch::Sender::new(false),
        }
    }

    /// Keeps the bytes of a response, where this board records (one proxy only).
    pub(crate) fn record(&self, raw: &Bytes) {
        let mut state = self.state.lock();
        state.responses += 1;
        state.bytes += raw.len() as u64;
        if let Some(recorded) = &mut state.recorded {
            recorded.push(raw.clone());
        }
    }

    pub(crate) fn recorded(&self) -> Vec<Bytes> {
        self.state.lock().recorded.take().unwrap_or_default()
    }

    pub(crate) fn ready(&self, at: Instant, tally: Tally) {
        self.state.lock().ready.push((at, tally));
        self.changed.notify_waiters();
    }

    pub(crate) fn fail(&self, error: String) {
        self.state.lock().failed.get_or_insert(error);
        self.changed.notify_waiters();
    }

    /// From now on the moment counts when a response has these bytes.
    pub(crate) fn expect_mark(&self, mark: &str) {
        let mut state = self.state.lock();
        state.mark = Some(mark.as_bytes().into());
        state.seen.clear();
    }

    pub(crate) fn look_for_mark(&self, raw: &[u8], at: Instant) {
        if raw.len() > SEARCHED {
            return;
        }
        let Some(mark) = self.state.lock().mark.clone() else {
            return;
        };
        if raw.windows(mark.len()).any(|window| *window == *mark) {
            self.state.lock().seen.push(at);
            self.changed.notify_waiters();
        }
    }

    /// Responses and bytes that all proxies got so far.
    pub(crate) fn received(&self) -> (u64, u64) {
        let state = self.state.lock();
        (state.responses, state.bytes)
    }

    /// Waits until `count` are ready; gives the moment of the last, and what each received.
    pub(crate) async fn all_ready(&self, count: usize) -> anyhow::Result<(Instant, Vec<Tally>)> {
        self.wait(|state| {
            let last = state.ready.iter().map(|(at, _)| *at).max()?;
            let tallies = state.ready.iter().map(|(_, tally)| *tally).collect();
            (state.ready.len() >= count).then_some((last, tallies))
        })
        .await
    }

    /// Waits until `count` have seen the mark; gives the moments, in order.
    pub(crate) async fn all_seen(&self, count: usize) -> anyhow::Result<Vec<Instant>> {
        self.wait(|state| {
            let mut seen = state.seen.clone();
            seen.sort();
            (seen.len() >= count).then_some(seen)
        })
        .await
    }

    async fn wait<T>(&self, done: impl Fn(&State) -> Option<T>) -> anyhow::Result<T> {
        loop {
            let notified = self.changed.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            {
                let state = self.state.lock();
                if let Some(error) = &state.failed {
                    anyhow::bail!("a proxy failed: {error}");
                }
                if let Some(done) = done(&state) {
                    return Ok(done);
                }
            }
            notified.await;
        }
    }

    pub(crate) fn stop(&self) {
        self.stop.send_replace(true);
    }

    pub(crate) async fn stopped(&self) {
        let mut stop = self.stop.subscribe();
        // An error means that the board is gone, which is an end too.
        let _ = stop.wait_for(|stop| *stop).await;
    }
}
