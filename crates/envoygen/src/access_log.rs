//! Access logs into a file, as MeshConfig asks for them (`accessLogFile`, `accessLogFormat`, `accessLogEncoding`).

use std::collections::HashMap;

use config::mesh::{AccessLogEncoding, MeshConfig};
use envoy_types::pb::envoy::config::accesslog::v3::{AccessLog, access_log::ConfigType};
use envoy_types::pb::envoy::config::core::v3::{
    DataSource, SubstitutionFormatString, TypedExtensionConfig, data_source::Specifier,
    substitution_format_string::Format,
};
use envoy_types::pb::envoy::extensions::access_loggers::file::v3::{
    FileAccessLog, file_access_log::AccessLogFormat,
};
use envoy_types::pb::envoy::extensions::formatter::req_without_query::v3::ReqWithoutQuery;
use envoy_types::pb::google::protobuf::{Struct, Value, value::Kind};

use crate::wire::{any, plain_any};

/// A header without its query, for which Envoy has an extension.
pub(crate) const WITHOUT_QUERY: &str = "%REQ_WITHOUT_QUERY(";

/// The operators of Istio's log, with the names that its JSON form gives them.
const FIELDS: [(&str, &str); 25] = [
    ("start_time", "%START_TIME%"),
    ("method", "%REQ(:METHOD)%"),
    ("path", "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%"),
    ("protocol", "%PROTOCOL%"),
    ("response_code", "%RESPONSE_CODE%"),
    ("response_flags", "%RESPONSE_FLAGS%"),
    ("response_code_details", "%RESPONSE_CODE_DETAILS%"),
    (
        "connection_termination_details",
        "%CONNECTION_TERMINATION_DETAILS%",
    ),
    (
        "upstream_transport_failure_reason",
        "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
    ),
    ("bytes_received", "%BYTES_RECEIVED%"),
    ("bytes_sent", "%BYTES_SENT%"),
    ("duration", "%DURATION%"),
    ("upstream_service_time", "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%"),
    ("x_forwarded_for", "%REQ(X-FORWARDED-FOR)%"),
    ("user_agent", "%REQ(USER-AGENT)%"),
    ("request_id", "%REQ(X-REQUEST-ID)%"),
    ("authority", "%REQ(:AUTHORITY)%"),
    ("upstream_host", "%UPSTREAM_HOST%"),
    ("upstream_cluster", "%UPSTREAM_CLUSTER_RAW%"),
    ("upstream_local_address", "%UPSTREAM_LOCAL_ADDRESS%"),
    ("downstream_local_address", "%DOWNSTREAM_LOCAL_ADDRESS%"),
    ("downstream_remote_address", "%DOWNSTREAM_REMOTE_ADDRESS%"),
    ("requested_server_name", "%REQUESTED_SERVER_NAME%"),
    ("route_name", "%ROUTE_NAME%"),
    ("downstream_peer_uri_san", "%DOWNSTREAM_PEER_URI_SAN%"),
];

/// How many of [`FIELDS`] Istio's text form has, and which stand in quotation marks there.
const IN_TEXT: usize = 24;
const QUOTED: [&str; 6] = [
    "upstream_transport_failure_reason",
    "x_forwarded_for",
    "user_agent",
    "request_id",
    "authority",
    "upstream_host",
];

/// The log that the mesh asks for, if any.
pub(crate) fn file(mesh: &MeshConfig) -> Option<AccessLog> {
    if mesh.access_log_file.is_empty() {
        return None;
    }
    Some(to_file(&mesh.access_log_file, of_mesh(mesh), false))
}

/// The form that MeshConfig gives logs.
pub(crate) fn of_mesh(mesh: &MeshConfig) -> Format {
    match mesh.access_log_encoding {
        AccessLogEncoding::Text => text(&mesh.access_log_format),
        AccessLogEncoding::Json => Format::JsonFormat(json(&mesh.access_log_format)),
    }
}

/// A log into a file.
pub(crate) fn to_file(path: &str, format: Format, omit_empty_values: bool) -> AccessLog {
    let config = FileAccessLog {
        path: path.to_owned(),
        access_log_format: Some(AccessLogFormat::LogFormat(SubstitutionFormatString {
            formatters: formatters(&format),
            format: Some(format),
            omit_empty_values,
            ..Default::default()
        })),
    };
    AccessLog {
        name: "envoy.access_loggers.file".to_owned(),
        config_type: Some(ConfigType::TypedConfig(any(&config))),
        ..Default::default()
    }
}

/// What Envoy needs for commands that it does not have by itself.
fn formatters(format: &Format) -> Vec<TypedExtensionConfig> {
    let asks = match format {
        Format::TextFormatSource(source) => match &source.specifier {
            Some(Specifier::InlineString(text)) => text.contains(WITHOUT_QUERY),
            _ => false,
        },
        Format::JsonFormat(fields) => asks(fields),
        _ => false,
    };
    asks.then(without_query).into_iter().collect()
}

fn asks(fields: &Struct) -> bool {
    fields.fields.values().any(|value| match &value.kind {
        Some(Kind::StringValue(text)) => text.contains(WITHOUT_QUERY),
        Some(Kind::StructValue(fields)) => asks(fields),
        _ => false,
    })
}

/// The formatter of [`WITHOUT_QUERY`] (Envoy, `envoy.formatter.req_without_query`).
pub(crate) fn without_query() -> TypedExtensionConfig {
    TypedExtensionConfig {
        name: "envoy.formatter.req_without_query".to_owned(),
        typed_config: Some(plain_any(&ReqWithoutQuery {})),
    }
}

/// Istio's fields as a JSON object.
pub(crate) fn default_labels() -> Format {
    Format::JsonFormat(json(""))
}

/// A JSON object of these fields.
pub(crate) fn labels(given: &serde_json::Map<String, serde_json::Value>) -> Format {
    let fields = given
        .iter()
        .map(|(name, value)| (name.clone(), json_value(value)))
        .collect();
    Format::JsonFormat(Struct { fields })
}

/// A line of text, Istio's if none is asked for.
pub(crate) fn text(asked: &str) -> Format {
    let line = if asked.is_empty() {
        default_line()
    } else {
        asked.to_owned()
    };
    let line = if line.ends_with('\n') { line } else { line + "\n" };
    Format::TextFormatSource(DataSource {
        specifier: Some(Specifier::InlineString(line)),
        ..Default::default()
    })
}

/// `[TIME] "METHOD PATH PROTOCOL" …`, as Istio writes it.
pub(crate) fn default_line() -> String {
    let mut parts: Vec<String> = Vec::new();
    for (name, operator) in FIELDS.iter().take(IN_TEXT) {
        parts.push(match *name {
            "start_time" => format!("[{operator}]"),
            "method" => format!("\"{operator}"),
            "protocol" => format!("{operator}\""),
            name if QUOTED.contains(&name) => format!("\"{operator}\""),
            _ => (*operator).to_owned(),
        });
    }
    parts.join(" ")
}

/// The names and operators given as a JSON object, else Istio's.
fn json(asked: &str) -> Struct {
    let given = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(asked).ok();
    let fields: HashMap<String, Value> = match given {
        Some(map) => map
            .iter()
            .map(|(name, value)| (name.clone(), json_value(value)))
            .collect(),
        None => FIELDS
            .iter()
            .map(|(name, operator)| ((*name).to_owned(), string(operator)))
            .collect(),
    };
    Struct { fields }
}

/// Envoy takes strings and objects of strings.
fn json_value(value: &serde_json::Value) -> Value {
    match value {
        serde_json::Value::String(text) => string(text),
        serde_json::Value::Object(map) => {
            let fields = map
                .iter()
                .map(|(name, value)| (name.clone(), json_value(value)))
                .collect();
            Value {
                kind: Some(Kind::StructValue(Struct { fields })),
            }
        }
        other => string(&other.to_string()),
    }
}

fn string(text: &str) -> Value {
    Value {
        kind: Some(Kind::StringValue(text.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_istios() {
        let line = default_line();
        assert!(line.starts_with(
            r#"[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE%"#
        ));
        assert!(line.ends_with("%REQUESTED_SERVER_NAME% %ROUTE_NAME%"));
        assert_eq!(line.matches('"').count(), 2 + 2 * QUOTED.len());
    }

    #[test]
    fn what_envoy_lacks_is_given_where_it_is_asked_for() {
        let count = |format| formatters(&format).len();
        assert_eq!(
            (count(text("")), count(text("%REQ_WITHOUT_QUERY(:PATH)%"))),
            (0, 1)
        );
        let nested = serde_json::json!({"a": {"b": "%REQ_WITHOUT_QUERY(:PATH):5%"}});
        assert_eq!(count(labels(nested.as_object().unwrap())), 1);
    }

    #[test]
    fn nothing_is_logged_unasked() {
        assert_eq!(file(&MeshConfig::default()), None);
    }
}
