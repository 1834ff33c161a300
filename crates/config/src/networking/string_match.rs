//! `StringMatch`, the API's oneof of exact, prefix and regex.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use crate::api::api;

/// How a string is compared. In JSON one of `{exact: …}`, `{prefix: …}`, `{regex: …}`, or `{}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "StringMatchFields", into = "StringMatchFields")]
pub enum StringMatch {
    /// No comparison given: for a header or query parameter that it is present.
    #[default]
    Any,
    /// The whole value.
    Exact(String),
    /// The value's beginning.
    Prefix(String),
    /// RE2 expression over the whole value.
    Regex(String),
}

api! {
    /// The JSON form of a [`StringMatch`].
    #[schemars(extend("x-oneof" = [["exact", "prefix", "regex"]]))]
    pub struct StringMatchFields {
        exact: Option<String>,
        prefix: Option<String>,
        regex: Option<String>,
    }
}

impl From<StringMatchFields> for StringMatch {
    fn from(fields: StringMatchFields) -> Self {
        match (fields.exact, fields.prefix, fields.regex) {
            (Some(exact), _, _) => Self::Exact(exact),
            (_, Some(prefix), _) => Self::Prefix(prefix),
            (_, _, Some(regex)) => Self::Regex(regex),
            _ => Self::Any,
        }
    }
}

impl From<StringMatch> for StringMatchFields {
    fn from(value: StringMatch) -> Self {
        match value {
            StringMatch::Any => Self::default(),
            StringMatch::Exact(exact) => Self {
                exact: Some(exact),
                ..Self::default()
            },
            StringMatch::Prefix(prefix) => Self {
                prefix: Some(prefix),
                ..Self::default()
            },
            StringMatch::Regex(regex) => Self {
                regex: Some(regex),
                ..Self::default()
            },
        }
    }
}

impl JsonSchema for StringMatch {
    fn schema_name() -> Cow<'static, str> {
        "StringMatch".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        StringMatchFields::json_schema(generator)
    }
}
