//! Reads the parameters of adapters and templates, which objects keep as given. Names are accepted in camelCase and
//! snake_case, numbers as text too, as protobuf's JSON has it.

use std::fmt;

use expr::CompileError;
use serde::de::{DeserializeOwned, Error, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use serde_path_to_error::Segment;

use crate::structure::nearest;

/// A problem with a parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where it is below the parameters: `quotas[0].maxAmount`, `dimensions[a.b]`; empty for all of them.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// Whether what is wrong may be right with another object: an attribute that a manifest may add.
    pub(crate) open: bool,
}

impl Problem {
    /// A problem at a path.
    pub fn new(path: impl Into<String>, message: impl fmt::Display) -> Self {
        Self {
            path: path.into(),
            message: message.to_string(),
            open: false,
        }
    }

    /// An expression that was not compiled.
    pub fn expression(path: impl Into<String>, error: &CompileError) -> Self {
        Self {
            open: matches!(error, CompileError::UnknownAttribute { .. }),
            ..Self::new(path, error)
        }
    }

    /// The same problem, seen from the object that has it under `field` (a name, or `[KEY]` of a map).
    #[must_use]
    pub fn below(self, field: &str) -> Self {
        let path = match self.path.as_str() {
            "" => field.to_owned(),
            path if path.starts_with('[') => format!("{field}{path}"),
            path => format!("{field}.{path}"),
        };
        Self { path, ..self }
    }
}

/// Reads parameters of type `T`, which refuses unknown names.
pub(super) fn read<T: DeserializeOwned>(params: &Map<String, Value>) -> Result<T, Problem> {
    serde_path_to_error::deserialize(Value::Object(camel_case(params))).map_err(|e| {
        let words = e.inner().to_string();
        Problem::new(path(e.path()), unknown(&words).unwrap_or(words))
    })
}

/// A path in our notation: keys with odd characters in brackets.
fn path(path: &serde_path_to_error::Path) -> String {
    let mut out = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => out.push_str(&format!("[{index}]")),
            Segment::Map { key } if key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') => {
                if !out.is_empty() {
                    out.push('.');
                }
                out.push_str(key);
            }
            Segment::Map { key } => out.push_str(&format!("[{key}]")),
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    out
}

/// serde's words for an unknown name, with the one that was probably meant. serde puts names between backquotes: first the
/// unknown one, then the known ones.
fn unknown(words: &str) -> Option<String> {
    let what = ["unknown field", "unknown variant"]
        .into_iter()
        .find(|what| words.starts_with(what))?;
    let mut names = words.split('`').skip(1).step_by(2);
    let name = names.next()?;
    let known: Vec<&str> = names.collect();
    let what = match what {
        "unknown field" => "unknown field".to_owned(),
        _ => format!("{name:?} is not one of the values of this field"),
    };
    let meant = nearest(name, known.iter().copied());
    Some(match meant {
        _ if known.is_empty() => format!("{what}; no field is known here"),
        Some(meant) => format!("{what}; did you mean {meant:?}?"),
        None => format!("{what}; known here are {}", known.join(", ")),
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
pub(super) fn integer<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
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
pub(super) fn expression<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::String(text) => Ok(text),
        Value::Null => Ok(String::new()),
        value @ (Value::Number(_) | Value::Bool(_)) => Ok(value.to_string()),
        Value::Array(_) | Value::Object(_) => Err(D::Error::custom("an expression is text")),
    }
}

/// A map of expressions.
pub(super) fn expressions<'de, D: Deserializer<'de>>(
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
