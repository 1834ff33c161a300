//! Spans as OTLP has them. Pure.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{self as trace, ResourceSpans, ScopeSpans, Status};
use policy::{InstanceValue, OpenTelemetry};

use super::resource;
use crate::adapters::span::{Span, sampled};

/// The request for the spans of a batch that are sampled; `None` without any.
pub(super) fn request(otlp: &OpenTelemetry, batch: &[InstanceValue]) -> Option<ExportTraceServiceRequest> {
    let spans = batch.iter().filter(|instance| &*instance.template == "tracespan");
    let spans = spans.filter(|instance| sampled(&instance.fields, otlp.sampling));
    let spans: Vec<trace::Span> = spans.filter_map(span).collect();
    if spans.is_empty() {
        return None;
    }
    let scope_spans = vec![ScopeSpans {
        scope: Some(resource::scope()),
        spans,
        ..ScopeSpans::default()
    }];
    let resource_spans = vec![ResourceSpans {
        resource: Some(resource::resource(otlp)),
        scope_spans,
        ..ResourceSpans::default()
    }];
    Some(ExportTraceServiceRequest { resource_spans })
}

fn span(instance: &InstanceValue) -> Option<trace::Span> {
    let span = Span::new(&instance.fields)?;
    let kind = if span.client {
        SpanKind::Client
    } else {
        SpanKind::Server
    };
    let status = match span.status {
        500.. => StatusCode::Error,
        _ => StatusCode::Unset,
    };
    Some(trace::Span {
        trace_id: bytes(&span.trace_id, 16),
        span_id: bytes(&span.id, 8),
        parent_span_id: span.parent.map(|id| bytes(&id, 8)).unwrap_or_default(),
        name: span.name,
        kind: kind.into(),
        start_time_unix_nano: u64::try_from(span.start).unwrap_or_default(),
        end_time_unix_nano: u64::try_from(span.end).unwrap_or_default(),
        attributes: resource::attributes(instance.fields.many("spanTags")),
        status: Some(Status {
            code: status.into(),
            ..Status::default()
        }),
        ..trace::Span::default()
    })
}

/// An identifier's bytes, the highest first; a shorter one has zeros before it.
fn bytes(hex: &str, length: usize) -> Vec<u8> {
    let number = u128::from_str_radix(hex, 16).unwrap_or_default();
    let bytes = number.to_be_bytes();
    bytes
        .get(bytes.len().saturating_sub(length)..)
        .unwrap_or_default()
        .to_vec()
}
