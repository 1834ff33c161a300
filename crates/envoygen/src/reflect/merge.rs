//! One message merged into another, as EnvoyFilter's MERGE means it: fields that are given replace scalars, lists grow, maps get
//! entries, messages merge. Durations and wrapped scalars are replaced as a whole, since a zero is a value there, and an `Any`
//! of the same type is merged inside.

use prost::Message;
use prost_reflect::{DynamicMessage, MapKey, ReflectMessage, Value};

use super::{TYPE_PREFIX, descriptor};

/// What becomes of lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lists {
    /// What is given comes behind what is there.
    Append,
    /// What is given takes the place of what is there.
    Replace,
}

/// Merges `patch` into `target`, a message of the same type.
pub(crate) fn merge(target: &mut DynamicMessage, patch: &DynamicMessage, lists: Lists) {
    for (field, value) in patch.fields() {
        match value {
            Value::List(items) => {
                let mut all = match target.get_field(&field).into_owned() {
                    Value::List(there) if lists == Lists::Append => there,
                    _ => Vec::new(),
                };
                all.extend(items.iter().cloned());
                target.set_field(&field, Value::List(all));
            }
            Value::Map(entries) => {
                let mut all: std::collections::HashMap<MapKey, Value> =
                    match target.get_field(&field).into_owned() {
                        Value::Map(there) => there,
                        _ => Default::default(),
                    };
                all.extend(entries.iter().map(|(key, value)| (key.clone(), value.clone())));
                target.set_field(&field, Value::Map(all));
            }
            Value::Message(given) if target.has_field(&field) && !is_value(given) => {
                let mut there = match target.get_field(&field).into_owned() {
                    Value::Message(there) => there,
                    _ => given.clone(),
                };
                if is_any(given) {
                    there = merge_any(&there, given, lists).unwrap_or_else(|| given.clone());
                } else {
                    merge(&mut there, given, lists);
                }
                target.set_field(&field, Value::Message(there));
            }
            other => target.set_field(&field, other.clone()),
        }
    }
}

/// Both as one, if they are of one type that is known; `None` means that the second replaces the first.
fn merge_any(there: &DynamicMessage, given: &DynamicMessage, lists: Lists) -> Option<DynamicMessage> {
    let (url, before) = parts(there)?;
    let (given_url, after) = parts(given)?;
    if url != given_url {
        return None;
    }
    let of = descriptor(url.trim_start_matches(TYPE_PREFIX)).ok()?;
    let mut inside = DynamicMessage::decode(of.clone(), before.as_slice()).ok()?;
    merge(
        &mut inside,
        &DynamicMessage::decode(of, after.as_slice()).ok()?,
        lists,
    );
    let mut out = there.clone();
    out.set_field_by_name("value", Value::Bytes(inside.encode_to_vec().into()));
    Some(out)
}

fn parts(any: &DynamicMessage) -> Option<(String, Vec<u8>)> {
    let url = any.get_field_by_name("type_url")?.as_str()?.to_owned();
    let value = any.get_field_by_name("value")?.as_bytes()?.to_vec();
    Some((url, value))
}

fn is_any(message: &DynamicMessage) -> bool {
    message.descriptor().full_name() == "google.protobuf.Any"
}

/// Messages that stand for one value.
fn is_value(message: &DynamicMessage) -> bool {
    let of = message.descriptor();
    let name = of.full_name();
    name == "google.protobuf.Duration"
        || name == "google.protobuf.Timestamp"
        || (name.starts_with("google.protobuf.")
            && name.ends_with("Value")
            && name != "google.protobuf.ListValue")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::super::{from_json, to_json};
    use super::*;

    /// Checks what merging gives for messages of one type.
    fn check(message: &str, there: &Json, patch: &Json, lists: Lists, expected: &Json) {
        let (mut target, _) = from_json(message, there).unwrap();
        let (patch, _) = from_json(message, patch).unwrap();
        merge(&mut target, &patch, lists);
        assert_eq!(&to_json(message, &target.encode_to_vec()).unwrap(), expected);
    }

    const CLUSTER: &str = "envoy.config.cluster.v3.Cluster";

    #[test]
    fn scalars_lists_and_messages() {
        let there = json!({"name": "x", "connect_timeout": "1.500s", "circuit_breakers": {"thresholds": [{"max_retries": 1}]},
                           "upstream_connection_options": {"set_local_interface_name_on_upstream_connections": true}});
        let patch = json!({"connect_timeout": "2s", "circuit_breakers": {"thresholds": [{"max_retries": 2}]},
                           "upstream_connection_options": {"tcp_keepalive": {}}});
        let mut expected = json!({"name": "x", "connect_timeout": "2s",
            "circuit_breakers": {"thresholds": [{"max_retries": 1}, {"max_retries": 2}]},
            "upstream_connection_options": {"set_local_interface_name_on_upstream_connections": true, "tcp_keepalive": {}}});
        check(CLUSTER, &there, &patch, Lists::Append, &expected);
        expected["circuit_breakers"] = json!({"thresholds": [{"max_retries": 2}]});
        check(CLUSTER, &there, &patch, Lists::Replace, &expected);
    }

    #[test]
    fn a_wrapped_false_is_a_value() {
        let there = json!({"name": "x", "per_connection_buffer_limit_bytes": 7, "outlier_detection": {"consecutive_5xx": 5}});
        let patch =
            json!({"per_connection_buffer_limit_bytes": 0, "outlier_detection": {"consecutive_5xx": 0}});
        let expected = json!({"name": "x", "per_connection_buffer_limit_bytes": 0, "outlier_detection": {"consecutive_5xx": 0}});
        check(CLUSTER, &there, &patch, Lists::Append, &expected);
    }

    #[test]
    fn an_any_of_one_type_is_merged_inside_and_one_of_another_replaced() {
        let socket =
            |config: Json| json!({"name": "x", "transport_socket": {"name": "tls", "typed_config": config}});
        const TLS: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext";
        let there = socket(json!({"@type": TLS, "sni": "a"}));
        let patch = socket(json!({"@type": TLS, "allow_renegotiation": true}));
        let both = socket(json!({"@type": TLS, "sni": "a", "allow_renegotiation": true}));
        check(CLUSTER, &there, &patch, Lists::Append, &both);
        let raw = socket(
            json!({"@type": "type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer"}),
        );
        check(CLUSTER, &there, &raw, Lists::Append, &raw);
    }
}
