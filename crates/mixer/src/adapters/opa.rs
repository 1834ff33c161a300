//! `opa`: authorization by policies in Rego. What the policies do not allow is refused, and so is what they fail on unless the handler says
//! otherwise (`failClose: false`).

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use policy::{Answer, Code, Datum, Fields, InstanceValue, Opa};
use regorus::utils::limits::ExecutionTimerConfig;
use regorus::{Engine, Value};
use serde_json::{Map, json};

use super::{Fault, Kit};

/// Steps of an evaluation between two looks at the clock.
const STEPS: NonZeroU32 = NonZeroU32::MIN.saturating_add(999);

/// The adapter.
pub(super) struct Adapter {
    /// With the policies; copied for each check.
    engine: Engine,
    rule: Arc<str>,
    /// What becomes of a request on which the policies fail.
    fail_open: bool,
}

impl Adapter {
    /// Compiles the policies: as Rego v1, or as the older language that Istio's samples are written in.
    pub(super) fn new(opa: &Opa, kit: &Kit) -> Result<Self, String> {
        let mut engine = compile(opa, false, kit.deadline).or_else(|error| {
            // What is wrong with newer policies is the better answer.
            compile(opa, true, kit.deadline).map_err(|_| error)
        })?;
        engine.set_input(Value::new_object());
        let rule = engine.eval_rule(opa.check_method.clone());
        rule.map_err(|error| format!("checkMethod: {}: {error:#}", opa.check_method))?;
        Ok(Self {
            engine,
            rule: opa.check_method.as_str().into(),
            fail_open: opa.fail_open,
        })
    }
}

fn compile(opa: &Opa, older: bool, limit: Duration) -> Result<Engine, String> {
    let mut engine = Engine::new();
    engine.set_rego_v0(older);
    engine.set_execution_timer_config(ExecutionTimerConfig {
        limit,
        check_interval: STEPS,
    });
    for (i, policy) in opa.policies.iter().enumerate() {
        let added = engine.add_policy(format!("policy[{i}]"), policy.clone());
        added.map_err(|error| format!("policy[{i}]: {}", format!("{error:#}").trim()))?;
    }
    Ok(engine)
}

#[tonic::async_trait]
impl super::Adapter for Adapter {
    async fn check(&self, instance: &InstanceValue) -> Result<Answer, Fault> {
        let (mut engine, rule) = (self.engine.clone(), self.rule.clone());
        let input = input(&instance.fields);
        let decided = tokio::task::spawn_blocking(move || {
            engine.set_input(Value::from(input));
            engine.eval_rule(rule.to_string())
        });
        match decided.await.map_err(|_| Fault::Panicked)? {
            Ok(Value::Bool(true)) => Ok(Answer::ok()),
            // As in Istio: what is neither true nor false is no decision.
            Ok(value) if self.fail_open && value != Value::Bool(false) => Ok(Answer::ok()),
            Ok(_) => Ok(Answer::refusal(
                Code::PERMISSION_DENIED,
                "opa: request was rejected",
            )),
            Err(error) => {
                tracing::debug!(rule = &*self.rule, %error, "a policy failed");
                if self.fail_open {
                    return Ok(Answer::ok());
                }
                Ok(Answer::refusal(
                    Code::PERMISSION_DENIED,
                    "opa: request was rejected: the policy failed",
                ))
            }
        }
    }
}

/// `input.subject` and `input.action`, as Istio's adapter gives them: empty texts are left out, groups are a list.
fn input(fields: &Fields) -> serde_json::Value {
    let mut input = Map::new();
    for name in ["subject", "action"] {
        let fields = fields.message(name).map(message).unwrap_or_default();
        input.insert(name.to_owned(), serde_json::Value::Object(fields));
    }
    serde_json::Value::Object(input)
}

fn message(fields: &Fields) -> Map<String, serde_json::Value> {
    let mut map = Map::new();
    for name in ["user", "groups", "namespace", "service", "method", "path"] {
        match (name, fields.text(name)) {
            (_, "") => {}
            ("groups", group) => {
                map.insert(name.to_owned(), json!([group]));
            }
            (_, text) => {
                map.insert(name.to_owned(), text.into());
            }
        }
    }
    let properties = fields.many("properties");
    if !properties.is_empty() {
        let json = |(name, datum): (&String, &Datum)| (name.clone(), datum.json());
        map.insert("properties".to_owned(), properties.iter().map(json).collect());
    }
    map
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use runtime::Metrics;

    use super::*;
    use crate::adapters::Adapter as _;
    use crate::adapters::tests::{backend, instance};

    fn adapter(policy: &str) -> Result<Adapter, String> {
        adapter_with(policy, &json!({}))
    }

    /// One with these further parameters.
    fn adapter_with(policy: &str, more: &serde_json::Value) -> Result<Adapter, String> {
        let mut params = json!({"policy": [policy], "checkMethod": "data.mixerauthz.allow"});
        let more = more.as_object().cloned().unwrap();
        params.as_object_mut().unwrap().extend(more);
        let policy::Backend::Opa(opa) = backend("opa", params) else {
            panic!("no opa")
        };
        let args = crate::Args {
            adapter_deadline: Duration::from_secs(10),
            ..crate::Args::default()
        };
        let kit = Kit::new(&args, &Metrics::new());
        Adapter::new(&opa, &kit)
    }

    async fn code(adapter: &Adapter, user: &str, groups: &str) -> Code {
        let values = json!({"subject": {"user": user, "groups": groups, "properties": {"n": 7}},
                            "action": {"method": "GET", "path": "/a"}});
        let answer = adapter.check(&instance("authorization", &values)).await;
        answer.unwrap().code
    }

    #[tokio::test]
    async fn both_languages_decide_and_what_is_not_allowed_is_refused() {
        let older = r#"
            package mixerauthz
            default allow = false
            allow = true { input.subject.user == "jason"; input.action.method == "GET" }
            allow = true { input.subject.groups[_] == "admins"; input.subject.properties.n == 7 }"#;
        let newer = r#"
            package mixerauthz
            allow if input.subject.user == "jason"
            allow if "admins" in input.subject.groups"#;
        for policy in [older, newer] {
            let adapter = adapter(policy).unwrap();
            assert_eq!(code(&adapter, "jason", "").await, Code::OK, "{policy}");
            assert_eq!(code(&adapter, "anna", "admins").await, Code::OK, "{policy}");
            assert_eq!(
                code(&adapter, "anna", "").await,
                Code::PERMISSION_DENIED,
                "{policy}"
            );
        }
    }

    #[tokio::test]
    async fn what_cannot_be_decided_is_refused() {
        let adapter = adapter("package mixerauthz\nallow := 1").unwrap();
        assert_eq!(code(&adapter, "jason", "").await, Code::PERMISSION_DENIED);
    }

    #[tokio::test]
    async fn with_fail_close_false_what_cannot_be_decided_passes_and_what_is_refused_does_not() {
        let cases = [
            ("allow := 1", Code::OK),
            ("allow if input.subject.user == \"anna\"", Code::OK),
            ("default allow := false", Code::PERMISSION_DENIED),
            (
                "allow := true if numbers.range(1, input.subject.user) else := false",
                Code::OK,
            ),
        ];
        for (policy, expected) in cases {
            let policy = format!("package mixerauthz\n{policy}");
            let adapter = adapter_with(&policy, &json!({"failClose": false})).unwrap();
            assert_eq!(code(&adapter, "jason", "").await, expected, "{policy}");
        }
    }

    #[test]
    fn a_policy_that_is_none_is_told() {
        let error = adapter("package mixerauthz\nallow if {").err().unwrap();
        assert!(error.starts_with("policy[0]: "), "{error}");
        let error = adapter("package other\nallow := true").err().unwrap();
        assert!(error.starts_with("checkMethod: data.mixerauthz.allow"), "{error}");
    }
}
