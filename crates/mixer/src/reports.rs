//! The queue between the streams of access logs and the adapters: bounded in messages and bytes. What does not fit is
//! dropped and counted: telemetry never holds a proxy up.

use std::sync::Arc;

use envoy_types::pb::envoy::service::accesslog::v3::stream_access_logs_message::LogEntries;
use prometheus_client::metrics::counter::Counter;
use prost::Message;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::attributes::http_log::HttpLog;
use crate::attributes::log::Sender;
use crate::attributes::tcp_log::{TcpLog, Totals};
use crate::engine::Engine;
use crate::policies::Policies;

/// Messages that may wait.
const MAX_MESSAGES: usize = 4096;
/// Bytes that may wait, as encoded.
const MAX_BYTES: usize = 32 << 20;
/// Entries after which other tasks get their turn.
const TURN: usize = 256;

/// A message that waits.
#[derive(Debug)]
struct Batch {
    sender: Arc<Sender>,
    entries: LogEntries,
    _room: OwnedSemaphorePermit,
}

/// The end of the queue at which entries come in.
#[derive(Debug, Clone)]
pub(crate) struct Queue {
    batches: mpsc::Sender<Batch>,
    room: Arc<Semaphore>,
    dropped: Counter,
}

/// The end of the queue at which they are worked off.
#[derive(Debug)]
pub(crate) struct Worker {
    batches: mpsc::Receiver<Batch>,
    engine: Arc<Engine>,
    totals: Totals,
}

/// A queue.
pub(crate) fn queue(engine: Arc<Engine>) -> (Queue, Worker) {
    let (sender, receiver) = mpsc::channel(MAX_MESSAGES);
    let dropped = engine.meters.reports_dropped.clone();
    let connections = engine.meters.connections.clone();
    let queue = Queue {
        batches: sender,
        room: Arc::new(Semaphore::new(MAX_BYTES)),
        dropped,
    };
    (
        queue,
        Worker {
            batches: receiver,
            engine,
            totals: Totals::new(connections),
        },
    )
}

impl Queue {
    /// Puts entries in, or counts them as dropped.
    pub(crate) fn offer(&self, sender: &Arc<Sender>, entries: LogEntries) {
        let (bytes, count) = size(&entries);
        let room = u32::try_from(bytes)
            .ok()
            .and_then(|bytes| self.room.clone().try_acquire_many_owned(bytes).ok());
        let batch = room.map(|room| Batch {
            sender: sender.clone(),
            entries,
            _room: room,
        });
        if batch.is_none_or(|batch| self.batches.try_send(batch).is_err()) {
            self.dropped.inc_by(count as u64);
        }
    }
}

fn size(entries: &LogEntries) -> (usize, usize) {
    match entries {
        LogEntries::HttpLogs(logs) => (logs.encoded_len(), logs.log_entry.len()),
        LogEntries::TcpLogs(logs) => (logs.encoded_len(), logs.log_entry.len()),
    }
}

impl Worker {
    /// Works entries off until every queue is gone. What waits then is still worked off.
    pub(crate) async fn run(mut self) {
        let mut done = 0;
        while let Some(batch) = self.batches.recv().await {
            // Reports of the time before the first configuration wait for it, as far as there is room.
            let policies = self.engine.configured().await;
            done += self.take(&policies, batch);
            if done >= TURN {
                done = 0;
                tokio::task::yield_now().await;
            }
        }
    }

    fn take(&mut self, policies: &Policies, batch: Batch) -> usize {
        let count = size(&batch.entries).1;
        self.engine.meters.reports.inc_by(count as u64);
        match batch.entries {
            LogEntries::HttpLogs(logs) => {
                for log in logs.log_entry.into_iter().filter_map(HttpLog::new) {
                    log.with_request(&policies.mesh, &batch.sender, |request| {
                        self.engine
                            .report_to(policies, request, batch.sender.told.as_deref())
                    });
                }
            }
            LogEntries::TcpLogs(logs) => self.tcp(policies, &batch.sender, logs.log_entry),
        }
        count
    }

    fn tcp(
        &mut self,
        policies: &Policies,
        sender: &Sender,
        entries: Vec<envoy_types::pb::envoy::data::accesslog::v3::TcpAccessLogEntry>,
    ) {
        self.totals.at(self.engine.now());
        for entry in entries {
            if let Some(log) = TcpLog::new(entry, sender, &mut self.totals) {
                log.with_request(&policies.mesh, sender, |request| {
                    self.engine.report_to(policies, request, sender.told.as_deref())
                });
            }
        }
    }
}
