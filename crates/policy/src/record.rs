//! What an instance is for one request: the values of its template's fields.

use std::collections::BTreeMap;

use config::templates::{Record, Slot};
use expr::{Attributes, Expression};

use crate::datum::Datum;

/// The values of an instance's fields. A field that the instance does not fill is absent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fields(Vec<(String, FieldValue)>);

/// The value of a field.
#[derive(Clone, Debug, PartialEq)]
pub enum FieldValue {
    /// One value.
    One(Datum),
    /// Values by names of the user's own.
    Many(BTreeMap<String, Datum>),
    /// Fields of its own.
    Message(Fields),
}

impl Fields {
    /// All fields, in the template's order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &FieldValue)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// Bytes that they take in memory, about.
    pub fn size(&self) -> usize {
        let value = |value: &FieldValue| match value {
            FieldValue::One(datum) => datum.size(),
            FieldValue::Many(values) => values.iter().map(|(name, datum)| name.len() + datum.size()).sum(),
            FieldValue::Message(fields) => fields.size(),
        };
        self.iter().map(|(name, own)| name.len() + 64 + value(own)).sum()
    }

    fn find(&self, name: &str) -> Option<&FieldValue> {
        self.iter()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| value)
    }

    /// A field that holds one value.
    pub fn one(&self, name: &str) -> Option<&Datum> {
        match self.find(name)? {
            FieldValue::One(datum) => Some(datum),
            _ => None,
        }
    }

    /// A field's text; empty when the instance does not fill it.
    pub fn text(&self, name: &str) -> &str {
        self.one(name).and_then(Datum::as_text).unwrap_or_default()
    }

    /// Values by the user's names; empty when the instance does not fill the field.
    pub fn many(&self, name: &str) -> &BTreeMap<String, Datum> {
        static EMPTY: BTreeMap<String, Datum> = BTreeMap::new();
        match self.find(name) {
            Some(FieldValue::Many(values)) => values,
            _ => &EMPTY,
        }
    }

    /// A field with fields of its own.
    pub fn message(&self, name: &str) -> Option<&Fields> {
        match self.find(name)? {
            FieldValue::Message(fields) => Some(fields),
            _ => None,
        }
    }

    /// Of a field that holds time, its nanoseconds since the Unix epoch.
    pub fn time(&self, name: &str) -> Option<i64> {
        match self.one(name)? {
            Datum::Timestamp(at) => Some(at.0),
            _ => None,
        }
    }

    /// Of a field that holds an integer, that; 0 when the instance does not fill it.
    pub fn int(&self, name: &str) -> i64 {
        match self.one(name) {
            Some(Datum::Int(number)) => *number,
            _ => 0,
        }
    }

    /// Of a field that holds a truth, that; false when the instance does not fill it.
    pub fn bool(&self, name: &str) -> bool {
        self.one(name) == Some(&Datum::Bool(true))
    }

    /// Puts a value in; for tests and for templates that are not built in.
    pub fn set(&mut self, name: impl Into<String>, value: FieldValue) {
        self.0.push((name.into(), value));
    }
}

/// The values of a record's fields for a request. The error names the field that has none.
pub(crate) fn eval(record: &Record, bag: &dyn Attributes) -> Result<Fields, String> {
    let one = |(name, slot): &(String, Slot)| {
        eval_slot(slot, bag)
            .map(|value| (name.clone(), value))
            .map_err(|why| format!("{name}: {why}"))
    };
    record
        .slots()
        .iter()
        .map(one)
        .collect::<Result<_, _>>()
        .map(Fields)
}

fn eval_slot(slot: &Slot, bag: &dyn Attributes) -> Result<FieldValue, String> {
    let datum = |expression: &Expression| {
        let value = expression.eval(bag).map_err(|error| error.to_string())?;
        Ok::<_, String>(Datum::new(value, expression.ty()))
    };
    Ok(match slot {
        Slot::One(expression) => FieldValue::One(datum(expression)?),
        Slot::Many(expressions) => {
            let mut values = BTreeMap::new();
            for (name, expression) in expressions {
                let value = datum(expression).map_err(|why| format!("{name}: {why}"))?;
                values.insert(name.clone(), value);
            }
            FieldValue::Many(values)
        }
        Slot::Message(record) => FieldValue::Message(eval(record, bag)?),
    })
}

#[cfg(test)]
mod tests {
    use expr::{Bag, STANDARD};
    use serde_json::json;

    use super::*;

    #[expect(clippy::needless_pass_by_value, reason = "calls read better")]
    fn record(template: &str, params: serde_json::Value) -> Record {
        let params = params.as_object().unwrap();
        config::templates::read(template, params, &STANDARD).unwrap().1
    }

    #[test]
    fn values_of_a_request() {
        let params = json!({
            "subject": {"user": r#"request.headers["x-user"] | "nobody""#, "properties": {"n": "7"}},
            "action": {"path": "request.path | \"/\""},
        });
        let record = record("authorization", params);
        let fields = eval(&record, &Bag::default()).unwrap();
        let subject = fields.message("subject").unwrap();
        assert_eq!(subject.text("user"), "nobody");
        assert_eq!(subject.many("properties").get("n"), Some(&Datum::Int(7)));
        assert_eq!(fields.message("action").unwrap().text("path"), "/");
    }

    #[test]
    fn what_has_no_value_is_named() {
        let record = record("logentry", json!({"variables": {"who": "source.user"}}));
        let error = eval(&record, &Bag::default()).unwrap_err();
        assert!(error.starts_with("variables: who: "), "{error}");
    }
}
