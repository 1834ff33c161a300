//! What the metrics of a batch add up to, by series, as OTLP has it. Pure.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics,
    ScopeMetrics, Sum, metric,
};
use policy::{Datum, InstanceValue, MetricKind, OpenTelemetry, OtlpMetric};

use super::resource;

/// What a series' values add up to.
#[derive(Debug, Default, Clone)]
struct Total {
    attributes: Vec<KeyValue>,
    sum: f64,
    last: f64,
    /// By bucket, the infinite one last.
    counts: Vec<u64>,
}

type Series = HashMap<Vec<String>, Total>;

/// The request for the metrics of a batch; `None` without any. Times are nanoseconds since the Unix epoch.
pub(super) fn request(
    otlp: &OpenTelemetry,
    batch: &[InstanceValue],
    since: u64,
    until: u64,
) -> Option<ExportMetricsServiceRequest> {
    let mut totals: BTreeMap<&Arc<str>, Series> = BTreeMap::new();
    for instance in batch.iter().filter(|instance| &*instance.template == "metric") {
        let key = instance.key.as_ref();
        if let Some((key, metric)) = key.and_then(|key| otlp.metrics.get_key_value(key)) {
            add(totals.entry(key).or_default(), metric, instance);
        }
    }
    let metrics = totals.into_iter().filter_map(|(key, series)| {
        let metric = otlp.metrics.get(key)?;
        (!series.is_empty()).then(|| data(metric, series, since, until))
    });
    let metrics: Vec<Metric> = metrics.collect();
    if metrics.is_empty() {
        return None;
    }
    let scope_metrics = vec![ScopeMetrics {
        scope: Some(resource::scope()),
        metrics,
        ..ScopeMetrics::default()
    }];
    let resource_metrics = vec![ResourceMetrics {
        resource: Some(resource::resource(otlp)),
        scope_metrics,
        ..ResourceMetrics::default()
    }];
    Some(ExportMetricsServiceRequest { resource_metrics })
}

fn add(series: &mut Series, metric: &OtlpMetric, instance: &InstanceValue) {
    let value = instance.fields.one("value").and_then(Datum::number);
    let finite = value.filter(|value| value.is_finite());
    // What is added up cannot fall.
    let Some(value) = finite.filter(|value| metric.kind != MetricKind::Counter || *value >= 0.0) else {
        return;
    };
    let dimensions = instance.fields.many("dimensions");
    let total = series
        .entry(dimensions.values().map(Datum::to_string).collect())
        .or_insert_with(|| Total {
            attributes: resource::attributes(dimensions),
            counts: vec![0; metric.buckets.len() + 1],
            ..Total::default()
        });
    total.sum += value;
    total.last = value;
    let bucket = metric.buckets.partition_point(|bound| *bound < value);
    if let Some(count) = total.counts.get_mut(bucket) {
        *count += 1;
    }
}

fn data(metric: &OtlpMetric, series: Series, since: u64, until: u64) -> Metric {
    let delta = AggregationTemporality::Delta.into();
    let totals = series.into_values();
    let number = |attributes: Vec<KeyValue>, value: f64| NumberDataPoint {
        attributes,
        start_time_unix_nano: since,
        time_unix_nano: until,
        value: Some(Value::AsDouble(value)),
        ..NumberDataPoint::default()
    };
    let data = match metric.kind {
        MetricKind::Counter => metric::Data::Sum(Sum {
            data_points: totals.map(|total| number(total.attributes, total.sum)).collect(),
            aggregation_temporality: delta,
            is_monotonic: true,
        }),
        MetricKind::Gauge => metric::Data::Gauge(Gauge {
            data_points: totals.map(|total| number(total.attributes, total.last)).collect(),
        }),
        MetricKind::Distribution => metric::Data::Histogram(Histogram {
            data_points: totals
                .map(|total| HistogramDataPoint {
                    attributes: total.attributes,
                    start_time_unix_nano: since,
                    time_unix_nano: until,
                    count: total.counts.iter().sum(),
                    sum: Some(total.sum),
                    bucket_counts: total.counts,
                    explicit_bounds: metric.buckets.clone(),
                    ..HistogramDataPoint::default()
                })
                .collect(),
            aggregation_temporality: delta,
        }),
    };
    Metric {
        name: metric.name.clone(),
        description: metric.description.clone(),
        unit: metric.unit.clone(),
        data: Some(data),
        ..Metric::default()
    }
}
