//! `rbac`: authorization by conditions in CEL over the fields of an `authorization` instance.

use std::sync::Arc;

use expr::{Expression, Language, ValueType, Vocabulary};
use serde::Deserialize;

use super::bounded;
use super::params::Problem;

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
pub(super) struct Params {
    policies: Vec<PolicyParams>,
    config_store_url: String,
    /// Answers are made anew for each request, which costs less than to look them up.
    #[serde(rename = "cacheDuration")]
    _cache_duration: Option<crate::Duration>,
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

pub(super) fn read(params: Params) -> Result<Rbac, Problem> {
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
    /// The conditions of the policies, of which one must hold for a request to pass.
    pub fn conditions(&self) -> impl Iterator<Item = &Expression> {
        self.policies.iter().map(|policy| &*policy.condition)
    }
}

#[cfg(test)]
mod tests {
    use super::super::params;
    use super::*;

    #[test]
    fn conditions_are_checked_when_configured() {
        for condition in [
            "subject.user",
            "subject.name == \"x\"",
            "source.user == \"x\"",
            "(",
        ] {
            let params = serde_json::json!({"policies": [{"name": "p", "condition": condition}]});
            let read = params::read(params.as_object().unwrap()).and_then(read);
            assert_eq!(read.unwrap_err().path, "policies[0].condition", "{condition}");
        }
    }
}
