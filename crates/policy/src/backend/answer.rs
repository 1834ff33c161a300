//! What `rbac` and a fetched list answer. `rbac` is authorization by conditions in CEL over the fields of an `authorization`
//! instance.

use std::collections::BTreeMap;

use config::adapters::{Code, List, Rbac};
use expr::{Attributes, Expression, Value};

use crate::check::Answer;
use crate::datum::Datum;
use crate::record::Fields;

impl Answer {
    /// Whether one of the policies allows what an instance asks for. A condition that cannot be evaluated allows nothing.
    pub fn of_rbac(rbac: &Rbac, instance: &Fields) -> Self {
        let query = Query::new(instance);
        let allows = |condition: &Expression| matches!(condition.eval(&query), Ok(Value::Bool(true)));
        match rbac.conditions().any(allows) {
            true => Self::ok(),
            false => Self::refusal(Code::PERMISSION_DENIED, "RBAC: permission denied."),
        }
    }

    /// What a list says of a value.
    pub fn of_list(list: &List, value: &str) -> Self {
        match list.denial(value) {
            None => Self {
                validity: list.validity(),
                ..Self::ok()
            },
            Some(denial) => Self {
                validity: denial.validity,
                ..Self::refusal(denial.code, denial.message)
            },
        }
    }
}

/// An instance's fields as variables.
struct Query<'a> {
    instance: &'a Fields,
    /// By `subject` and `action`.
    properties: BTreeMap<&'static str, BTreeMap<String, String>>,
}

impl<'a> Query<'a> {
    fn new(instance: &'a Fields) -> Self {
        let texts = |of: &'static str| {
            let properties = instance.message(of)?.many("properties").iter();
            let texts = properties.map(|(name, datum): (&String, &Datum)| (name.clone(), datum.to_string()));
            Some((of, texts.collect()))
        };
        Self {
            instance,
            properties: ["subject", "action"].into_iter().filter_map(texts).collect(),
        }
    }
}

impl Attributes for Query<'_> {
    fn get(&self, name: &str) -> Option<Value<'_>> {
        let (of, field) = name.split_once('.')?;
        match field {
            "properties" => self.properties.get(of).map(|properties| Value::Map(properties)),
            field => Some(Value::from(self.instance.message(of)?.text(field))),
        }
    }
}

#[cfg(test)]
mod tests {
    use config::adapters::Adapter;

    use super::*;
    use crate::record::FieldValue;

    #[expect(clippy::needless_pass_by_value, reason = "calls read better")]
    fn rbac(params: serde_json::Value) -> Rbac {
        match Adapter::read("rbac", params.as_object().unwrap()) {
            Some(Ok(Adapter::Rbac(rbac))) => rbac,
            other => panic!("{other:?}"),
        }
    }

    fn query(user: &str, path: &str) -> Fields {
        let (mut all, mut subject, mut action) = (Fields::default(), Fields::default(), Fields::default());
        subject.set("user", FieldValue::One(Datum::Text(user.into())));
        let properties = [("iss".to_owned(), Datum::Text("us".into()))].into();
        subject.set("properties", FieldValue::Many(properties));
        action.set("path", FieldValue::One(Datum::Text(path.into())));
        all.set("subject", FieldValue::Message(subject));
        all.set("action", FieldValue::Message(action));
        all
    }

    #[test]
    fn what_no_policy_allows_is_refused() {
        let check = |condition: &str, user: &str, path: &str, allowed: bool| {
            let rbac = rbac(serde_json::json!({"policies": [{"name": "p", "condition": condition}]}));
            let answer = Answer::of_rbac(&rbac, &query(user, path));
            assert_eq!(answer.code == Code::OK, allowed, "{condition} {user} {path}");
        };
        let condition = r#"subject.user == "jason" && action.path.startsWith("/a")"#;
        check(condition, "jason", "/a/1", true);
        check(condition, "anna", "/a/1", false);
        check(condition, "jason", "/b", false);
        check(r#"subject.properties["iss"] == "us""#, "", "", true);
        // What cannot be evaluated allows nothing.
        check(r#"subject.properties["nothing"] == "us""#, "", "", false);
        let none = rbac(serde_json::json!({}));
        assert_eq!(
            Answer::of_rbac(&none, &query("", "")).code,
            Code::PERMISSION_DENIED
        );
    }
}
