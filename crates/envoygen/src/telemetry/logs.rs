//! Access logs of providers: files, Envoy's access log service, OpenTelemetry.

use config::mesh::{FileAccessLogProvider, OpenTelemetryLogProvider};
use envoy_types::pb::envoy::config::accesslog::v3::{
    AccessLog, AccessLogFilter, AndFilter, ExtensionFilter, LogTypeFilter, access_log::ConfigType,
    access_log_filter::FilterSpecifier, extension_filter,
};
use envoy_types::pb::envoy::config::core::v3::ApiVersion;
use envoy_types::pb::envoy::data::accesslog::v3::AccessLogType;
use envoy_types::pb::envoy::extensions::access_loggers::filters::cel::v3::ExpressionFilter;
use envoy_types::pb::envoy::extensions::access_loggers::grpc::v3::{
    CommonGrpcAccessLogConfig, HttpGrpcAccessLogConfig, TcpGrpcAccessLogConfig,
};
use envoy_types::pb::envoy::extensions::access_loggers::open_telemetry::v3::OpenTelemetryAccessLogConfig;
use envoy_types::pb::google::protobuf::Any;
use envoy_types::pb::opentelemetry::proto::common::v1::{AnyValue, KeyValue, KeyValueList, any_value};

use super::provider::{ENVOY, Providers, Upstream};
use super::resolve::Log;
use crate::access_log;
use crate::wire::plain_any;

/// The log that a provider makes of requests or, if `tcp`, of connections; `None` if it is for the other of the two.
pub(super) fn log(
    providers: &Providers<'_>,
    asked: &Log<'_>,
    tcp: bool,
) -> Result<Option<AccessLog>, String> {
    let provider = providers.get(asked.provider)?;
    let upstream = |service: &str, port| providers.upstream(&provider.name, service, port);
    let mesh = providers.snapshot.mesh();
    let made = if let Some(file) = &provider.envoy_file_access_log {
        file_log(file, provider.name == ENVOY, mesh)
    } else if let Some(als) = &provider.envoy_http_als {
        if tcp {
            return Ok(None);
        }
        let common = common(
            &upstream(&als.service, als.port)?,
            &als.log_name,
            "http_envoy_accesslog",
            &als.filter_state_objects_to_log,
        );
        let config = HttpGrpcAccessLogConfig {
            common_config: Some(common),
            additional_request_headers_to_log: als.additional_request_headers_to_log.clone(),
            additional_response_headers_to_log: als.additional_response_headers_to_log.clone(),
            additional_response_trailers_to_log: als.additional_response_trailers_to_log.clone(),
        };
        named("envoy.access_loggers.http_grpc", plain_any(&config))
    } else if let Some(als) = &provider.envoy_tcp_als {
        if !tcp {
            return Ok(None);
        }
        let common = common(
            &upstream(&als.service, als.port)?,
            &als.log_name,
            "tcp_envoy_accesslog",
            &als.filter_state_objects_to_log,
        );
        named(
            "envoy.access_loggers.tcp_grpc",
            plain_any(&TcpGrpcAccessLogConfig {
                common_config: Some(common),
            }),
        )
    } else if let Some(otel) = &provider.envoy_otel_als {
        let config = open_telemetry(&upstream(&otel.service, otel.port)?, otel);
        named("envoy.access_loggers.open_telemetry", plain_any(&config))
    } else {
        return Err(format!(
            "extension provider {:?} makes no access logs",
            provider.name
        ));
    };
    let filter = asked.filter.map(cel);
    Ok(Some(AccessLog { filter, ..made }))
}

/// Keeps a log of connections to one entry for each, at its end: other loggers of the same listener want others.
pub(crate) fn at_end(log: &mut AccessLog) {
    let end = AccessLogFilter {
        filter_specifier: Some(FilterSpecifier::LogTypeFilter(LogTypeFilter {
            types: vec![AccessLogType::TcpConnectionEnd as i32],
            ..Default::default()
        })),
    };
    log.filter = Some(match log.filter.take() {
        None => end,
        Some(other) => AccessLogFilter {
            filter_specifier: Some(FilterSpecifier::AndFilter(AndFilter {
                filters: vec![end, other],
            })),
        },
    });
}

/// Entries for which a CEL expression holds.
pub(crate) fn cel(expression: &str) -> AccessLogFilter {
    let config = ExpressionFilter {
        expression: expression.to_owned(),
        ..Default::default()
    };
    AccessLogFilter {
        filter_specifier: Some(FilterSpecifier::ExtensionFilter(ExtensionFilter {
            name: "envoy.access_loggers.extension_filters.cel".to_owned(),
            config_type: Some(extension_filter::ConfigType::TypedConfig(plain_any(&config))),
        })),
    }
}

/// A file, the standard output if none is named. The `builtin` provider has the mesh's own format where it says nothing.
fn file_log(file: &FileAccessLogProvider, builtin: bool, mesh: &config::mesh::MeshConfig) -> AccessLog {
    let path = if file.path.is_empty() {
        "/dev/stdout"
    } else {
        file.path.as_str()
    };
    let format = match &file.log_format {
        None if builtin => access_log::of_mesh(mesh),
        None => access_log::text(""),
        Some(format) => match (&format.labels, &format.text) {
            (Some(labels), _) if !labels.is_empty() => access_log::labels(labels),
            (Some(_), _) => access_log::default_labels(),
            (None, text) => access_log::text(text.as_deref().unwrap_or_default()),
        },
    };
    access_log::to_file(path, format, file.omit_empty_values)
}

fn common(upstream: &Upstream, name: &str, default: &str, objects: &[String]) -> CommonGrpcAccessLogConfig {
    CommonGrpcAccessLogConfig {
        log_name: if name.is_empty() { default } else { name }.to_owned(),
        grpc_service: Some(upstream.grpc()),
        transport_api_version: ApiVersion::V3 as i32,
        filter_state_objects_to_log: objects.to_vec(),
        ..Default::default()
    }
}

fn open_telemetry(upstream: &Upstream, provider: &OpenTelemetryLogProvider) -> OpenTelemetryAccessLogConfig {
    let format = provider.log_format.clone().unwrap_or_default();
    let line = if format.text.is_empty() {
        access_log::default_line() + "\n"
    } else {
        format.text
    };
    let labels = format.labels.unwrap_or_default();
    let asks = |text: &str| text.contains(access_log::WITHOUT_QUERY);
    let formatters = asks(&line) || labels.values().any(|value| value.as_str().is_some_and(asks));
    let pair = |(key, value): (&String, &serde_json::Value)| KeyValue {
        key: key.clone(),
        value: Some(text(
            value.as_str().map_or_else(|| value.to_string(), str::to_owned),
        )),
        ..Default::default()
    };
    #[allow(deprecated, reason = "what replaces it would repeat it; Istio sets this one")]
    OpenTelemetryAccessLogConfig {
        common_config: Some(common(upstream, &provider.log_name, "otel_envoy_accesslog", &[])),
        disable_builtin_labels: true,
        body: Some(text(line)),
        attributes: Some(KeyValueList {
            values: labels.iter().map(pair).collect(),
        }),
        formatters: formatters.then(access_log::without_query).into_iter().collect(),
        ..Default::default()
    }
}

fn text(value: String) -> AnyValue {
    AnyValue {
        value: Some(any_value::Value::StringValue(value)),
    }
}

fn named(name: &str, config: Any) -> AccessLog {
    AccessLog {
        name: name.to_owned(),
        config_type: Some(ConfigType::TypedConfig(config)),
        ..Default::default()
    }
}
