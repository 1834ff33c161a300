//! Walks a value along a shape, reports what does not fit and gives what does.

use regex::Regex;
use serde_json::{Map, Number, Value};

use super::nearest::{replacement, some_names, suggestion};
use super::shape::{Bounds, Fields, Shape};
use crate::path::At;
use crate::yaml::camel_case;
use crate::{Duration, syntax};

/// The value as the shape has it; null, or what is no object, counts as an empty one.
pub(crate) fn object(shape: &Shape, value: Value, at: &At<'_>) -> Value {
    let empty = Value::Object(Map::new());
    match value.is_null() {
        true => conform(shape, empty, at),
        false => conform(shape, value, at),
    }
    .unwrap_or_else(|| Value::Object(Map::new()))
}

/// The value in its normal form, or none where it is absent (null) or wrong.
fn conform(shape: &Shape, value: Value, at: &At<'_>) -> Option<Value> {
    match (shape, value) {
        (Shape::Any, value) => Some(value),
        (_, Value::Null) => None,
        (Shape::Bool, Value::Bool(value)) => Some(Value::Bool(value)),
        (Shape::String(size, pattern), Value::String(text)) => {
            check_text(&text, *size, pattern.as_deref(), at);
            Some(Value::String(text))
        }
        (Shape::String(..), Value::Object(entries)) => match unquoted_ipv6(&entries) {
            Some(address) => {
                at.warning(format!(
                    "YAML reads {address} without quotes as a map; put it in quotes"
                ));
                Some(Value::String(address))
            }
            None => fail(at, mismatch(shape, &Value::Object(entries))),
        },
        (Shape::Duration, Value::String(text)) => match text.parse::<Duration>() {
            Ok(duration) => Some(Value::String(duration.to_string())),
            Err(error) => fail(at, error.to_string()),
        },
        (Shape::Number(low, high), Value::Number(number)) => {
            match number
                .as_f64()
                .is_some_and(|number| (low..=high).contains(&&number))
            {
                true => Some(Value::Number(number)),
                false => fail(at, out_of_range(&number, *low, *high)),
            }
        }
        (Shape::Integer(low, high), Value::Number(number)) => {
            let whole = number.as_i128().or_else(|| whole(number.as_f64()?));
            match whole.filter(|whole| (low..=high).contains(&whole)) {
                Some(whole) => Some(number_value(whole)),
                None => fail(at, format!("{number} is not a whole number from {low} to {high}")),
            }
        }
        // Numbers of 64 bits are strings in proto3's JSON, since not all programs can hold them as numbers.
        (Shape::Integer(low, high), Value::String(text)) if *high > i128::from(u32::MAX) => {
            match text
                .parse::<i128>()
                .ok()
                .filter(|whole| (low..=high).contains(&whole))
            {
                Some(whole) => Some(number_value(whole)),
                None => fail(at, format!("{text:?} is not a whole number from {low} to {high}")),
            }
        }
        (Shape::IntOrString, number @ Value::Number(_)) => {
            conform(&Shape::Integer(0, u32::MAX.into()), number, at)
        }
        (Shape::IntOrString, text @ Value::String(_)) => Some(text),
        (Shape::Enum(choices), Value::String(text)) => choice(choices, text, at),
        (Shape::List(item, size), Value::Array(items)) => {
            check_size(items.len(), *size, "items", at);
            Some(Value::Array(list(item, items, at)))
        }
        (Shape::Map(values, numbers, size), Value::Object(entries)) => {
            check_size(entries.len(), *size, "entries", at);
            Some(Value::Object(map(values, *numbers, entries, at)))
        }
        (Shape::Fields(known), Value::Object(entries)) => Some(Value::Object(fields(known, entries, at))),
        (shape, value) => fail(at, mismatch(shape, &value)),
    }
}

/// One of an enum's spellings.
fn choice(choices: &[Box<str>], text: String, at: &At<'_>) -> Option<Value> {
    if choices.iter().any(|choice| **choice == *text) {
        return Some(Value::String(text));
    }
    // Proto's value for "none given" is taken and never meant.
    let known: Vec<&str> = choices
        .iter()
        .map(|known| &**known)
        .filter(|known| *known != "INVALID")
        .collect();
    let help = suggestion(&text, known.iter().copied())
        .unwrap_or_else(|| format!("use one of {}", known.join(", ")));
    at.unusable(
        format!("{text:?} is not one of the values of this field"),
        Some(help),
    );
    None
}

fn check_text(text: &str, size: Bounds, pattern: Option<&Regex>, at: &At<'_>) {
    match text.is_empty() && size.min > 0 {
        true => at.error("must not be empty"),
        false => check_size(text.chars().count(), size, "characters", at),
    }
    if let Some(pattern) = pattern.filter(|pattern| !pattern.is_match(text)) {
        at.error(format!(
            "{:?} does not match {pattern}",
            text.chars().take(80).collect::<String>()
        ));
    }
}

fn check_size(size: usize, bounds: Bounds, what: &str, at: &At<'_>) {
    let size = size as u64;
    if size < bounds.min {
        at.error(format!("has {size} {what}, fewer than the {} needed", bounds.min));
    } else if size > bounds.max {
        at.error(format!("has {size} {what}, more than the {} allowed", bounds.max));
    }
}

fn out_of_range(number: &Number, low: f64, high: f64) -> String {
    match (low > f64::MIN, high < f64::MAX) {
        (true, true) => format!("{number} is not between {low} and {high}"),
        (true, false) => format!("{number} is less than {low}"),
        _ => format!("{number} is more than {high}"),
    }
}

/// The IPv6 address that ends in two colons which YAML read as a map from all but the last colon to nothing.
fn unquoted_ipv6(entries: &Map<String, Value>) -> Option<String> {
    let mut entries = entries.iter();
    let (key, value) = entries.next()?;
    let address = format!("{key}:");
    (value.is_null() && entries.next().is_none() && syntax::is_ipv6(&address)).then_some(address)
}

fn fail(at: &At<'_>, message: String) -> Option<Value> {
    at.unusable(message, None);
    None
}

/// A whole number written with a decimal point or an exponent.
fn whole(number: f64) -> Option<i128> {
    #[allow(
        clippy::cast_possible_truncation,
        reason = "the number is whole and within the range where f64 is exact"
    )]
    (number.fract() == 0.0 && number.abs() < 9e15).then_some(number as i128)
}

fn number_value(whole: i128) -> Value {
    match (i64::try_from(whole), u64::try_from(whole)) {
        (Ok(number), _) => Value::from(number),
        (_, Ok(number)) => Value::from(number),
        _ => Value::Null,
    }
}

/// A list's items. There is no place for null in a list or a map, as in Kubernetes' API.
fn list(shape: &Shape, items: Vec<Value>, at: &At<'_>) -> Vec<Value> {
    let items = items.into_iter().enumerate();
    items
        .filter_map(|(index, value)| present(shape, value, &at.index(index)))
        .collect()
}

fn present(shape: &Shape, value: Value, at: &At<'_>) -> Option<Value> {
    match (shape, &value) {
        (Shape::Any, _) => Some(value),
        (_, Value::Null) => fail(at, mismatch(shape, &value)),
        _ => conform(shape, value, at),
    }
}

fn map(shape: &Shape, numbers: bool, entries: Map<String, Value>, at: &At<'_>) -> Map<String, Value> {
    let entry = |(key, value): (String, Value)| {
        let value = {
            let at = at.key(&key);
            if numbers && key.parse::<u32>().is_err() {
                at.error(format!("{key:?} is not a number, as keys of this map are"));
                return None;
            }
            present(shape, value, &at)?
        };
        Some((key, value))
    };
    entries.into_iter().filter_map(entry).collect()
}

fn fields(known: &Fields, entries: Map<String, Value>, at: &At<'_>) -> Map<String, Value> {
    let mut seen = Map::with_capacity(entries.len());
    let mut given: Vec<&str> = Vec::with_capacity(entries.len());
    // Null counts here, as in the definitions' schema.
    let mut chosen: Vec<&str> = Vec::new();
    for (name, value) in entries {
        let field = at.key(&name);
        let found = match known.fields.get_key_value(name.as_str()) {
            Some(found) => Some(found),
            None => known.fields.get_key_value(camel_case(&name).as_str()),
        };
        let Some((canonical, shape)) = found else {
            if !known.open {
                unknown(&name, known, &field);
            }
            continue;
        };
        if known.exclusive.iter().flatten().any(|name| name == canonical) {
            chosen.push(canonical);
        }
        if value.is_null() {
            // Kubernetes has no enum that takes null.
            if let Shape::Enum(choices) = shape {
                fail(
                    &field,
                    format!("is empty; remove it or use one of {}", choices.join(", ")),
                );
            }
            continue;
        }
        given.push(canonical);
        let Some(value) = conform(shape, value, &field) else {
            continue;
        };
        if seen.contains_key(&**canonical) {
            field.error("given twice, in camelCase and in snake_case; keep one of them");
        }
        let key = if *name == **canonical {
            name
        } else {
            canonical.to_string()
        };
        seen.insert(key, value);
    }
    for name in known.required.iter().filter(|name| !given.contains(&&***name)) {
        at.key(name).unusable("this field is required", None);
    }
    for group in &known.exclusive {
        let given: Vec<&str> = group
            .iter()
            .map(AsRef::as_ref)
            .filter(|name: &&str| chosen.contains(name))
            .collect();
        if given.len() > 1 {
            at.error(format!(
                "{} exclude one another; keep one of them",
                given.join(" and ")
            ));
        }
    }
    seen
}

fn unknown(name: &str, known: &Fields, at: &At<'_>) {
    if let Some(help) = replacement(&camel_case(name)) {
        return at.error_help("this field is no longer in the API", help);
    }
    let message = "unknown field";
    match suggestion(name, known.fields.keys().map(AsRef::as_ref)) {
        Some(help) => at.error_help(message, help),
        None if known.fields.is_empty() => at.error_help(message, "no field is known here"),
        None => at.error_help(message, some_names(name, known.fields.keys().map(AsRef::as_ref))),
    }
}

/// Words for a value of the wrong type.
fn mismatch(shape: &Shape, value: &Value) -> String {
    let wanted = match shape {
        Shape::Any => "a value",
        Shape::Bool => "true or false",
        Shape::String(..) => "a text",
        Shape::Duration => "a duration such as 5s",
        Shape::Number(..) => "a number",
        Shape::Integer(..) => "a whole number",
        Shape::IntOrString => "a number or a text",
        Shape::Enum(_) => "a name",
        Shape::List(..) => "a list",
        Shape::Map(..) => "a map",
        Shape::Fields(_) => "a map of fields",
    };
    let seen = match value {
        Value::Null => "nothing".to_owned(),
        Value::Bool(value) => format!("the boolean {value}"),
        Value::Number(value) => format!("the number {value}"),
        Value::String(text) => format!("the text {:?}", text.chars().take(40).collect::<String>()),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a map".to_owned(),
    };
    let hint = match (shape, value) {
        (Shape::String(..) | Shape::Enum(_) | Shape::Duration, Value::Bool(_) | Value::Number(_)) => {
            "; put it in quotes"
        }
        (Shape::Integer(..) | Shape::Number(..) | Shape::Bool, Value::String(_)) => {
            "; write it without quotes"
        }
        _ => "",
    };
    format!("must be {wanted}, not {seen}{hint}")
}
