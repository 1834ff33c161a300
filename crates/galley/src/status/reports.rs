//! Takes Pilots' reports: the gRPC service around [`super::progress`], beside the feed on the same port.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::{Json, Router, routing::get};
use feed::distribution::{
    Distribution as Service, DistributionReply, DistributionReport, DistributionServer,
};
use futures::Stream;
use parking_lot::Mutex;
use prometheus_client::metrics::gauge::Gauge;
use runtime::spiffe::SYSTEM_NAMESPACE;
use runtime::{Context, Metrics, grpc};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::lease::Leader;
use super::progress::Distribution;

/// Largest report in bytes.
const MAX_MESSAGE: usize = 4 << 20;
/// How long a new stream may stay silent.
const FIRST: Duration = Duration::from_secs(10);

/// What Pilots have told, shared by their streams and whoever reads it.
#[derive(Debug, Clone)]
pub struct Reports {
    told: Arc<Mutex<Distribution>>,
    /// Counts changes.
    changes: watch::Sender<u64>,
    leader: watch::Receiver<Leader>,
    start: Instant,
    pilots: Gauge,
    shutdown: CancellationToken,
}

impl Reports {
    /// Nothing told yet. `leader` says who wants reports; streams end at `shutdown`.
    #[must_use]
    pub fn new(leader: watch::Receiver<Leader>, metrics: &Metrics, shutdown: CancellationToken) -> Self {
        Self {
            told: Arc::default(),
            changes: watch::Sender::new(0),
            leader,
            start: Instant::now(),
            pilots: metrics.gauge(
                "galley_distribution_pilots",
                "Pilots that tell how far configuration has come",
            ),
            shutdown,
        }
    }

    /// The gRPC service.
    #[must_use]
    pub fn service(&self) -> DistributionServer<Self> {
        DistributionServer::new(self.clone()).max_decoding_message_size(MAX_MESSAGE)
    }

    /// Wakes when counts have changed.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Reads what was told.
    pub fn read<T>(&self, read: impl FnOnce(&Distribution) -> T) -> T {
        read(&self.told.lock())
    }

    /// Forgets Pilots that stay away, until the shutdown.
    pub async fn expire(self) {
        let tick = || tokio::time::sleep(Duration::from_secs(1));
        while self.shutdown.run_until_cancelled(tick()).await.is_some() {
            let now = self.start.elapsed();
            if self.told.lock().expire(now) {
                self.changed();
            }
        }
    }

    /// `GET /debug/distribution`: how far each object has come.
    pub fn routes(&self) -> Router {
        let reports = self.clone();
        let page = move || {
            let page = reports.page();
            async move { Json(page) }
        };
        Router::new().route("/debug/distribution", get(page))
    }

    fn page(&self) -> Value {
        let (all, (pilots, gone)) = self.read(|told| (told.all(), told.pilots()));
        let object =
            |(key, (generation, progress)): (config::ObjectKey, (i64, super::progress::Progress))| {
                let mut object = json!({
                    "object": key.to_string(),
                    "generation": generation,
                    "proxies": progress.proxies,
                    "accepted": progress.accepted,
                    "rejected": progress.rejected,
                });
                if let Some(fields) = object.as_object_mut().filter(|_| !progress.reason.is_empty()) {
                    fields.insert("reason".to_owned(), json!(progress.reason));
                }
                object
            };
        let objects: Vec<Value> = all.into_iter().map(object).collect();
        json!({ "pilots": pilots, "pilotsGone": gone, "objects": objects })
    }

    fn changed(&self) {
        let pilots = self.told.lock().pilots().0;
        self.pilots.set(i64::try_from(pilots).unwrap_or(i64::MAX));
        self.changes.send_modify(|changes| *changes += 1);
    }

    /// Where reports should go instead.
    fn elsewhere(leader: &Leader) -> Option<String> {
        leader.address.clone().filter(|_| !leader.is_me)
    }

    /// Takes a stream's reports until it ends, or another Galley leads.
    async fn listen(self, mut reports: Streaming<DistributionReport>) -> Result<DistributionReply, Status> {
        let mut leader = self.leader.clone();
        if let Some(leader) = Self::elsewhere(&leader.borrow_and_update()) {
            return Ok(DistributionReply { leader });
        }
        let first = tokio::time::timeout(FIRST, reports.message()).await;
        let first = first.map_err(|_| Status::deadline_exceeded("no first report"))??;
        let first = first.ok_or_else(|| Status::invalid_argument("the stream ended before a report"))?;
        let pilot = first.pilot.clone();
        let begun = self.told.lock().begin(&pilot);
        let stream = begun.map_err(|error| Status::invalid_argument(error.to_string()))?;
        // However this ends, the Pilot counts as gone then; the transport may drop it at any time.
        let _end = End {
            reports: self.clone(),
            pilot: pilot.clone(),
            stream,
        };
        let mut next = Some(first);
        loop {
            if let Some(report) = next.take() {
                let taken = self.told.lock().take(&pilot, stream, report);
                if taken.map_err(|error| Status::invalid_argument(error.to_string()))? {
                    self.changed();
                }
            }
            tokio::select! {
                report = reports.message() => match report? {
                    Some(report) => next = Some(report),
                    None => return Ok(DistributionReply::default()),
                },
                () = self.shutdown.cancelled() => return Err(Status::unavailable("Galley is shutting down")),
                () = changed(&mut leader) => {
                    if let Some(leader) = Self::elsewhere(&leader.borrow_and_update()) {
                        return Ok(DistributionReply { leader });
                    }
                }
            }
        }
    }
}

/// Waits until another one leads; for ever where nobody else can.
async fn changed(leader: &mut watch::Receiver<Leader>) {
    if leader.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

struct End {
    reports: Reports,
    pilot: String,
    stream: u64,
}

impl Drop for End {
    fn drop(&mut self) {
        let now = self.reports.start.elapsed();
        self.reports.told.lock().end(&self.pilot, self.stream, now);
        self.reports.changed();
    }
}

#[tonic::async_trait]
impl Service for Reports {
    type ReportStream = Pin<Box<dyn Stream<Item = Result<DistributionReply, Status>> + Send>>;

    async fn report(
        &self,
        request: Request<Streaming<DistributionReport>>,
    ) -> Result<Response<Self::ReportStream>, Status> {
        let peer = grpc::peer(request.extensions())
            .ok_or_else(|| Status::unauthenticated("reports are taken over mutual TLS only"))?;
        if peer.spiffe_id.account() != Some((SYSTEM_NAMESPACE, "pilot")) {
            tracing::warn!(peer = %peer.spiffe_id, "refused a report");
            return Err(Status::permission_denied(format!(
                "{} may not report; this is for Pilots",
                peer.spiffe_id
            )));
        }
        let listening = self.clone().listen(request.into_inner());
        Ok(Response::new(Box::pin(futures::stream::once(listening))))
    }
}

/// Starts taking reports: the service for the feed's port, and the debug page.
///
/// # Errors
/// When the page's place is taken.
pub fn start(
    leader: watch::Receiver<Leader>,
    context: &Context,
) -> Result<Reports, runtime::admin::MountError> {
    let reports = Reports::new(leader, &context.metrics, context.shutdown.clone());
    context.admin.mount("/debug/distribution", reports.routes())?;
    tokio::spawn(reports.clone().expire());
    Ok(reports)
}
