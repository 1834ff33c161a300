//! A type's structure, compiled from its JSON schema into what checking needs.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::duration;

/// Longest chain of references in a schema; the API's types are not recursive.
const MAX_DEPTH: usize = 32;

/// The structure of a value.
#[derive(Clone, Debug)]
pub(crate) enum Shape {
    Any,
    Bool,
    String,
    Duration,
    Number,
    /// A whole number in a range.
    Integer(i128, i128),
    IntOrString,
    Enum(Arc<[Box<str>]>),
    List(Arc<Shape>),
    /// A map; the flag says that keys are numbers.
    Map(Arc<Shape>, bool),
    Fields(Arc<Fields>),
}

/// The structure of an object with known fields.
#[derive(Debug)]
pub(crate) struct Fields {
    pub(crate) fields: BTreeMap<Box<str>, Shape>,
    /// Sets of fields of which at most one may be given.
    pub(crate) exclusive: Vec<Vec<Box<str>>>,
    /// Whether unknown fields are somebody else's business.
    pub(crate) open: bool,
}

impl Shape {
    /// The shape that a schema describes; `open` says whether unknown fields are left alone.
    pub(crate) fn of(schema: &schemars::Schema, open: bool) -> Self {
        let schema = schema.as_value();
        let empty = Map::new();
        let definitions = schema.get("$defs").and_then(Value::as_object).unwrap_or(&empty);
        Compiler { definitions, open }.compile(schema, MAX_DEPTH)
    }
}

struct Compiler<'a> {
    definitions: &'a Map<String, Value>,
    open: bool,
}

impl Compiler<'_> {
    fn compile(&self, schema: &Value, depth: usize) -> Shape {
        let Some(depth) = depth.checked_sub(1) else {
            return Shape::Any;
        };
        if let Some(target) = self.target(schema) {
            return self.compile(target, depth);
        }
        if let Some(choices) = choices(schema) {
            return Shape::Enum(choices);
        }
        if let Some(options) = schema.get("anyOf").and_then(Value::as_array) {
            return self.any_of(options, depth);
        }
        match type_name(schema) {
            Some("boolean") => Shape::Bool,
            Some("number") => Shape::Number,
            Some("integer") => integer(schema),
            Some("string") if format(schema) == Some(duration::FORMAT) => Shape::Duration,
            Some("string") => Shape::String,
            Some("array") => Shape::List(Arc::new(
                self.compile(schema.get("items").unwrap_or(&Value::Null), depth),
            )),
            Some("object") => self.object(schema, depth),
            _ => Shape::Any,
        }
    }

    fn target(&self, schema: &Value) -> Option<&Value> {
        let name = schema.get("$ref")?.as_str()?.strip_prefix("#/$defs/")?;
        self.definitions.get(name)
    }

    /// `Option` of a type, or the one untagged enum of the API, `IntOrString`.
    fn any_of(&self, options: &[Value], depth: usize) -> Shape {
        let mut real = options.iter().filter(|option| type_name(option) != Some("null"));
        match (real.next(), real.next()) {
            (Some(only), None) => self.compile(only, depth),
            (Some(_), Some(_)) => Shape::IntOrString,
            _ => Shape::Any,
        }
    }

    fn object(&self, schema: &Value, depth: usize) -> Shape {
        if let Some(patterns) = schema.get("patternProperties").and_then(Value::as_object) {
            let values = patterns.values().next().unwrap_or(&Value::Null);
            return Shape::Map(Arc::new(self.compile(values, depth)), true);
        }
        if let Some(values) = schema
            .get("additionalProperties")
            .filter(|more| **more != Value::Bool(false))
        {
            return Shape::Map(Arc::new(self.compile(values, depth)), false);
        }
        let properties = schema.get("properties").and_then(Value::as_object);
        let fields = properties.into_iter().flatten();
        let fields = fields
            .map(|(name, schema)| (name.as_str().into(), self.compile(schema, depth)))
            .collect();
        Shape::Fields(Arc::new(Fields {
            fields,
            exclusive: exclusive(schema),
            open: self.open,
        }))
    }
}

/// The type, `null` left aside.
fn type_name(schema: &Value) -> Option<&str> {
    match schema.get("type")? {
        Value::String(name) => Some(name),
        Value::Array(names) => names
            .iter()
            .filter_map(Value::as_str)
            .find(|name| *name != "null"),
        _ => None,
    }
}

fn format(schema: &Value) -> Option<&str> {
    schema.get("format")?.as_str()
}

fn integer(schema: &Value) -> Shape {
    match format(schema) {
        Some("int32") => Shape::Integer(i32::MIN.into(), i32::MAX.into()),
        Some("uint32") => Shape::Integer(0, u32::MAX.into()),
        Some("uint64") => Shape::Integer(0, u64::MAX.into()),
        _ => Shape::Integer(i64::MIN.into(), i64::MAX.into()),
    }
}

/// An enum's spellings: `enum: […]`, or `oneOf` with a constant each where variants are described.
fn choices(schema: &Value) -> Option<Arc<[Box<str>]>> {
    let from_enum = |value: &Value| -> Option<Vec<Box<str>>> {
        value
            .get("enum")?
            .as_array()?
            .iter()
            .map(|v| v.as_str().map(Into::into))
            .collect()
    };
    if let Some(choices) = from_enum(schema) {
        return Some(choices.into());
    }
    let mut choices = Vec::new();
    for option in schema.get("oneOf")?.as_array()? {
        match option.get("const").and_then(Value::as_str) {
            Some(choice) => choices.push(choice.into()),
            None => choices.extend(from_enum(option)?),
        }
    }
    Some(choices.into())
}

fn exclusive(schema: &Value) -> Vec<Vec<Box<str>>> {
    let groups = schema
        .get("x-oneof")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    groups
        .filter_map(Value::as_array)
        .map(|group| group.iter().filter_map(Value::as_str).map(Into::into).collect())
        .collect()
}
