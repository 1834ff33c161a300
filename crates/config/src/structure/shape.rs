//! A type's structure, compiled from its JSON schema into what checking needs.

use std::collections::BTreeMap;
use std::sync::Arc;

use regex::Regex;
use serde_json::{Map, Value};

use crate::duration;

/// Longest chain of references in a schema; the API's types are not recursive.
const MAX_DEPTH: usize = 32;

/// The structure of a value.
#[derive(Clone, Debug)]
pub(crate) enum Shape {
    Any,
    Bool,
    String(Bounds, Option<Arc<Regex>>),
    Duration,
    /// A number in a range.
    Number(f64, f64),
    /// A whole number in a range.
    Integer(i128, i128),
    IntOrString,
    Enum(Arc<[Box<str>]>),
    List(Arc<Shape>, Bounds),
    /// A map; the flag says that keys are numbers.
    Map(Arc<Shape>, bool, Bounds),
    Fields(Arc<Fields>),
}

/// How long a text, a list or a map may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) min: u64,
    pub(crate) max: u64,
}

/// The structure of an object with known fields.
#[derive(Debug)]
pub(crate) struct Fields {
    pub(crate) fields: BTreeMap<Box<str>, Shape>,
    /// Fields that must be given.
    pub(crate) required: Vec<Box<str>>,
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
            Some("number") => number(schema),
            Some("integer") => integer(schema),
            Some("string") if format(schema) == Some(duration::FORMAT) => Shape::Duration,
            Some("string") => Shape::String(bounds(schema, "minLength", "maxLength"), pattern(schema)),
            Some("array") => {
                let item = self.compile(schema.get("items").unwrap_or(&Value::Null), depth);
                Shape::List(Arc::new(item), bounds(schema, "minItems", "maxItems"))
            }
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
        let size = bounds(schema, "minProperties", "maxProperties");
        if let Some(patterns) = schema.get("patternProperties").and_then(Value::as_object) {
            let values = patterns.values().next().unwrap_or(&Value::Null);
            return Shape::Map(Arc::new(self.compile(values, depth)), true, size);
        }
        if let Some(values) = schema
            .get("additionalProperties")
            .filter(|more| **more != Value::Bool(false))
        {
            return Shape::Map(Arc::new(self.compile(values, depth)), false, size);
        }
        let properties = schema
            .get("properties")
            .and_then(Value::as_object)
            .into_iter()
            .flatten();
        let fields = properties
            .map(|(name, schema)| (name.as_str().into(), self.compile(schema, depth)))
            .collect();
        let exclusive = schema
            .get("x-oneof")
            .and_then(Value::as_array)
            .into_iter()
            .flatten();
        Shape::Fields(Arc::new(Fields {
            fields,
            required: schema.get("required").map(texts).unwrap_or_default(),
            exclusive: exclusive.map(texts).collect(),
            open: self.open,
        }))
    }
}

/// The type, `null` left aside.
pub(crate) fn type_name(schema: &Value) -> Option<&str> {
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

/// The texts of a list.
fn texts(list: &Value) -> Vec<Box<str>> {
    list.as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(Into::into)
        .collect()
}

fn bounds(schema: &Value, min: &str, max: &str) -> Bounds {
    let bound = |name: &str| schema.get(name).and_then(Value::as_u64);
    Bounds {
        min: bound(min).unwrap_or(0),
        max: bound(max).unwrap_or(u64::MAX),
    }
}

fn pattern(schema: &Value) -> Option<Arc<Regex>> {
    let pattern = schema.get("pattern")?.as_str()?;
    Regex::new(pattern).ok().map(Arc::new)
}

fn number(schema: &Value) -> Shape {
    let bound = |name: &str| schema.get(name).and_then(Value::as_f64);
    Shape::Number(
        bound("minimum").unwrap_or(f64::MIN),
        bound("maximum").unwrap_or(f64::MAX),
    )
}

fn integer(schema: &Value) -> Shape {
    let (low, high) = match format(schema) {
        Some("int32") => (i32::MIN.into(), i32::MAX.into()),
        Some("uint32") => (0, u32::MAX.into()),
        Some("uint64") => (0, u64::MAX.into()),
        _ => (i64::MIN.into(), i64::MAX.into()),
    };
    let bound = |name: &str| {
        schema
            .get(name)
            .and_then(Value::as_number)
            .and_then(serde_json::Number::as_i128)
    };
    Shape::Integer(
        bound("minimum").unwrap_or(low).max(low),
        bound("maximum").unwrap_or(high).min(high),
    )
}

/// An enum's spellings: `enum: […]`, or `oneOf` with a constant each where variants are described.
pub(crate) fn choices(schema: &Value) -> Option<Arc<[Box<str>]>> {
    if let Some(choices) = schema.get("enum") {
        return Some(texts(choices).into());
    }
    let mut choices = Vec::new();
    for option in schema.get("oneOf")?.as_array()? {
        match option.get("const").and_then(Value::as_str) {
            Some(choice) => choices.push(choice.into()),
            None => choices.extend(texts(option.get("enum")?)),
        }
    }
    Some(choices.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Kind, Spec};

    /// Walks a shape; `visit` sees each part.
    fn walk(shape: &Shape, visit: &mut impl FnMut(&Shape)) {
        visit(shape);
        match shape {
            Shape::List(item, _) => walk(item, visit),
            Shape::Map(value, _, _) => walk(value, visit),
            Shape::Fields(fields) => fields.fields.values().for_each(|field| walk(field, visit)),
            _ => {}
        }
    }

    #[test]
    fn required_and_exclusive_fields_exist() {
        for &kind in Kind::ALL {
            walk(&Shape::of(&Spec::schema(kind), false), &mut |shape| {
                let Shape::Fields(fields) = shape else { return };
                for name in fields.required.iter().chain(fields.exclusive.iter().flatten()) {
                    assert!(
                        fields.fields.contains_key(name),
                        "{kind}: {name} of {:?}",
                        fields.fields.keys()
                    );
                }
            });
        }
    }

    #[test]
    fn patterns_compile() {
        for &kind in Kind::ALL {
            let text = Spec::schema(kind).to_value().to_string();
            let schema: Value = serde_json::from_str(&text).unwrap();
            let mut stack = vec![&schema];
            while let Some(value) = stack.pop() {
                if let Some(text) = value.get("pattern").and_then(Value::as_str) {
                    Regex::new(text).unwrap();
                }
                stack.extend(value.as_object().into_iter().flat_map(|map| map.values()));
                stack.extend(value.as_array().into_iter().flatten());
            }
        }
    }
}
