//! What all three kinds have in common: resource, scope, attributes. Pure.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, KeyValueList};
use opentelemetry_proto::tonic::resource::v1::Resource;
use policy::{Datum, OpenTelemetry};

/// What everything is said of: the handler's properties, `service.name` unless they name one.
pub(super) fn resource(otlp: &OpenTelemetry) -> Resource {
    let name = ("service.name".to_owned(), "argosy-mixer".to_owned());
    let mut properties: BTreeMap<String, String> = [name].into();
    properties.extend(otlp.resource.clone());
    let attributes = properties
        .into_iter()
        .map(|(key, text)| pair(key, Value::StringValue(text)));
    Resource {
        attributes: attributes.collect(),
        ..Resource::default()
    }
}

/// Who says it.
pub(super) fn scope() -> InstrumentationScope {
    InstrumentationScope {
        name: "argosy.mixer".to_owned(),
        ..InstrumentationScope::default()
    }
}

/// Values by name as attributes.
pub(super) fn attributes(values: &BTreeMap<String, Datum>) -> Vec<KeyValue> {
    let attribute = |(name, datum): (&String, &Datum)| pair(name.clone(), value(datum));
    values.iter().map(attribute).collect()
}

/// One attribute.
pub(super) fn pair(key: String, value: Value) -> KeyValue {
    KeyValue {
        key,
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

/// A value; one that has no type of its own there becomes text.
pub(super) fn value(datum: &Datum) -> Value {
    match datum {
        Datum::Int(number) => Value::IntValue(*number),
        Datum::Double(number) => Value::DoubleValue(*number),
        Datum::Bool(truth) => Value::BoolValue(*truth),
        Datum::Map(map) => {
            let values = map.iter();
            let values = values.map(|(key, text)| pair(key.clone(), Value::StringValue(text.clone())));
            Value::KvlistValue(KeyValueList {
                values: values.collect(),
            })
        }
        other => Value::StringValue(other.to_string()),
    }
}
