//! Log entries as OTLP log records. Pure.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::AnyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs, SeverityNumber};
use policy::{InstanceValue, OpenTelemetry};

use super::resource;

/// The request for the log entries of a batch; `None` without any.
pub(super) fn request(
    otlp: &OpenTelemetry,
    batch: &[InstanceValue],
    now: u64,
) -> Option<ExportLogsServiceRequest> {
    let entries = batch.iter().filter(|instance| &*instance.template == "logentry");
    let log_records: Vec<LogRecord> = entries.map(|instance| record(instance, now)).collect();
    if log_records.is_empty() {
        return None;
    }
    let scope_logs = vec![ScopeLogs {
        scope: Some(resource::scope()),
        log_records,
        ..ScopeLogs::default()
    }];
    let resource_logs = vec![ResourceLogs {
        resource: Some(resource::resource(otlp)),
        scope_logs,
        ..ResourceLogs::default()
    }];
    Some(ExportLogsServiceRequest { resource_logs })
}

fn record(instance: &InstanceValue, now: u64) -> LogRecord {
    let severity = instance.fields.text("severity");
    let time = instance.fields.time("timestamp");
    LogRecord {
        time_unix_nano: time.and_then(|at| u64::try_from(at).ok()).unwrap_or(now),
        observed_time_unix_nano: now,
        severity_number: number(severity).into(),
        severity_text: severity.to_owned(),
        body: Some(AnyValue {
            value: Some(Value::StringValue(instance.name.to_string())),
        }),
        attributes: resource::attributes(instance.fields.many("variables")),
        ..LogRecord::default()
    }
}

fn number(severity: &str) -> SeverityNumber {
    match severity.to_ascii_lowercase().as_str() {
        "trace" => SeverityNumber::Trace,
        "debug" => SeverityNumber::Debug,
        "info" | "informational" | "notice" | "default" => SeverityNumber::Info,
        "warn" | "warning" => SeverityNumber::Warn,
        "err" | "error" => SeverityNumber::Error,
        "fatal" | "critical" | "alert" | "emergency" => SeverityNumber::Fatal,
        _ => SeverityNumber::Unspecified,
    }
}
