//! A template's fields filled with expressions, checked against the template's table. What they are worth for a request is not
//! known here.

use std::collections::BTreeMap;

use expr::{Expression, Use, ValueType, Vocabulary};
use serde_json::{Map, Value};

use super::{Field, FieldType};
use crate::adapters::{Problem, camel};
use crate::structure::nearest;

/// Most names in one map of values.
const MAX_VALUES: usize = 1000;

/// The expressions of an instance, by field, in the template's order.
#[derive(Clone, Debug, Default)]
pub struct Record(Vec<(String, Slot)>);

/// What fills a field.
#[derive(Clone, Debug)]
pub enum Slot {
    /// One expression.
    One(Expression),
    /// Expressions by names of the user's own.
    Many(BTreeMap<String, Expression>),
    /// Fields of its own.
    Message(Record),
}

impl Record {
    /// Reads `params` by the table of a template, and says of each that is wrong what is. Names may be in snake_case.
    pub(super) fn read(
        fields: &[Field],
        params: &Map<String, Value>,
        vocabulary: &dyn Vocabulary,
        problems: &mut Vec<Problem>,
    ) -> Self {
        let params: BTreeMap<String, &Value> =
            params.iter().map(|(name, value)| (camel(name), value)).collect();
        // Istio's own form writes an instance's bindings beside its fields.
        let names = params.keys().filter(|name| *name != "attributeBindings");
        problems.extend(names.filter_map(|name| unknown(name, fields)));
        let mut slots = Vec::new();
        for field in fields {
            match params.get(&*field.name).filter(|value| !value.is_null()) {
                Some(value) => {
                    let mut own = Vec::new();
                    let slot = slot(field, value, vocabulary, &mut own);
                    slots.extend(slot.map(|slot| (field.name.to_string(), slot)));
                    problems.extend(own.into_iter().map(|problem| problem.below(&field.name)));
                }
                None if field.required => {
                    problems.push(Problem::new(&*field.name, "is empty; write an expression"));
                }
                None => {}
            }
        }
        Self(slots)
    }

    /// The fields that are filled, and what with.
    pub fn slots(&self) -> &[(String, Slot)] {
        &self.0
    }

    /// The expression of a field that takes one value.
    pub fn one(&self, name: &str) -> Option<&Expression> {
        self.0.iter().find_map(|(known, slot)| match slot {
            Slot::One(expression) if known == name => Some(expression),
            _ => None,
        })
    }

    /// The expressions of a field that takes values by name.
    pub fn many(&self, name: &str) -> BTreeMap<String, Expression> {
        let found = self.0.iter().find_map(|(known, slot)| match slot {
            Slot::Many(expressions) if known == name => Some(expressions.clone()),
            _ => None,
        });
        found.unwrap_or_default()
    }

    /// All attributes that the expressions read.
    pub fn uses(&self) -> Vec<Use> {
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
}

fn unknown(name: &str, fields: &[Field]) -> Option<Problem> {
    let known = || fields.iter().map(|field| &*field.name);
    if known().any(|known| known == name) {
        return None;
    }
    let words = match nearest(name, known()) {
        Some(meant) => format!("unknown field; did you mean {meant:?}?"),
        None if fields.is_empty() => "unknown field; the template has no fields".to_owned(),
        None => format!(
            "unknown field; the template has {}",
            known().collect::<Vec<_>>().join(", ")
        ),
    };
    Some(Problem::new(name, words))
}

/// None where it is wrong, and for an empty expression of a field that may be left out.
fn slot(
    field: &Field,
    given: &Value,
    vocabulary: &dyn Vocabulary,
    problems: &mut Vec<Problem>,
) -> Option<Slot> {
    match &field.ty {
        FieldType::Values => Some(Slot::Many(values(None, given, vocabulary, problems))),
        FieldType::Each(ty) => Some(Slot::Many(values(Some(*ty), given, vocabulary, problems))),
        FieldType::Message(fields) => match given.as_object() {
            Some(params) => Some(Slot::Message(Record::read(
                fields.all(),
                params,
                vocabulary,
                problems,
            ))),
            None => {
                problems.push(Problem::new("", "must be a map of fields"));
                None
            }
        },
        ty => {
            let made = text(given).and_then(|text| match text.trim().is_empty() && !field.required {
                true => Ok(None),
                false => compile(&text, vocabulary).map(Some),
            });
            let checked = made.and_then(|made| {
                made.map(|expression| check(ty, expression.ty()).map(|()| Slot::One(expression)))
                    .transpose()
            });
            checked.map_err(|problem| problems.push(problem)).ok().flatten()
        }
    }
}

/// Expressions by name, of one type if that is given.
fn values(
    ty: Option<ValueType>,
    given: &Value,
    vocabulary: &dyn Vocabulary,
    problems: &mut Vec<Problem>,
) -> BTreeMap<String, Expression> {
    let Some(map) = given.as_object() else {
        problems.push(Problem::new("", "must be a map of expressions"));
        return BTreeMap::new();
    };
    if map.len() > MAX_VALUES {
        let message = format!("has {} entries, more than {MAX_VALUES}", map.len());
        problems.push(Problem::new("", message));
        return BTreeMap::new();
    }
    let mut values = BTreeMap::new();
    for (name, given) in map {
        let made = text(given).and_then(|text| compile(&text, vocabulary));
        let wanted = ty.map(|ty| match ty {
            ValueType::String => FieldType::Text,
            ty => FieldType::Exactly(ty),
        });
        let checked = made.and_then(|expression| match &wanted {
            Some(wanted) => check(wanted, expression.ty()).map(|()| expression),
            None => Ok(expression),
        });
        match checked {
            Ok(expression) => {
                values.insert(name.clone(), expression);
            }
            Err(problem) => problems.push(problem.below(&format!("[{name}]"))),
        }
    }
    values
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
    Expression::compile(text, vocabulary).map_err(|error| Problem::expression("", &error))
}

fn check(wanted: &FieldType, ty: ValueType) -> Result<(), Problem> {
    use ValueType::{DnsName, EmailAddress, String, StringMap, Uri};
    let (fits, wanted) = match wanted {
        FieldType::Text => (
            matches!(ty, String | EmailAddress | Uri | DnsName),
            "STRING".to_owned(),
        ),
        FieldType::Exactly(exactly) => (ty == *exactly, exactly.to_string()),
        _ => (ty != StringMap, "one value".to_owned()),
    };
    match fits {
        true => Ok(()),
        false => Err(Problem::new("", format!("is {ty}, but must be {wanted}"))),
    }
}

#[cfg(test)]
mod tests {
    use expr::STANDARD;
    use serde_json::json;

    use super::super::read;

    #[test]
    fn fields_are_checked_by_the_templates_table() {
        let check = |template: &str, params: serde_json::Value, path: &str, message: &str| {
            let problems = read(template, params.as_object().unwrap(), &STANDARD).unwrap_err();
            let [problem] = problems.as_slice() else {
                panic!("{problems:?}")
            };
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
            "did you mean \"user\"",
        );
        check(
            "authorization",
            json!({"action": {"path": "request.size"}}),
            "action.path",
            "must be STRING",
        );
        check("listentry", json!({}), "value", "is empty");
        check("checknothing", json!({"a": "1"}), "a", "no fields");
        check(
            "edge",
            json!({"source_uid": "destination.port"}),
            "sourceUid",
            "must be STRING",
        );
        check(
            "listentry",
            json!({"value": "source.lables"}),
            "value",
            "did you mean source.labels",
        );
        check(
            "metric",
            json!({"value": "source.ip"}),
            "value",
            "must be a number",
        );
        check("metrics", json!({}), "", "no template metrics");
    }

    #[test]
    fn everything_that_is_wrong_is_said() {
        let params = json!({"value": "(", "dimensions": {"a": "nothing.there", "b": "\"x"}, "kind": "1"});
        let problems = read("metric", params.as_object().unwrap(), &STANDARD).unwrap_err();
        let seen: Vec<(&str, bool)> = problems.iter().map(|p| (p.path.as_str(), p.open)).collect();
        let expected = [
            ("kind", false),
            ("value", false),
            ("dimensions[a]", true),
            ("dimensions[b]", false),
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn bare_numbers_are_expressions_too() {
        let params = json!({"value": 1});
        let (_, record) = read("metric", params.as_object().unwrap(), &STANDARD).unwrap();
        assert_eq!(record.one("value").unwrap().text(), "1");
    }
}
