//! OTLP over gRPC: log records of Envoy's OpenTelemetry access logger become reports, metrics become edges of the graph.
//!
//! A log record's attributes are named as Mixer's are (`request.method`, `response.code`, `request.headers.x-user`), with the
//! text that Envoy's formatter makes of its operators: numbers, `-` for what is absent, milliseconds for durations, and
//! ADDRESS:PORT or an address for `source.ip` and `destination.ip`. The resource's `log_name` and `node_name`, which Envoy sets,
//! say which end speaks and for which workload.

use std::sync::Arc;

use envoy_types::pb::envoy::service::metrics::v3::metrics_service_server::MetricsService as EnvoyMetrics;
use envoy_types::pb::envoy::service::metrics::v3::{StreamMetricsMessage, StreamMetricsResponse};
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_server::LogsService;
use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsPartialSuccess, ExportLogsServiceRequest, ExportLogsServiceResponse,
};
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::MetricsService;
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use opentelemetry_proto::tonic::metrics::v1::{AggregationTemporality, metric::Data};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use crate::engine::Engine;
use crate::wire::formatted;
use crate::wire::sent::Sent;
use crate::wire::series::{Reported, Series};

/// Records after which other tasks get their turn.
const TURN: usize = 256;
/// Most records or series of one message.
const MAX_RECORDS: usize = 50_000;

/// OTLP's log service.
#[derive(Debug)]
pub(crate) struct Logs(pub(crate) Arc<Engine>);

fn text<'a>(attributes: &'a [KeyValue], name: &str) -> Option<&'a str> {
    let found = attributes.iter().find(|pair| pair.key == name)?;
    match found.value.as_ref()?.value.as_ref()? {
        Any::StringValue(text) => Some(text),
        _ => None,
    }
}

#[tonic::async_trait]
impl LogsService for Logs {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        let caller = super::caller(request.extensions())?;
        let policies = self.0.policies()?;
        let (mut taken, mut rejected, mut why) = (0usize, 0i64, String::new());
        for resource in &request.get_ref().resource_logs {
            let properties = resource
                .resource
                .as_ref()
                .map_or(&[][..], |resource| &resource.attributes);
            let (log, node) = (text(properties, "log_name"), text(properties, "node_name"));
            for record in resource.scope_logs.iter().flat_map(|scope| &scope.log_records) {
                taken += 1;
                if taken > MAX_RECORDS {
                    return Err(Status::resource_exhausted(format!(
                        "more than {MAX_RECORDS} log records in one message; send fewer"
                    )));
                }
                match read(&record.attributes, log) {
                    Ok(sent) => {
                        let own = sent.own(&policies.mesh, &caller, node);
                        self.0.meters.reports.inc();
                        sent.with_request(&sent.derived(), &policies.mesh, &caller, own, |request| {
                            self.0.report(&policies, request);
                        });
                    }
                    Err(problem) => {
                        rejected += 1;
                        why = problem;
                    }
                }
                if taken % TURN == 0 {
                    tokio::task::yield_now().await;
                }
            }
        }
        let partial_success = (rejected > 0).then_some(ExportLogsPartialSuccess {
            rejected_log_records: rejected,
            error_message: why,
        });
        Ok(Response::new(ExportLogsServiceResponse { partial_success }))
    }
}

/// The attributes of a record.
fn read<'a>(attributes: &'a [KeyValue], log: Option<&str>) -> Result<Sent<'a>, String> {
    let pairs = attributes.iter().filter_map(|pair| {
        let value = match pair.value.as_ref()?.value.as_ref()? {
            Any::StringValue(text) => formatted::Given::Text(text),
            Any::IntValue(number) => formatted::Given::Int(*number),
            Any::DoubleValue(number) => formatted::Given::Double(*number),
            Any::BoolValue(truth) => formatted::Given::Bool(*truth),
            _ => return None,
        };
        Some((pair.key.as_str(), value))
    });
    formatted::read(pairs, log)
}

/// OTLP's metrics service.
#[derive(Debug)]
pub(crate) struct Metrics {
    pub(crate) engine: Arc<Engine>,
    pub(crate) series: Arc<Series>,
}

#[tonic::async_trait]
impl MetricsService for Metrics {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        let caller = super::caller(request.extensions())?;
        let policies = self.engine.policies()?;
        let now = self.engine.now();
        for resource in &request.get_ref().resource_metrics {
            let properties = resource
                .resource
                .as_ref()
                .map_or(&[][..], |resource| &resource.attributes);
            let node = text(properties, "node_name").or_else(|| text(properties, "service.instance.id"));
            for metric in resource.scope_metrics.iter().flat_map(|scope| &scope.metrics) {
                let Some(Data::Sum(sum)) = &metric.data else {
                    continue;
                };
                let delta = sum.aggregation_temporality() == AggregationTemporality::Delta;
                for point in sum.data_points.iter().take(MAX_RECORDS) {
                    let value = match point.value {
                        Some(Number::AsInt(number)) => u64::try_from(number).unwrap_or_default(),
                        Some(Number::AsDouble(number)) => whole(number),
                        None => continue,
                    };
                    let reported = Reported {
                        name: &metric.name,
                        labels: labels(&point.attributes),
                        value,
                        delta,
                    };
                    self.series.take(
                        &reported,
                        &policies.mesh,
                        (&caller, node),
                        &self.engine.graph,
                        now,
                    );
                }
            }
        }
        Ok(Response::new(ExportMetricsServiceResponse {
            partial_success: None,
        }))
    }
}

/// A count that came as a double.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to what fits, and casts of floats saturate"
)]
fn whole(number: f64) -> u64 {
    number.max(0.0) as u64
}

fn labels(attributes: &[KeyValue]) -> Vec<(&str, &str)> {
    attributes
        .iter()
        .filter_map(|pair| match pair.value.as_ref()?.value.as_ref()? {
            Any::StringValue(text) => Some((pair.key.as_str(), text.as_str())),
            _ => None,
        })
        .collect()
}

/// Envoy's metrics service v3.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) engine: Arc<Engine>,
    pub(crate) series: Arc<Series>,
    /// Ends the streams, which Envoy would keep open for ever.
    pub(crate) shutdown: CancellationToken,
}

impl Stream {
    fn take(&self, message: &StreamMetricsMessage, caller: &str, node: Option<&str>) {
        // Before the first configuration nobody is known; counters are totals, so nothing is lost.
        let Ok(policies) = self.engine.policies() else {
            return;
        };
        let now = self.engine.now();
        for family in message.envoy_metrics.iter().take(MAX_RECORDS) {
            for metric in family.metric.iter().take(MAX_RECORDS) {
                let Some(counter) = metric.counter.as_ref().and_then(|counter| counter.value) else {
                    continue;
                };
                let labels = metric
                    .label
                    .iter()
                    .map(|label| (label.name(), label.value()))
                    .collect();
                let reported = Reported {
                    name: family.name(),
                    labels,
                    value: whole(counter),
                    delta: false,
                };
                self.series
                    .take(&reported, &policies.mesh, (caller, node), &self.engine.graph, now);
            }
        }
    }
}

#[tonic::async_trait]
impl EnvoyMetrics for Stream {
    async fn stream_metrics(
        &self,
        request: Request<Streaming<StreamMetricsMessage>>,
    ) -> Result<Response<StreamMetricsResponse>, Status> {
        let caller = super::caller(request.extensions())?;
        let mut stream = request.into_inner();
        let take = async {
            let mut node = None;
            while let Some(message) = stream.message().await? {
                if let Some(introduced) = message.identifier.as_ref().and_then(|one| one.node.as_ref()) {
                    node = Some(introduced.id.clone()).filter(|id| id.len() <= super::MAX_NODE_ID);
                }
                self.take(&message, &caller, node.as_deref());
            }
            Ok(())
        };
        let ended: Option<Result<(), Status>> = self.shutdown.run_until_cancelled(take).await;
        ended
            .unwrap_or(Ok(()))
            .map(|()| Response::new(StreamMetricsResponse {}))
    }
}
