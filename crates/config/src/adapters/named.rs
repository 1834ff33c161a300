//! Enums of parameters: given by name or by the number of Istio's `.proto`, as protobuf's JSON has both. Knows no adapter.

use serde::de::Error;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::structure::nearest;

/// A value of an enum: its name, its number, what it stands for.
pub(super) type Named<T> = (&'static str, i64, T);

/// Reads one of `values`; `null` is the value of number 0.
pub(super) fn read<'de, T: Copy, D: Deserializer<'de>>(
    deserializer: D,
    values: &[Named<T>],
) -> Result<T, D::Error> {
    let given = Value::deserialize(deserializer)?;
    let number = match &given {
        Value::Null => Some(0),
        given => given.as_i64(),
    };
    let found = match &given {
        Value::String(name) => values.iter().find(|(known, ..)| known == name),
        _ => values.iter().find(|(_, known, _)| Some(*known) == number),
    };
    match found {
        Some((.., value)) => Ok(*value),
        None => Err(D::Error::custom(refusal(&given, values))),
    }
}

fn refusal<T>(given: &Value, values: &[Named<T>]) -> String {
    let names = || values.iter().map(|(name, ..)| *name);
    let all: Vec<String> = values
        .iter()
        .map(|(name, number, _)| format!("{name} ({number})"))
        .collect();
    let meant = given.as_str().and_then(|name| nearest(name, names()));
    let hint = meant.map_or_else(String::new, |meant| format!("; did you mean {meant:?}?"));
    format!("{given} is not one of {}{hint}", all.join(", "))
}

/// Lets an enum be read by its names and numbers.
macro_rules! named {
    ($type:ty { $($name:literal = $number:literal => $value:ident),+ $(,)? }) => {
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                super::named::read(deserializer, &[$(($name, $number, Self::$value)),+])
            }
        }
    };
}
pub(super) use named;
