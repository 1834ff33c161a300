//! `opentelemetry`: metrics, log entries and spans by OTLP over gRPC (opentelemetry.io, "OTLP Specification 1.x").
//!
//! Metrics leave as what a batch adds (delta temporality), so nothing grows with the number of series here; a backend that
//! wants running totals has its collector add them up (`deltatocumulative`).

mod logs;
mod metrics;
mod resource;
mod traces;

use std::time::{Duration, SystemTime};

use opentelemetry_proto::tonic::collector::logs::v1::logs_service_client::LogsServiceClient;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use parking_lot::Mutex;
use policy::{InstanceValue, OpenTelemetry};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use super::dialer::Dialer;
use super::{Batching, Fault, Kit};

/// How long a call may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The adapter.
pub(super) struct Adapter {
    otlp: OpenTelemetry,
    channel: Channel,
    /// Until when metrics were sent, in nanoseconds since the Unix epoch.
    since: Mutex<u64>,
}

impl Adapter {
    /// Connects with the first batch.
    pub(super) fn new(otlp: &OpenTelemetry, kit: &Kit) -> Result<Self, String> {
        let endpoint = Endpoint::from_shared(format!("http://{}", otlp.address));
        let endpoint = endpoint.map_err(|error| format!("address: {error}"))?;
        let endpoint = endpoint.timeout(TIMEOUT).connect_timeout(TIMEOUT);
        let pool = kit.pool.handle().map_err(|error| error.to_string())?;
        // A channel spawns its task where it is made.
        let _entered = pool.enter();
        Ok(Self {
            otlp: otlp.clone(),
            channel: endpoint.connect_with_connector_lazy(Dialer::new(
                &otlp.address,
                otlp.tls.as_ref(),
                &["h2"],
                kit,
            )?),
            since: Mutex::new(now()),
        })
    }

    async fn metrics(&self, batch: &[InstanceValue]) -> Result<(), Fault> {
        let (since, until) = (*self.since.lock(), now());
        if let Some(request) = metrics::request(&self.otlp, batch, since, until) {
            let mut client = MetricsServiceClient::new(self.channel.clone());
            client.export(request).await.map_err(|status| fault(&status))?;
            *self.since.lock() = until;
        }
        Ok(())
    }
}

#[tonic::async_trait]
impl super::Adapter for Adapter {
    fn batching(&self) -> Batching {
        Batching {
            queue: 1 << 16,
            batch: 1 << 13,
            linger: Duration::from_nanos(self.otlp.interval.unsigned_abs()),
            deadline: TIMEOUT,
        }
    }

    /// The three kinds leave one after the other. A failure has all sent again: who gets one twice sees the same
    /// identifiers and times.
    async fn report(&self, batch: &[InstanceValue]) -> Result<(), Fault> {
        if let Some(request) = traces::request(&self.otlp, batch) {
            let mut client = TraceServiceClient::new(self.channel.clone());
            client.export(request).await.map_err(|status| fault(&status))?;
        }
        if let Some(request) = logs::request(&self.otlp, batch, now()) {
            let mut client = LogsServiceClient::new(self.channel.clone());
            client.export(request).await.map_err(|status| fault(&status))?;
        }
        // Last: nothing that was counted is sent a second time.
        self.metrics(batch).await
    }
}

/// Which failures may pass (the specification's table of gRPC codes).
fn fault(status: &Status) -> Fault {
    let text = format!("{:?}: {}", status.code(), status.message());
    match status.code() {
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::ResourceExhausted
        | Code::DataLoss => Fault::Away(text),
        _ => Fault::Refused(text),
    }
}

fn now() -> u64 {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
