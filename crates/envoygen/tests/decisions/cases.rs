//! A workload's policy, what is sent to it and what must come back: of a real Envoy, and of the decision function as well, so
//! that both stay right.

use serde_json::json;

use authz::Place;

use crate::client::{self, Answer};
use crate::mesh::Mesh;
use crate::requests::{Carried, Sent};

pub(crate) const OK: Answer = Answer::Status(200);
pub(crate) const DENIED: Answer = Answer::Status(403);
pub(crate) const UNAUTHORIZED: Answer = Answer::Status(401);

/// A workload's policy, what is sent to it, and what must come back.
pub(crate) type Case = (String, Vec<(Sent, Answer)>);

pub(crate) fn check(cases: Vec<Case>) {
    check_with("DEFAULT", cases);
}

/// As [`check`], with this `pathNormalization`.
pub(crate) fn check_with(normalization: &str, cases: Vec<Case>) {
    let documents: Vec<String> = cases
        .iter()
        .enumerate()
        .map(|(at, case)| case.0.replace("NAMESPACE", &format!("w{at}")))
        .collect();
    let Some(mesh) = Mesh::start_with(normalization, &documents) else {
        return;
    };
    for (workload, (_, sent)) in cases.into_iter().enumerate() {
        for (sent, expected) in sent {
            let (request, answer) = client::send(&mesh, workload, &sent);
            let text = mesh.text(workload);
            assert_eq!(answer, expected, "{normalization}, Envoy: {sent:?}\n{text}");
            let decided = mesh.set(workload).decide(&request, &sent.answers).verdict;
            assert_eq!(
                crate::seen(&decided),
                expected,
                "{normalization}, decided {decided:?}: {sent:?}\n{text}"
            );
        }
    }
}

pub(crate) fn policy(action: &str, rule: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: p, namespace: NAMESPACE}}\nspec: {{action: {action}, rules: [{rule}]}}\n"
    )
}

pub(crate) fn tokens(rules: &str) -> String {
    format!(
        "---\napiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {{name: t, namespace: NAMESPACE}}\nspec: {{jwtRules: [{rules}]}}\n"
    )
}

pub(crate) fn path(path: &'static str) -> Sent {
    Sent {
        path,
        ..Sent::default()
    }
}

pub(crate) fn from(peer: &'static str) -> Sent {
    Sent {
        peer: Some(peer),
        ..Sent::default()
    }
}

pub(crate) fn header(values: &[&'static str]) -> Sent {
    Sent {
        headers: values.iter().map(|value| ("x-role", *value)).collect(),
        ..Sent::default()
    }
}

pub(crate) fn bearer(issuer: &str, genuine: bool) -> Sent {
    Sent {
        tokens: vec![Carried {
            place: Place::Header("authorization".to_owned(), "Bearer ".to_owned()),
            claims: json!({"iss": issuer, "sub": "alice"}),
            genuine,
        }],
        ..Sent::default()
    }
}
