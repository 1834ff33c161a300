//! The order in which policies decide: mutual TLS, external authorizers, tokens, then DENY and ALLOW (Istio, "Authorization
//! policy precedence"; external authorizers are asked before tokens are checked).

use std::collections::BTreeMap;

use config::ObjectKey;
use config::security::{Action, MutualTlsMode};
use serde_json::{Map, Value};

use crate::path::{has_dots_with_parameters, normalized};
use crate::request::Request;
use crate::rule::Matcher;
use crate::set::{Authorization, PolicySet, Speaks};
use crate::token;

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It reaches the application.
    Allowed,
    /// The connection is closed: it is plaintext where mutual TLS is demanded, or the other way round, or a policy refuses it.
    Closed,
    /// 400: the path cannot be read in one way only.
    Malformed,
    /// 401: a token is not valid, or one is demanded. (Envoy answers 403 where only the audience is another.)
    Unauthorized,
    /// 403 by a DENY policy, or, without a name, since no ALLOW policy matches, or nobody can be asked, or the path has what some
    /// servers take for a dot segment.
    Denied(Option<ObjectKey>),
    /// The authorizer of this name refuses.
    Refused(String),
}

/// What policies decide for a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// What becomes of it.
    pub verdict: Verdict,
    /// The AUDIT policies that match, where the request came so far.
    pub audited: Vec<ObjectKey>,
    /// The authorizers that were asked, in the order of their names.
    pub asked: Vec<String>,
}

impl PolicySet {
    /// What the policies decide. `answers` says which authorizers let the request through; one that is not in it is away, and
    /// refuses.
    #[must_use]
    pub fn decide(&self, request: &Request, answers: &BTreeMap<String, bool>) -> Decision {
        let mut decision = Decision {
            verdict: Verdict::Allowed,
            audited: Vec::new(),
            asked: Vec::new(),
        };
        decision.verdict = self.verdict(request, answers, &mut decision);
        if request.http.is_none() && decision.verdict != Verdict::Allowed {
            decision.verdict = Verdict::Closed;
        }
        decision
    }

    fn verdict(
        &self,
        request: &Request,
        answers: &BTreeMap<String, bool>,
        decision: &mut Decision,
    ) -> Verdict {
        let closed = match self.modes.of(request.port) {
            MutualTlsMode::Strict => request.peer.is_none(),
            MutualTlsMode::Disable => request.peer.is_some(),
            MutualTlsMode::Permissive | MutualTlsMode::Unset => false,
        };
        if closed {
            return Verdict::Closed;
        }
        let path = match &request.http {
            Some(http) => match normalized(&http.path, self.normalization) {
                Some(path) => path,
                None => return Verdict::Malformed,
            },
            None => String::new(),
        };
        if has_dots_with_parameters(&path) && self.rules.iter().any(Authorization::refuses_by_path) {
            return Verdict::Denied(None);
        }
        let matches = |policy: &Authorization, claims: Option<&Map<String, Value>>| {
            let matcher = Matcher {
                request,
                path: &path,
                claims,
                domains: &self.domains,
                allows: policy.action == Action::Allow,
                namespace: &policy.key.namespace,
            };
            policy.rules.iter().any(|rule| matcher.rule(rule))
        };
        if let Some(refusal) = self.ask(|policy| matches(policy, None), request, answers, decision) {
            return refusal;
        }
        let claims = match &request.http {
            Some(http) => match token::claims(&self.tokens, http) {
                Ok(claims) => claims,
                Err(()) => return Verdict::Unauthorized,
            },
            None => None,
        };
        let of = |action| self.rules.iter().filter(move |p| p.action == action && !p.trial);
        let hit = |policy: &&Authorization| matches(policy, claims.as_ref());
        decision.audited = of(Action::Audit).filter(hit).map(|p| p.key.clone()).collect();
        if let Some(policy) = of(Action::Deny).find(hit) {
            return Verdict::Denied(Some(policy.key.clone()));
        }
        match of(Action::Allow).next().is_none() || of(Action::Allow).any(|policy| hit(&policy)) {
            true => Verdict::Allowed,
            false => Verdict::Denied(None),
        }
    }

    fn ask(
        &self,
        matches: impl Fn(&Authorization) -> bool,
        request: &Request,
        answers: &BTreeMap<String, bool>,
        decision: &mut Decision,
    ) -> Option<Verdict> {
        let custom = || self.rules.iter().filter(|policy| policy.action == Action::Custom);
        let names: std::collections::BTreeSet<&String> = custom().map(|policy| &policy.provider).collect();
        for name in names {
            let speaks = self.authorizers.get(name);
            // Who speaks HTTP alone cannot be asked about connections: rules about HTTP mean none of them, others refuse.
            let unasked = request.http.is_none() && speaks == Some(&Speaks::Http);
            let own = custom().filter(|policy| policy.provider == *name);
            let hit = match unasked {
                true => own
                    .map(Authorization::without_http)
                    .any(|policy| matches(&policy)),
                false => own.into_iter().any(&matches),
            };
            if !hit {
                continue;
            }
            if speaks.is_none() || unasked {
                return Some(Verdict::Denied(None));
            }
            decision.asked.push(name.clone());
            if answers.get(name) != Some(&true) {
                return Some(Verdict::Refused(name.clone()));
            }
        }
        None
    }
}
