//! A template's fields filled with expressions, checked against the template's table, and their values for one request.

use std::collections::BTreeMap;

use expr::{Attributes, Expression, Use, ValueType, Vocabulary};
use serde_json::{Map, Value};

use crate::datum::Datum;
use crate::params::{self, Problem};
use crate::schema::{Field, FieldType};

/// Most names in one map of values.
const MAX_VALUES: usize = 1000;

/// The expressions of an instance, by field.
#[derive(Clone, Debug, Default)]
pub(crate) struct Record(Vec<(String, Slot)>);

#[derive(Clone, Debug)]
enum Slot {
    One(Expression),
    Many(BTreeMap<String, Expression>),
    Message(Record),
}

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

impl Record {
    /// Reads `params` by the table of a template. Names may be in snake_case.
    pub(crate) fn new(
        fields: &[Field],
        params: &Map<String, Value>,
        vocabulary: &dyn Vocabulary,
    ) -> Result<Self, Problem> {
        let params: BTreeMap<String, &Value> = params
            .iter()
            .map(|(name, value)| (params::camel(name), value))
            .collect();
        if let Some(name) = params.keys().find(|name| {
            // Istio's own form writes an instance's bindings beside its fields.
            *name != "attributeBindings" && !fields.iter().any(|field| field.name == name.as_str())
        }) {
            let known: Vec<&str> = fields.iter().map(|field| field.name).collect();
            return Err(Problem::new(
                name.clone(),
                match known.is_empty() {
                    true => "the template has no fields".to_owned(),
                    false => format!("unknown field; the template has {}", known.join(", ")),
                },
            ));
        }
        let mut slots = Vec::new();
        for field in fields {
            match params.get(field.name).filter(|value| !value.is_null()) {
                Some(value) => {
                    let slot = slot(field, value, vocabulary).map_err(|problem| problem.below(field.name))?;
                    slots.extend(slot.map(|slot| (field.name.to_owned(), slot)));
                }
                None if field.required => {
                    return Err(Problem::new(field.name, "is empty; write an expression"));
                }
                None => {}
            }
        }
        Ok(Self(slots))
    }

    /// The expression of a field that takes one value.
    pub(crate) fn one(&self, name: &str) -> Option<&Expression> {
        self.0.iter().find_map(|(known, slot)| match slot {
            Slot::One(expression) if known == name => Some(expression),
            _ => None,
        })
    }

    /// The expressions of a field that takes values by name.
    pub(crate) fn many(&self, name: &str) -> BTreeMap<String, Expression> {
        let found = self.0.iter().find_map(|(known, slot)| match slot {
            Slot::Many(expressions) if known == name => Some(expressions.clone()),
            _ => None,
        });
        found.unwrap_or_default()
    }

    /// All attributes that the expressions read.
    pub(crate) fn uses(&self) -> Vec<Use> {
        let mut uses = Vec::new();
        for (_, slot) in &self.0 {
            match slot {
                Slot::One(expression) => uses.extend(expression.uses()),
                Slot::Many(expressions) => uses.extend(expressions.values().flat_map(Expression::uses)),
                Slot::Message(record) => uses.extend(record.uses()),
            }
        }
        uses
    }

    /// The values for a request. The error names the field that has none.
    pub(crate) fn eval(&self, bag: &dyn Attributes) -> Result<Fields, String> {
        let one = |(name, slot): &(String, Slot)| {
            slot.eval(bag)
                .map(|value| (name.clone(), value))
                .map_err(|why| format!("{name}: {why}"))
        };
        self.0.iter().map(one).collect::<Result<_, _>>().map(Fields)
    }
}

impl Slot {
    fn eval(&self, bag: &dyn Attributes) -> Result<FieldValue, String> {
        let datum = |expression: &Expression| {
            let value = expression.eval(bag).map_err(|error| error.to_string())?;
            Ok::<_, String>(Datum::new(value, expression.ty()))
        };
        Ok(match self {
            Self::One(expression) => FieldValue::One(datum(expression)?),
            Self::Many(expressions) => {
                let mut values = BTreeMap::new();
                for (name, expression) in expressions {
                    let value = datum(expression).map_err(|why| format!("{name}: {why}"))?;
                    values.insert(name.clone(), value);
                }
                FieldValue::Many(values)
            }
            Self::Message(record) => FieldValue::Message(record.eval(bag)?),
        })
    }
}

/// `None` for an empty expression of a field that may be left out.
fn slot(field: &Field, given: &Value, vocabulary: &dyn Vocabulary) -> Result<Option<Slot>, Problem> {
    Ok(Some(match field.ty {
        FieldType::Values => Slot::Many(values(given, vocabulary)?),
        FieldType::Message(fields) => {
            let params = given
                .as_object()
                .ok_or_else(|| Problem::new("", "must be an object"))?;
            Slot::Message(Record::new(fields, params, vocabulary)?)
        }
        ty => {
            let text = text(given)?;
            if text.trim().is_empty() && !field.required {
                return Ok(None);
            }
            let expression = compile(&text, vocabulary)?;
            check(ty, expression.ty())?;
            Slot::One(expression)
        }
    }))
}

fn values(given: &Value, vocabulary: &dyn Vocabulary) -> Result<BTreeMap<String, Expression>, Problem> {
    let map = given
        .as_object()
        .ok_or_else(|| Problem::new("", "must be a map of expressions"))?;
    if map.len() > MAX_VALUES {
        let message = format!("has {} entries, more than {MAX_VALUES}", map.len());
        return Err(Problem::new("", message));
    }
    let one = |(name, given): (&String, &Value)| {
        let expression = text(given).and_then(|text| compile(&text, vocabulary));
        let expression = expression.map_err(|problem| problem.below(&format!("[{name}]")))?;
        Ok((name.clone(), expression))
    };
    map.iter().map(one).collect()
}

/// An expression's text; bare numbers and truths are expressions too.
fn text(given: &Value) -> Result<String, Problem> {
    match given {
        Value::String(text) => Ok(text.clone()),
        Value::Null => Ok(String::new()),
        Value::Number(_) | Value::Bool(_) => Ok(given.to_string()),
        Value::Array(_) | Value::Object(_) => Err(Problem::new("", "an expression is text")),
    }
}

fn compile(text: &str, vocabulary: &dyn Vocabulary) -> Result<Expression, Problem> {
    if text.trim().is_empty() {
        return Err(Problem::new("", "is empty; write an expression"));
    }
    Expression::compile(text, vocabulary).map_err(|error| Problem::new("", error))
}

fn check(wanted: FieldType, ty: ValueType) -> Result<(), Problem> {
    use ValueType::{DnsName, EmailAddress, String, StringMap, Uri};
    let (fits, wanted) = match wanted {
        FieldType::Text => (
            matches!(ty, String | EmailAddress | Uri | DnsName),
            "STRING".to_owned(),
        ),
        FieldType::Exactly(exactly) => (ty == exactly, exactly.to_string()),
        _ => (ty != StringMap, "one value".to_owned()),
    };
    match fits {
        true => Ok(()),
        false => Err(Problem::new("", format!("is {ty}, but must be {wanted}"))),
    }
}

#[cfg(test)]
mod tests {
    use expr::{Bag, STANDARD};
    use serde_json::json;

    use super::*;
    use crate::schema;

    #[expect(clippy::needless_pass_by_value, reason = "calls read better")]
    fn record(template: &str, params: serde_json::Value) -> Result<Record, Problem> {
        let (_, fields) = schema::template(template).unwrap();
        Record::new(fields, params.as_object().unwrap(), &STANDARD)
    }

    #[test]
    fn fields_are_checked_by_the_templates_table() {
        let check = |template: &str, params: serde_json::Value, path: &str, message: &str| {
            let problem = record(template, params).unwrap_err();
            assert!(
                problem.path == path && problem.message.contains(message),
                "{problem:?}"
            );
        };
        check("logentry", json!({"severity": "1"}), "severity", "must be STRING");
        check(
            "logentry",
            json!({"timestamp": "request.path"}),
            "timestamp",
            "must be TIMESTAMP",
        );
        check(
            "logentry",
            json!({"variables": {"a.b": "("}}),
            "variables[a.b]",
            "column 2",
        );
        check(
            "authorization",
            json!({"subject": {"usr": "x"}}),
            "subject.usr",
            "unknown field",
        );
        check(
            "authorization",
            json!({"action": {"path": "request.size"}}),
            "action.path",
            "must be STRING",
        );
        check("tracespan", json!({}), "traceId", "is empty");
        check("checknothing", json!({"a": "1"}), "a", "no fields");
        check(
            "edge",
            json!({"source_uid": "destination.port"}),
            "sourceUid",
            "must be STRING",
        );
    }

    #[test]
    fn values_of_a_request() {
        let params = json!({
            "subject": {"user": r#"request.headers["x-user"] | "nobody""#, "properties": {"n": "7"}},
            "action": {"path": "request.path | \"/\""},
        });
        let record = record("authorization", params).unwrap();
        let fields = record.eval(&Bag::default()).unwrap();
        let subject = fields.message("subject").unwrap();
        assert_eq!(subject.text("user"), "nobody");
        assert_eq!(subject.many("properties").get("n"), Some(&Datum::Int(7)));
        assert_eq!(fields.message("action").unwrap().text("path"), "/");
    }

    #[test]
    fn what_has_no_value_is_named() {
        let record = record("logentry", json!({"variables": {"who": "source.user"}})).unwrap();
        let error = record.eval(&Bag::default()).unwrap_err();
        assert!(error.starts_with("variables: who: "), "{error}");
    }
}
