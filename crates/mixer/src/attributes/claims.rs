//! Claims of a request's token, from the dynamic metadata that Envoy's jwt_authn filter left after verifying it.

use std::collections::BTreeMap;

use envoy_types::pb::envoy::config::core::v3::Metadata;
use envoy_types::pb::google::protobuf::{Struct, Value, value::Kind};

/// The filter's namespace in dynamic metadata.
pub(crate) const NAMESPACE: &str = "envoy.filters.http.jwt_authn";
/// Deepest nesting of claims that is read.
const MAX_DEPTH: usize = 16;

/// Verified claims.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    /// Claims at the top; lists of text are joined by commas, objects are left out.
    pub(crate) flat: BTreeMap<String, String>,
    /// All, as JSON.
    pub(crate) raw: String,
}

/// The claims in a request's metadata: of the first payload that names an issuer.
pub(crate) fn of(metadata: Option<&Metadata>) -> Option<Claims> {
    let namespace = metadata?.filter_metadata.get(NAMESPACE)?;
    let payloads = namespace.fields.values().filter_map(|value| match &value.kind {
        Some(Kind::StructValue(payload)) if payload.fields.contains_key("iss") => Some(payload),
        _ => None,
    });
    // Istio allows one token for a request; were there several, the choice must not hang on a hash map's order.
    let payload = payloads.min_by_key(|payload| payload.fields.get("iss").and_then(text))?;
    let flat = payload
        .fields
        .iter()
        .filter_map(|(name, value)| Some((name.clone(), text(value)?)));
    Some(Claims {
        flat: flat.collect(),
        raw: json_of(payload, 0).to_string(),
    })
}

fn text(value: &Value) -> Option<String> {
    match value.kind.as_ref()? {
        Kind::StringValue(text) => Some(text.clone()),
        Kind::NumberValue(number) => Some(number.to_string()),
        Kind::BoolValue(truth) => Some(truth.to_string()),
        Kind::ListValue(list) => {
            let all: Option<Vec<String>> = list.values.iter().map(text).collect();
            all.map(|all| all.join(","))
        }
        Kind::NullValue(_) | Kind::StructValue(_) => None,
    }
}

fn json_of(payload: &Struct, depth: usize) -> serde_json::Value {
    // Sorted, so that equal claims give equal text.
    let fields: BTreeMap<&String, &Value> = payload.fields.iter().collect();
    fields
        .into_iter()
        .map(|(name, value)| (name.clone(), json(value, depth + 1)))
        .collect()
}

fn json(value: &Value, depth: usize) -> serde_json::Value {
    match &value.kind {
        _ if depth > MAX_DEPTH => serde_json::Value::Null,
        Some(Kind::StringValue(text)) => text.as_str().into(),
        Some(Kind::NumberValue(number)) => (*number).into(),
        Some(Kind::BoolValue(truth)) => (*truth).into(),
        Some(Kind::ListValue(list)) => list.values.iter().map(|value| json(value, depth + 1)).collect(),
        Some(Kind::StructValue(fields)) => json_of(fields, depth),
        Some(Kind::NullValue(_)) | None => serde_json::Value::Null,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use envoy_types::pb::google::protobuf::ListValue;

    use super::*;

    fn value(kind: Kind) -> Value {
        Value { kind: Some(kind) }
    }

    fn object(fields: impl IntoIterator<Item = (&'static str, Value)>) -> Struct {
        Struct {
            fields: fields
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
        }
    }

    /// Metadata as jwt_authn leaves it, with `payload_in_metadata: payload`.
    pub(in crate::attributes) fn metadata() -> Metadata {
        let string = |text: &str| value(Kind::StringValue(text.to_owned()));
        let audiences = ListValue {
            values: vec![string("a"), string("b")],
        };
        let payload = object([
            ("iss", string("https://issuer")),
            ("sub", string("alice")),
            ("aud", value(Kind::ListValue(audiences))),
            ("level", value(Kind::NumberValue(3.0))),
            (
                "nested",
                value(Kind::StructValue(object([("x", value(Kind::BoolValue(true)))]))),
            ),
        ]);
        let namespace = object([
            ("payload", value(Kind::StructValue(payload))),
            (
                "header",
                value(Kind::StructValue(object([("alg", string("ES256"))]))),
            ),
        ]);
        Metadata {
            filter_metadata: [(NAMESPACE.to_owned(), namespace)].into(),
            ..Metadata::default()
        }
    }

    #[test]
    fn claims_are_flattened_and_kept_whole() {
        let claims = of(Some(&metadata())).unwrap();
        let flat: Vec<_> = claims.flat.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(flat, ["aud=a,b", "iss=https://issuer", "level=3", "sub=alice"]);
        let raw = r#"{"aud":["a","b"],"iss":"https://issuer","level":3.0,"nested":{"x":true},"sub":"alice"}"#;
        assert_eq!(claims.raw, raw);
        assert!(of(None).is_none() && of(Some(&Metadata::default())).is_none());
    }
}
