//! Envoy's messages by their descriptors: from and to JSON, merged, and encoded so that the same meaning gives the same bytes.
//! For what is known at run time alone: patches that users write, dumps that people read.

mod canonical;
mod merge;

use std::sync::OnceLock;

use prost::{Message, Name};
use prost_reflect::{
    DescriptorPool, DeserializeOptions, DynamicMessage, MessageDescriptor, ReflectMessage, SerializeOptions,
};
use serde_json::Value;

pub(crate) use canonical::canonical;
pub(crate) use merge::{Lists, merge};

/// What every type URL of Envoy's begins with.
pub(crate) const TYPE_PREFIX: &str = "type.googleapis.com/";

/// Deepest nesting of JSON that is read as a message.
const MAX_DEPTH: usize = 64;

/// Why JSON is no message, or a message no JSON.
#[derive(Debug, thiserror::Error, Clone, PartialEq, Eq)]
pub enum ReflectError {
    /// No message of this name is known.
    #[error("{0:?} is no message of Envoy's; look for its name in Envoy's API reference")]
    UnknownType(String),
    /// The JSON does not have the message's form.
    #[error("not a {message}: {reason}")]
    Form {
        /// The message's full name.
        message: String,
        /// What is wrong.
        reason: String,
    },
    /// The JSON is nested too deeply.
    #[error("nested deeper than {MAX_DEPTH} levels")]
    Depth,
}

/// The descriptors of all messages that envoy-types has. Made at the first use; it holds some 17 MB.
fn pool() -> &'static DescriptorPool {
    static POOL: OnceLock<DescriptorPool> = OnceLock::new();
    POOL.get_or_init(|| {
        let set = include_bytes!(concat!(env!("OUT_DIR"), "/envoy.bin"));
        DescriptorPool::decode(set.as_slice()).unwrap_or_default()
    })
}

/// The message of a full name, such as `envoy.config.cluster.v3.Cluster`.
pub(crate) fn descriptor(name: &str) -> Result<MessageDescriptor, ReflectError> {
    pool()
        .get_message_by_name(name)
        .ok_or_else(|| ReflectError::UnknownType(name.to_owned()))
}

/// JSON as a message. Where only fields that nobody knows stand in the way, the message without them and their names.
pub(crate) fn from_json(
    message: &str,
    json: &Value,
) -> Result<(DynamicMessage, Option<String>), ReflectError> {
    if depth(json) > MAX_DEPTH {
        return Err(ReflectError::Depth);
    }
    let descriptor = descriptor(message)?;
    let read = |strict: bool| {
        let options = DeserializeOptions::new().deny_unknown_fields(strict);
        DynamicMessage::deserialize_with_options(descriptor.clone(), json, &options)
    };
    let form = |error: serde_json::Error| ReflectError::Form {
        message: message.to_owned(),
        reason: error.to_string(),
    };
    match read(true) {
        Ok(found) => Ok((found, None)),
        Err(strict) => read(false)
            .map(|found| (found, Some(strict.to_string())))
            .map_err(form),
    }
}

/// An encoded message as JSON, names as in Envoy's own dumps.
///
/// # Errors
/// The type is not Envoy's, or the bytes are no message of it.
pub fn to_json(type_url: &str, bytes: &[u8]) -> Result<Value, ReflectError> {
    let name = type_url.trim_start_matches(TYPE_PREFIX);
    let form = |reason: String| ReflectError::Form {
        message: name.to_owned(),
        reason,
    };
    let message =
        DynamicMessage::decode(descriptor(name)?, bytes).map_err(|error| form(error.to_string()))?;
    let options = SerializeOptions::new().use_proto_field_name(true);
    message
        .serialize_with_options(serde_json::value::Serializer, &options)
        .map_err(|error| form(error.to_string()))
}

/// A typed message as one known by its descriptor.
pub(crate) fn dynamic<M: Message + Name>(message: &M) -> Option<DynamicMessage> {
    DynamicMessage::decode(
        descriptor(&M::full_name()).ok()?,
        message.encode_to_vec().as_slice(),
    )
    .ok()
}

/// The typed form of a message.
pub(crate) fn typed<M: Message + Name + Default>(message: &DynamicMessage) -> Option<M> {
    let same = message.descriptor().full_name() == M::full_name();
    same.then(|| M::decode(message.encode_to_vec().as_slice()).ok())?
}

fn depth(json: &Value) -> usize {
    match json {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or_default(),
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or_default(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::config::cluster::v3::Cluster;
    use serde_json::json;

    use super::*;

    #[test]
    fn json_is_read_and_written() {
        let json = json!({"name": "x", "connectTimeout": "1.5s", "lb_policy": "RING_HASH"});
        let (message, unknown) = from_json("envoy.config.cluster.v3.Cluster", &json).unwrap();
        assert_eq!(unknown, None);
        let cluster: Cluster = typed(&message).unwrap();
        assert_eq!((cluster.name.as_str(), cluster.lb_policy), ("x", 2));
        let back = to_json(crate::type_url::CLUSTER, &cluster.encode_to_vec()).unwrap();
        assert_eq!(
            back,
            json!({"name": "x", "connect_timeout": "1.500s", "lb_policy": "RING_HASH"})
        );
    }

    #[test]
    fn types_in_any_are_found_by_name() {
        let filter = json!({"name": "x", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua",
            "default_source_code": {"inline_string": "x"},
        }});
        const FILTER: &str = "envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter";
        assert!(from_json(FILTER, &filter).is_ok());
        let mut unknown = filter;
        unknown["typed_config"]["@type"] = "type.googleapis.com/no.such.Type".into();
        assert!(from_json(FILTER, &unknown).is_err());
    }

    #[test]
    fn unknown_fields_are_named_and_left_out() {
        let (_, unknown) = from_json(
            "envoy.config.cluster.v3.Cluster",
            &json!({"name": "x", "nonsense": 1}),
        )
        .unwrap();
        assert!(unknown.unwrap().contains("nonsense"));
        assert!(from_json("envoy.config.cluster.v3.Cluster", &json!({"name": 7})).is_err());
    }

    #[test]
    fn deep_json_is_refused() {
        let mut json = json!({});
        for _ in 0..100 {
            json = json!({ "x": json });
        }
        assert_eq!(
            from_json("google.protobuf.Struct", &json).unwrap_err(),
            ReflectError::Depth
        );
    }
}
