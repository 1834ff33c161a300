//! Reads the parameters of adapters and templates, which `config` keeps as given. Names are accepted in camelCase and
//! snake_case, numbers as text too, as protobuf's JSON has it.

use std::fmt;

use serde::de::{DeserializeOwned, Error, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

/// A problem with a parameter: its path below `params` and what is wrong.
#[derive(Debug)]
pub(crate) struct Problem {
    pub(crate) path: String,
    pub(crate) message: String,
}

impl Problem {
    pub(crate) fn new(path: impl Into<String>, message: impl fmt::Display) -> Self {
        Self {
            path: path.into(),
            message: message.to_string(),
        }
    }

    /// The same problem, seen from the object that has it under `field` (a name, or `[KEY]` of a map).
    pub(crate) fn below(self, field: &str) -> Self {
        let path = match self.path.as_str() {
            "" => field.to_owned(),
            path if path.starts_with('[') => format!("{field}{path}"),
            path => format!("{field}.{path}"),
        };
        Self { path, ..self }
    }
}

/// Reads parameters of type `T`, which refuses unknown names.
pub(crate) fn read<T: DeserializeOwned>(params: &Map<String, Value>) -> Result<T, Problem> {
    serde_path_to_error::deserialize(Value::Object(camel_case(params))).map_err(|e| {
        let path = match e.path().to_string() {
            path if path == "." => String::new(),
            path => path,
        };
        Problem::new(path, e.inner())
    })
}

/// Field names in camelCase. Maps whose keys are the user's own are left alone.
fn camel_case(params: &Map<String, Value>) -> Map<String, Value> {
    let convert = |(key, value): (&String, &Value)| {
        let name = camel(key);
        let value = match (name.as_str(), value) {
            (
                "dimensions" | "variables" | "headers" | "attributeBindings" | "properties"
                | "severityLevels" | "globalTags" | "tags",
                value,
            ) => value.clone(),
            // By instance: the keys are the user's, what they hold is ours.
            ("metrics", Value::Object(metrics)) => {
                let metrics = metrics.iter().map(|(k, v)| (k.clone(), camel_case_value(v)));
                Value::Object(metrics.collect())
            }
            (_, value) => camel_case_value(value),
        };
        (name, value)
    };
    params.iter().map(convert).collect()
}

fn camel_case_value(value: &Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(camel_case(map)),
        Value::Array(items) => Value::Array(items.iter().map(camel_case_value).collect()),
        value => value.clone(),
    }
}

pub(crate) fn camel(name: &str) -> String {
    if name.starts_with('@') {
        return name.to_owned();
    }
    let mut parts = name.split('_').filter(|part| !part.is_empty());
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let mut chars = part.chars();
        out.extend(chars.next().map(|c| c.to_ascii_uppercase()));
        out.push_str(chars.as_str());
    }
    out
}

/// An integer, perhaps written as text.
pub(crate) fn integer<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    struct Integer;
    impl Visitor<'_> for Integer {
        type Value = i64;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an integer of 64 bits")
        }

        fn visit_i64<E: Error>(self, n: i64) -> Result<i64, E> {
            Ok(n)
        }

        fn visit_u64<E: Error>(self, n: u64) -> Result<i64, E> {
            i64::try_from(n).map_err(|_| E::custom("larger than 64 bits hold"))
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<i64, E> {
            text.trim()
                .parse()
                .map_err(|_| E::custom(format!("{text:?} is not an integer")))
        }
    }
    deserializer.deserialize_any(Integer)
}

/// A scalar as text: expressions are sometimes written as bare numbers or truths.
pub(crate) fn expression<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::String(text) => Ok(text),
        Value::Null => Ok(String::new()),
        value @ (Value::Number(_) | Value::Bool(_)) => Ok(value.to_string()),
        Value::Array(_) | Value::Object(_) => Err(D::Error::custom("an expression is text")),
    }
}

/// A map of expressions.
pub(crate) fn expressions<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<std::collections::BTreeMap<String, String>, D::Error> {
    #[derive(Deserialize)]
    struct One(#[serde(deserialize_with = "expression")] String);
    let map: Option<std::collections::BTreeMap<String, One>> = Deserialize::deserialize(deserializer)?;
    Ok(map
        .unwrap_or_default()
        .into_iter()
        .map(|(name, One(text))| (name, text))
        .collect())
}
