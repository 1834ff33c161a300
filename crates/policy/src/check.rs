//! Decides whether a request may pass.

use config::ObjectKey;
use expr::Attributes;

use crate::denial::{Denial, DirectResponse};
use crate::list::Listed;
use crate::request::Request;
use crate::rules::{CheckAction, Checker, Rule, Rules};
use crate::status::Code;

/// A change of a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderChange {
    /// Sets the header to one value.
    Replace(String, String),
    /// Adds a value.
    Append(String, String),
    /// Removes all values.
    Remove(String),
}

/// The answer to a check.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// OK when the request may pass.
    pub code: Code,
    /// Which handler says what: `HANDLER.NAMESPACE:MESSAGE`, several joined by commas. Empty when the request may pass.
    pub message: String,
    /// The rule that refused first.
    pub rule: Option<ObjectKey>,
    /// HTTP status of a refusal.
    pub http_status: u16,
    /// Body of a refusal: `CODE:MESSAGE`, as Istio 1.4 shows it.
    pub body: String,
    /// For the request when it passes.
    pub request_headers: Vec<HeaderChange>,
    /// For the response, or for the refusal.
    pub response_headers: Vec<HeaderChange>,
    /// Rules whose predicate could not be evaluated for malformed values, and why.
    pub errors: Vec<(ObjectKey, String)>,
}

impl Verdict {
    fn ok() -> Self {
        Self {
            code: Code::OK,
            message: String::new(),
            rule: None,
            http_status: 200,
            body: String::new(),
            request_headers: Vec::new(),
            response_headers: Vec::new(),
            errors: Vec::new(),
        }
    }

    /// Whether the request may pass.
    pub fn is_ok(&self) -> bool {
        self.code == Code::OK
    }

    /// A refusal by no rule.
    pub fn refusal(code: Code, message: impl Into<String>) -> Self {
        let message = message.into();
        let body = format!("{}:{message}", code.name());
        Self {
            code,
            http_status: code.http(),
            body,
            message,
            ..Self::ok()
        }
    }

    fn refuse(&mut self, rule: &Rule, handler: &str, denial: &Denial) {
        let text = format!("{handler}:{}", denial.message);
        if !self.is_ok() {
            let shown = self.body == self.shown();
            self.message = format!("{}, {text}", self.message);
            if shown {
                self.body = self.shown();
            }
            return;
        }
        self.code = denial.code;
        self.http_status = denial.code.http();
        self.rule = Some(rule.key.clone());
        self.message = text;
        self.body = self.shown();
        self.request_headers.clear();
        self.response_headers.clear();
        if let Some(direct) = &denial.direct {
            self.http_status = direct.status.unwrap_or(self.http_status);
            self.response_headers = direct_headers(direct);
            self.body.clone_from(&direct.body);
        }
    }

    fn shown(&self) -> String {
        format!("{}:{}", self.code.name(), self.message)
    }
}

fn direct_headers(direct: &DirectResponse) -> Vec<HeaderChange> {
    let mut changes = Vec::new();
    for (name, value) in &direct.headers {
        if name == "set-cookie" {
            // Istio takes a list of cookies, one header each.
            changes.extend(
                value
                    .split(',')
                    .map(|cookie| HeaderChange::Append(name.clone(), cookie.trim().to_owned())),
            );
        } else {
            changes.push(HeaderChange::Replace(name.clone(), value.clone()));
        }
    }
    changes
}

/// What an action says, or `None` when it has nothing against the request.
fn refusal(action: &CheckAction, bag: &dyn Attributes) -> Option<Denial> {
    let deny = |code: Code, message: String| {
        Some(Denial {
            code,
            message,
            direct: None,
        })
    };
    match &action.check {
        Checker::Deny(denial) => Some(denial.clone()),
        Checker::List(list, value) => {
            let value = match value.eval(bag) {
                Ok(value) => value,
                // Fails closed: a list that cannot be asked refuses.
                Err(error) => return deny(Code::INTERNAL, error.to_string()),
            };
            match list.look_up(&value.to_string()) {
                Listed::Pass => None,
                Listed::NotOnWhitelist => deny(Code::NOT_FOUND, format!("{value} is not whitelisted")),
                Listed::OnBlacklist => deny(Code::PERMISSION_DENIED, format!("{value} is blacklisted")),
                Listed::NotAnAddress => deny(
                    Code::INVALID_ARGUMENT,
                    format!("{value} is not a valid IP address"),
                ),
            }
        }
    }
}

impl Rules {
    /// Decides on a request. `fail_open` restricts the rules to those that fail open, or to those that fail closed, as
    /// the calling filter asks. Quotas that rate limit descriptors cannot express are not charged here: see
    /// [`Rules::quota`].
    ///
    /// A rule whose predicate meets malformed values (not absent ones) refuses with INTERNAL: it cannot be told whether
    /// it applies, and authorization fails closed.
    pub fn check(&self, request: &Request<'_>, fail_open: Option<bool>) -> Verdict {
        let mut verdict = Verdict::ok();
        let namespace = request.destination.workload.map(|w| w.namespace.as_str());
        let rules = self.of(namespace).filter(|rule| rule.has_check());
        for rule in rules.filter(|rule| fail_open.is_none_or(|fail_open| rule.fail_open == fail_open)) {
            match rule.condition.holds(request) {
                Ok(false) => {}
                Ok(true) => apply(rule, request, &mut verdict),
                Err(error) => {
                    verdict.errors.push((rule.key.clone(), error.to_string()));
                    if !rule.checks.is_empty() {
                        let message = "the rule's match cannot be evaluated for this request".to_owned();
                        let denial = Denial {
                            code: Code::INTERNAL,
                            message,
                            direct: None,
                        };
                        verdict.refuse(rule, &rule.full_name(), &denial);
                    }
                }
            }
        }
        verdict
    }
}

fn apply(rule: &Rule, request: &Request<'_>, verdict: &mut Verdict) {
    for action in &rule.checks {
        if let Some(denial) = refusal(action, request) {
            verdict.refuse(rule, &action.handler, &denial);
        }
    }
    if verdict.is_ok() {
        rule.request_headers
            .iter()
            .for_each(|op| op.changes(request, &mut verdict.request_headers));
        rule.response_headers
            .iter()
            .for_each(|op| op.changes(request, &mut verdict.response_headers));
    }
}
