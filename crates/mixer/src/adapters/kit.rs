//! What adapters are started with.

use std::path::PathBuf;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use runtime::Metrics;
use tokio_util::task::TaskTracker;

use super::pool::Pool;
use crate::args::Args;

/// A handler and how something ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct HandlerLabel {
    /// `NAME.NAMESPACE`.
    handler: String,
    reason: &'static str,
}

/// What handlers are counted by.
#[derive(Debug, Clone)]
pub(super) struct Counters {
    calls: Family<HandlerLabel, Counter>,
    dropped: Family<HandlerLabel, Counter>,
}

impl Counters {
    /// Counts a call.
    pub(super) fn called(&self, handler: &str, reason: &'static str) {
        let handler = handler.to_owned();
        let label = HandlerLabel { handler, reason };
        self.calls.get_or_create(&label).inc();
    }

    /// Counts instances that a handler did not get.
    pub(super) fn dropped(&self, handler: &str, reason: &'static str, count: usize) {
        let handler = handler.to_owned();
        let label = HandlerLabel { handler, reason };
        self.dropped.get_or_create(&label).inc_by(count as u64);
    }
}

/// Threads, folders and counters that all adapters share.
#[derive(Debug)]
pub(crate) struct Kit {
    pub(super) pool: Pool,
    /// What still sends.
    pub(super) tracker: TaskTracker,
    /// How long a check may take.
    pub(super) deadline: Duration,
    /// The folder of handlers' files; without one there are none.
    pub(super) files: Option<PathBuf>,
    /// The folder of certificates and keys for backends; without one there is no TLS to them.
    pub(super) certificates: Option<PathBuf>,
    pub(super) counters: Counters,
}

impl Kit {
    /// A kit whose counters are among `metrics`.
    pub(crate) fn new(args: &Args, metrics: &Metrics) -> Self {
        let counters = Counters {
            calls: metrics.family(
                "argosy_mixer_adapter_calls_total",
                "Calls of handlers beside the decision, by how they ended (ok, away, refused, late, panicked, busy, resting)",
            ),
            dropped: metrics.family(
                "argosy_mixer_adapter_dropped_total",
                "Instances that a handler did not get, because too many waited (full) or by how its calls ended",
            ),
        };
        Self {
            pool: Pool::default(),
            tracker: TaskTracker::new(),
            deadline: args.adapter_deadline,
            files: args.handler_files.clone(),
            certificates: args.handler_certificates.clone(),
            counters,
        }
    }

    /// Waits until handlers that are gone have sent what waited in them, at most for `grace`.
    pub(crate) async fn drained(&self, grace: Duration) {
        self.tracker.close();
        if tokio::time::timeout(grace, self.tracker.wait()).await.is_err() {
            tracing::warn!(?grace, "some adapters did not send all reports that waited");
        }
    }
}
