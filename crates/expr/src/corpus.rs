//! Cases of the language as data: one JSON object with an expression, attributes and what should come out. Used by
//! the crate's test and by the corpus runner.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Deserialize;
use serde_json::Value as Json;

use crate::attributes::{Bag, References};
use crate::check::Expression;
use crate::functions::parse_duration;
use crate::value::{Timestamp, Value, ValueType};
use crate::vocabulary::{Manifest, Vocabulary};

/// Sets of attributes by name: attribute to type.
pub type Manifests = BTreeMap<String, BTreeMap<String, ValueType>>;

/// One case.
#[derive(Clone, Debug, Deserialize)]
pub struct Case {
    /// The case's name.
    pub id: String,
    /// The expression.
    pub expr: String,
    /// The bag; typed values are objects with one of `duration`, `timestamp`, `ip`, `double`.
    #[serde(default)]
    pub attributes: BTreeMap<String, Json>,
    /// Which of the [`Manifests`] it is compiled against.
    pub manifest: String,
    /// The expression's type.
    #[serde(rename = "type")]
    pub ty: Option<ValueType>,
    /// The value.
    #[serde(default, deserialize_with = "some")]
    pub result: Option<Json>,
    /// The expression does not compile; the value is a hint at the reason.
    pub compile_error: Option<Json>,
    /// The expression has no value; the value is a hint at the reason.
    pub eval_error: Option<Json>,
    /// What is looked at, in any order.
    pub referenced: Option<Vec<String>>,
}

fn some<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Json>, D::Error> {
    Json::deserialize(deserializer).map(Some)
}

impl Case {
    /// Runs the case.
    ///
    /// # Errors
    /// What was expected and what was seen.
    pub fn run(&self, manifests: &Manifests) -> Result<(), String> {
        let Some(types) = manifests.get(&self.manifest) else {
            return Err(format!(
                "the case names the manifest {:?}, which does not exist",
                self.manifest
            ));
        };
        let manifest: Manifest = types.clone().into_iter().collect();
        let compiled = Expression::compile(&self.expr, &manifest);
        let expression = match (compiled, &self.compile_error) {
            (Err(_), Some(_)) => return Ok(()),
            (Err(error), None) => return Err(format!("expected it to compile, seen error: {error}")),
            (Ok(_), Some(hint)) => return Err(format!("expected a compile error like {hint}, seen none")),
            (Ok(expression), None) => expression,
        };
        if self.ty.is_some_and(|ty| ty != expression.ty()) {
            return Err(format!("expected type {:?}, seen {}", self.ty, expression.ty()));
        }
        let bag = self.bag(&manifest)?;
        let mut references = References::new();
        let evaluated = expression.eval_tracked(&bag, &mut references);
        match (evaluated, &self.eval_error, &self.result) {
            (Err(_), Some(_), _) => {}
            (Ok(value), Some(hint), _) => return Err(format!("expected an error like {hint}, seen {value}")),
            (Err(error), None, _) => return Err(format!("expected {:?}, seen error: {error}", self.result)),
            (Ok(value), None, Some(expected)) => same(expression.ty(), expected, &value)?,
            (Ok(_), None, None) => {}
        }
        self.check_references(&references)
    }

    fn bag(&self, manifest: &Manifest) -> Result<Bag, String> {
        let mut bag = Bag::default();
        for (name, json) in &self.attributes {
            match (json, typed(json)) {
                (Json::Object(entries), None) => {
                    let text = |v: &Json| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
                    bag.set_map(name, entries.iter().map(|(k, v)| (k.clone(), text(v))));
                }
                _ => {
                    let value = read(json, manifest.attribute(name));
                    bag.set(
                        name,
                        value.ok_or_else(|| format!("the case's value of {name} is not understood"))?,
                    );
                }
            }
        }
        Ok(bag)
    }

    fn check_references(&self, seen: &References) -> Result<(), String> {
        let Some(expected) = &self.referenced else {
            return Ok(());
        };
        let mut expected = expected.clone();
        expected.sort();
        let mut seen: Vec<String> = seen.iter().map(ToString::to_string).collect();
        seen.sort();
        if expected == seen {
            Ok(())
        } else {
            Err(format!("expected references {expected:?}, seen {seen:?}"))
        }
    }
}

/// A value written as an object with its type.
fn typed(json: &Json) -> Option<Value<'static>> {
    let object = json.as_object().filter(|object| object.len() == 1)?;
    let (key, value) = object.iter().next()?;
    match key.as_str() {
        "duration" => value.as_str().and_then(parse_duration).map(Value::Duration),
        "timestamp" => value.as_str().and_then(Timestamp::parse).map(Value::Timestamp),
        "ip" => value.as_str().and_then(|ip| ip.parse().ok()).map(Value::Ip),
        "double" => value.as_f64().map(Value::Double),
        _ => None,
    }
}

/// A scalar, read as type `ty` where it is known.
fn read(json: &Json, ty: Option<ValueType>) -> Option<Value<'static>> {
    if let Some(value) = typed(json) {
        return Some(value);
    }
    match json {
        Json::Bool(truth) => Some(Value::Bool(*truth)),
        Json::Number(n) if ty == Some(ValueType::Double) => n.as_f64().map(Value::Double),
        Json::Number(n) => n
            .as_i64()
            .map(Value::Int)
            .or_else(|| n.as_f64().map(Value::Double)),
        Json::String(text) => Some(Value::from(text.clone())),
        Json::Array(bytes) => address(bytes).map(Value::Ip),
        Json::Null | Json::Object(_) => None,
    }
}

fn address(bytes: &[Json]) -> Option<IpAddr> {
    let bytes: Vec<u8> = bytes
        .iter()
        .map(|b| b.as_u64().and_then(|b| u8::try_from(b).ok()))
        .collect::<Option<_>>()?;
    match <[u8; 4]>::try_from(bytes.as_slice()) {
        Ok(v4) => Some(v4.into()),
        Err(_) => <[u8; 16]>::try_from(bytes).ok().map(Into::into),
    }
}

fn same(ty: ValueType, expected: &Json, seen: &Value<'_>) -> Result<(), String> {
    let equal = match (seen, expected) {
        (Value::Map(map), Json::Object(entries)) => {
            let mut expected: Vec<_> = entries
                .iter()
                .map(|(k, v)| (k.as_str(), v.as_str().unwrap_or_default()))
                .collect();
            expected.sort_unstable();
            map.entries() == expected
        }
        _ => read(expected, Some(ty)).is_some_and(|expected| expected == *seen),
    };
    if equal {
        Ok(())
    } else {
        Err(format!("expected {expected}, seen {seen}"))
    }
}
