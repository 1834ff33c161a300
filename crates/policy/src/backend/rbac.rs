//! `rbac`: authorization by conditions in CEL over the fields of an `authorization` instance.

use std::collections::BTreeMap;
use std::sync::Arc;

use expr::{Attributes, Expression, Language, Value, ValueType, Vocabulary};
use serde::Deserialize;

use crate::check::Answer;
use crate::datum::Datum;
use crate::handler::bounded;
use crate::params::Problem;
use crate::record::Fields;
use crate::status::Code;

/// What conditions may read: the fields of the `authorization` template.
const VARIABLES: [(&str, ValueType); 8] = [
    ("subject.user", ValueType::String),
    ("subject.groups", ValueType::String),
    ("subject.properties", ValueType::StringMap),
    ("action.namespace", ValueType::String),
    ("action.service", ValueType::String),
    ("action.method", ValueType::String),
    ("action.path", ValueType::String),
    ("action.properties", ValueType::StringMap),
];

/// Parameters: policies, of which one must allow the request.
#[derive(Clone, Debug, PartialEq)]
pub struct Rbac {
    policies: Vec<Policy>,
}

#[derive(Clone, Debug)]
struct Policy {
    name: String,
    condition: Arc<Expression>,
}

impl PartialEq for Policy {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.condition.text() == other.condition.text()
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Params {
    policies: Vec<PolicyParams>,
    config_store_url: String,
    /// Answers are made anew for each request, which costs less than to look them up.
    #[serde(rename = "cacheDuration")]
    _cache_duration: Option<config::Duration>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PolicyParams {
    name: String,
    condition: String,
}

/// The variables of conditions, for the compiler.
struct Variables;

impl Vocabulary for Variables {
    fn language(&self) -> Language {
        Language::Cel
    }

    fn attribute(&self, name: &str) -> Option<ValueType> {
        VARIABLES
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, ty)| *ty)
    }

    fn nearest(&self, _name: &str) -> Option<String> {
        None
    }
}

pub(crate) fn read(params: Params) -> Result<Rbac, Problem> {
    if !params.config_store_url.is_empty() {
        return Err(Problem::new(
            "configStoreUrl",
            "is not served: ServiceRoles are AuthorizationPolicies by now, which proxies enforce themselves; write conditions \
             into policies",
        ));
    }
    bounded(&params.policies, "policies")?;
    let mut policies = Vec::new();
    for (i, policy) in params.policies.into_iter().enumerate() {
        let path = format!("policies[{i}].condition");
        let condition =
            Expression::compile(&policy.condition, &Variables).map_err(|error| Problem::new(&path, error))?;
        if condition.ty() != ValueType::Bool {
            let message = format!("is {}, but must be BOOL", condition.ty());
            return Err(Problem::new(path, message));
        }
        policies.push(Policy {
            name: policy.name,
            condition: Arc::new(condition),
        });
    }
    Ok(Rbac { policies })
}

impl Rbac {
    /// Whether one of the policies allows what an instance asks for. A condition that cannot be evaluated allows nothing.
    pub fn answer(&self, instance: &Fields) -> Answer {
        let query = Query::new(instance);
        let allows = |policy: &Policy| matches!(policy.condition.eval(&query), Ok(Value::Bool(true)));
        match self.policies.iter().any(allows) {
            true => Answer::ok(),
            false => Answer::refusal(Code::PERMISSION_DENIED, "RBAC: permission denied."),
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
    use super::*;
    use crate::params;
    use crate::record::FieldValue;

    fn rbac(condition: &str) -> Result<Rbac, Problem> {
        let params = serde_json::json!({"policies": [{"name": "p", "condition": condition}]});
        read(params::read(params.as_object().unwrap())?)
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
            let answer = rbac(condition).unwrap().answer(&query(user, path));
            assert_eq!(answer.code == Code::OK, allowed, "{condition} {user} {path}");
        };
        let condition = r#"subject.user == "jason" && action.path.startsWith("/a")"#;
        check(condition, "jason", "/a/1", true);
        check(condition, "anna", "/a/1", false);
        check(condition, "jason", "/b", false);
        check(r#"subject.properties["iss"] == "us""#, "", "", true);
        // What cannot be evaluated allows nothing.
        check(r#"subject.properties["nothing"] == "us""#, "", "", false);
        assert_eq!(
            Rbac { policies: vec![] }.answer(&query("", "")).code,
            Code::PERMISSION_DENIED
        );
    }

    #[test]
    fn conditions_are_checked_when_configured() {
        for condition in [
            "subject.user",
            "subject.name == \"x\"",
            "source.user == \"x\"",
            "(",
        ] {
            assert_eq!(
                rbac(condition).unwrap_err().path,
                "policies[0].condition",
                "{condition}"
            );
        }
    }
}
