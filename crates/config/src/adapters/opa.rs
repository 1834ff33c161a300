//! `opa`: policies in Rego that stand in the handler.

use serde::Deserialize;

use super::params::Problem;

/// Most bytes of all policies of one handler.
const MAX_POLICIES: usize = 1 << 20;

/// Parameters (adapter.opa.config).
#[derive(Clone, Debug, PartialEq)]
pub struct Opa {
    /// The policies, each a Rego module.
    pub policies: Vec<String>,
    /// The rule that is true for what may pass: `data.PACKAGE.RULE`.
    pub check_method: String,
    /// Whether what the policies fail on, or say nothing of, passes. What they refuse never does.
    pub fail_open: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Params {
    policy: Vec<String>,
    check_method: String,
    fail_close: Option<bool>,
}

pub(super) fn read(params: Params) -> Result<Opa, Problem> {
    if params.policy.is_empty() {
        return Err(Problem::new("policy", "is empty; write a Rego module"));
    }
    if params.policy.iter().map(String::len).sum::<usize>() > MAX_POLICIES {
        return Err(Problem::new("policy", "the policies are longer than 1 MiB"));
    }
    let mut parts = params.check_method.split('.');
    let is_name = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    let names = parts.next() == Some("data");
    let rest: Vec<&str> = parts.collect();
    if !names || rest.len() < 2 || !rest.iter().all(|part| is_name(part)) {
        return Err(Problem::new(
            "checkMethod",
            format!("{:?} is not of the form data.PACKAGE.RULE", params.check_method),
        ));
    }
    Ok(Opa {
        policies: params.policy,
        check_method: params.check_method,
        // Istio's default is open. Authorization fails closed here unless somebody says otherwise.
        fail_open: params.fail_close == Some(false),
    })
}
