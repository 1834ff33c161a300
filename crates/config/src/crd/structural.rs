//! A type's JSON schema in the form that CustomResourceDefinitions take: "structural" (apiextensions.k8s.io/v1), so each
//! value has one type, references are written out, and what is free-form says so.

use serde_json::{Map, Value, json};

use crate::cel;
use crate::duration::FORMAT;
use crate::structure::{choices, type_name};

/// Most levels of a type; the API's types are not recursive.
const MAX_DEPTH: usize = 32;

/// Keywords that mean the same in both forms.
const KEPT: &[&str] = &[
    "minLength",
    "maxLength",
    "pattern",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
    "minimum",
    "maximum",
];

/// The structural form of a schema.
pub(super) fn schema(schema: &schemars::Schema) -> Map<String, Value> {
    let schema = schema.as_value();
    let empty = Map::new();
    let definitions = schema.get("$defs").and_then(Value::as_object).unwrap_or(&empty);
    Writer { definitions }.value(schema, Level::default())
}

/// How deep in a type a value is, and in how many lists or maps.
#[derive(Clone, Copy, Default)]
struct Level {
    depth: usize,
    lists: usize,
}

impl Level {
    fn listed(self) -> Self {
        Self {
            lists: self.lists + 1,
            ..self
        }
    }
}

struct Writer<'a> {
    definitions: &'a Map<String, Value>,
}

impl Writer<'_> {
    /// A value's schema. What is said where a type is used comes before what is said of the type.
    fn value(&self, used: &Value, level: Level) -> Map<String, Value> {
        if level.depth >= MAX_DEPTH {
            return free();
        }
        let level = Level {
            depth: level.depth + 1,
            ..level
        };
        let (target, several) = self.target(used);
        let mut out = Map::new();
        let description = [used, target]
            .into_iter()
            .find_map(|part| part.get("description"));
        if let Some(text) = description.and_then(Value::as_str) {
            out.insert("description".into(), text.replace('\n', " ").into());
        }
        out.extend(match several {
            true => integer_or_text(),
            false => self.typed(target, level),
        });
        let parts: &[&Value] = if std::ptr::eq(used, target) {
            &[used]
        } else {
            &[target, used]
        };
        for part in parts {
            extensions(part, &mut out);
        }
        out
    }

    /// What a reference or an `Option` stands for, and whether it is one of several types.
    fn target<'a>(&'a self, mut schema: &'a Value) -> (&'a Value, bool) {
        for _ in 0..MAX_DEPTH {
            let named = schema.get("$ref").and_then(Value::as_str);
            if let Some(target) = named
                .and_then(|name| name.strip_prefix("#/$defs/"))
                .and_then(|name| self.definitions.get(name))
            {
                schema = target;
                continue;
            }
            let options = schema
                .get("anyOf")
                .and_then(Value::as_array)
                .into_iter()
                .flatten();
            let mut real = options.filter(|option| type_name(option) != Some("null"));
            match (real.next(), real.next()) {
                (Some(only), None) => schema = only,
                (Some(_), Some(_)) => return (schema, true),
                _ => return (schema, false),
            }
        }
        (schema, false)
    }

    fn typed(&self, schema: &Value, level: Level) -> Map<String, Value> {
        let mut out = Map::new();
        if let Some(choices) = choices(schema) {
            out.insert("type".into(), "string".into());
            out.insert(
                "enum".into(),
                choices.iter().map(AsRef::as_ref).collect::<Vec<&str>>().into(),
            );
            return out;
        }
        let Some(name) = type_name(schema) else {
            return free();
        };
        if name == "integer" {
            return integer(schema);
        }
        out.insert("type".into(), name.into());
        for key in KEPT {
            if let Some(value) = schema.get(*key) {
                out.insert((*key).into(), value.clone());
            }
        }
        match name {
            "string" if schema.get("format").and_then(Value::as_str) == Some(FORMAT) => {
                out.extend([duration(level.lists)]);
            }
            "number" => {
                out.insert("format".into(), "double".into());
            }
            "array" => {
                let items = self.value(schema.get("items").unwrap_or(&Value::Null), level.listed());
                out.insert("items".into(), items.into());
            }
            "object" => self.object(schema, &mut out, level),
            _ => {}
        }
        out
    }

    fn object(&self, schema: &Value, out: &mut Map<String, Value>, level: Level) {
        let numbered = schema.get("patternProperties").and_then(Value::as_object);
        let values = numbered
            .and_then(|patterns| patterns.values().next())
            .or_else(|| {
                schema
                    .get("additionalProperties")
                    .filter(|more| **more != Value::Bool(false))
            });
        match values {
            Some(Value::Bool(_)) => {
                out.insert("x-kubernetes-preserve-unknown-fields".into(), true.into());
            }
            Some(values) => {
                out.insert(
                    "additionalProperties".into(),
                    self.value(values, level.listed()).into(),
                );
            }
            None => self.fields(schema, out, level),
        }
    }

    fn fields(&self, schema: &Value, out: &mut Map<String, Value>, level: Level) {
        let required = texts(schema.get("required"));
        let known = schema.get("properties").and_then(Value::as_object);
        let mut properties = Map::new();
        for (name, schema) in known.into_iter().flatten() {
            let mut value = self.value(schema, level);
            if !required.contains(&name.as_str()) {
                nullable(&mut value);
            }
            properties.insert(name.clone(), value.into());
        }
        // A spelling that Istio's definitions keep beside the usual one.
        for pair in schema
            .get("x-also")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            if let [name, also] = texts(Some(pair)).as_slice()
                && let Some(value) = properties.get(*name).cloned()
            {
                properties.insert((*also).to_owned(), value);
            }
        }
        if !properties.is_empty() {
            out.insert("properties".into(), properties.into());
        }
        if !required.is_empty() {
            out.insert("required".into(), required.into());
        }
        let groups = schema.get("x-oneof").and_then(Value::as_array);
        let mut groups: Vec<Value> = groups
            .into_iter()
            .flatten()
            .map(|group| exclusive(&texts(Some(group))))
            .collect();
        match groups.len() {
            0 => {}
            1 => out.extend(
                groups
                    .pop()
                    .and_then(|group| group.as_object().cloned())
                    .unwrap_or_default(),
            ),
            _ => {
                out.insert("allOf".into(), groups.into());
            }
        }
    }
}

/// Anything.
fn free() -> Map<String, Value> {
    Map::from_iter([("x-kubernetes-preserve-unknown-fields".to_owned(), true.into())])
}

fn integer_or_text() -> Map<String, Value> {
    Map::from_iter([
        ("x-kubernetes-int-or-string".to_owned(), true.into()),
        (
            "anyOf".to_owned(),
            json!([{"type": "integer"}, {"type": "string"}]),
        ),
    ])
}

/// An absent field may be written as null, as in protobuf's JSON. Kubernetes knows no enum that takes null.
fn nullable(value: &mut Map<String, Value>) {
    if !value.contains_key("enum") {
        value.insert("nullable".into(), true.into());
    }
}

/// A whole number. Those of 64 bits may be texts, as in protobuf's JSON.
fn integer(schema: &Value) -> Map<String, Value> {
    let format = schema.get("format").and_then(Value::as_str).unwrap_or("int64");
    let bound = |name: &str, of_format: i64| {
        let given = schema.get(name).and_then(Value::as_i64);
        given.unwrap_or(of_format)
    };
    if !matches!(format, "int32" | "uint32") {
        let mut out = integer_or_text();
        out.insert("pattern".into(), "^[+-]?[0-9]+$".into());
        if let Some(least) = schema.get("minimum") {
            out.insert("minimum".into(), least.clone());
        }
        return out;
    }
    let mut out = Map::from_iter([
        ("type".to_owned(), "integer".into()),
        ("format".to_owned(), "int64".into()),
    ]);
    let (low, high) = match format {
        "int32" => (i64::from(i32::MIN), i64::from(i32::MAX)),
        _ => (0, i64::from(u32::MAX)),
    };
    out.insert("minimum".into(), bound("minimum", low).max(low).into());
    out.insert("maximum".into(), bound("maximum", high).min(high).into());
    out
}

/// The notation of durations. A rule has the better words, but what rules may cost is bounded for a whole definition, and
/// the estimate grows with each list around.
fn duration(lists: usize) -> (String, Value) {
    match lists {
        0 | 1 => (
            "x-kubernetes-validations".to_owned(),
            cel::rules(&[(
                "duration(self) >= duration('0s')",
                "must be a duration such as 5s, 250ms or 1h30m",
            )]),
        ),
        _ => (
            "pattern".to_owned(),
            r"^[-+]?(0|(([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+)$".into(),
        ),
    }
}

/// At most one of the fields.
fn exclusive(names: &[&str]) -> Value {
    let given: Vec<Value> = names.iter().map(|name| json!({"required": [name]})).collect();
    let mut choices = vec![json!({"not": {"anyOf": given}})];
    choices.extend(given);
    json!({"oneOf": choices})
}

/// Kubernetes' own extensions; rules of type and use add up.
fn extensions(schema: &Value, out: &mut Map<String, Value>) {
    let all = schema.as_object().into_iter().flatten();
    for (key, value) in all.filter(|(key, _)| key.starts_with("x-kubernetes-")) {
        match (out.get_mut(key), value) {
            (Some(Value::Array(rules)), Value::Array(more)) => rules.extend(more.iter().cloned()),
            _ => {
                out.insert(key.clone(), value.clone());
            }
        }
    }
}

/// The texts of a list.
fn texts(list: Option<&Value>) -> Vec<&str> {
    list.and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}
