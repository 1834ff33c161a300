//! Decides whether a request may pass.

use std::sync::Arc;

use config::ObjectKey;
use expr::Attributes;

use crate::backend::BackendHandler;
use crate::instance::InstanceValue;
use crate::request::Request;
use crate::rules::{CheckAction, Checker, Rule, Rules};
use crate::sampling::Aspect;
use config::adapters::{Code, Denial, DirectResponse, Validity};

/// A change of a header.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
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
    /// Rules whose predicate could not be evaluated for malformed values, or whose headers' values no header may have, and why.
    pub errors: Vec<(ObjectKey, String)>,
    /// How long it may be used again, as the handlers say that had a say.
    pub validity: Validity,
    /// Adapters beside the decision that are still to be asked; [`Verdict::answered`] takes what they say.
    pub asks: Vec<Ask>,
}

/// An adapter beside the decision that a request has to pass.
#[derive(Clone, Debug, PartialEq)]
pub struct Ask {
    /// The rule by which it is asked.
    pub rule: ObjectKey,
    /// Whom.
    pub handler: Arc<BackendHandler>,
    /// What about.
    pub instance: InstanceValue,
    /// Whether the request passes when the adapter does not answer, as its rule says.
    pub fail_open: bool,
}

/// What an adapter says to a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// OK when it has nothing against the request.
    pub code: Code,
    /// Why not.
    pub message: String,
    /// How long that may be used again.
    pub validity: Validity,
}

impl Answer {
    /// Nothing against the request.
    pub const fn ok() -> Self {
        Self {
            code: Code::OK,
            message: String::new(),
            validity: Validity::DENIER,
        }
    }

    /// A refusal.
    pub fn refusal(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            validity: Validity::DENIER,
        }
    }
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
            validity: Validity::UNSAID,
            asks: Vec::new(),
        }
    }

    /// Takes an adapter's answer, or why there is none: then the request is refused unless the rule fails open.
    pub fn answered(&mut self, ask: &Ask, answer: Result<Answer, String>) {
        let answer = match answer {
            Ok(answer) => answer,
            Err(_) if ask.fail_open => {
                self.validity = Validity::NONE;
                return;
            }
            Err(why) => Answer::refusal(Code::UNAVAILABLE, format!("cannot be asked: {why}")),
        };
        self.validity = self.validity.and(answer.validity);
        if answer.code != Code::OK {
            let denial = Denial {
                validity: answer.validity,
                ..Denial::plain(answer.code, answer.message)
            };
            self.refuse(&ask.rule, &ask.handler.name, &denial);
        }
    }

    /// Whether the request may pass, as far as is known: see [`Verdict::asks`].
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

    /// The answer to a request that one handler refuses.
    pub(crate) fn denied(handler: &str, denial: &Denial) -> Self {
        let message = format!("{handler}:{}", denial.message);
        let mut verdict = Self::refusal(denial.code, message);
        if let Some(direct) = &denial.direct {
            verdict.http_status = direct.status.unwrap_or(verdict.http_status);
            verdict.response_headers = direct_headers(direct);
            verdict.body.clone_from(&direct.body);
        }
        verdict
    }

    /// The first refusal stands, so that one that a proxy makes by itself reads the same.
    fn refuse(&mut self, rule: &ObjectKey, handler: &str, denial: &Denial) {
        if !self.is_ok() {
            return;
        }
        *self = Self {
            rule: Some(rule.clone()),
            validity: self.validity.and(denial.validity),
            errors: std::mem::take(&mut self.errors),
            asks: std::mem::take(&mut self.asks),
            ..Self::denied(handler, denial)
        };
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

/// What an action says, or `None` when it has nothing against the request, or asks an adapter that runs beside the decision.
fn refusal(action: &CheckAction, rule: &Rule, bag: &dyn Attributes, asks: &mut Vec<Ask>) -> Option<Denial> {
    // Fails closed: what cannot be asked refuses.
    let broken = |message: String| Some(Denial::plain(Code::INTERNAL, message));
    match &action.check {
        Checker::Deny(denial) => Some(denial.clone()),
        Checker::List(list, value) => match value.eval(bag) {
            Ok(value) => list.denial(&value.to_string()),
            Err(error) => broken(error.to_string()),
        },
        Checker::Ask(handler, instance) => match instance.eval(None, bag) {
            Ok(instance) => {
                asks.push(Ask {
                    rule: rule.key.clone(),
                    handler: handler.clone(),
                    instance,
                    fail_open: rule.fail_open || handler.backend.fails_open(),
                });
                None
            }
            Err(error) => broken(error),
        },
    }
}

/// Which rules a proxy asks.
#[derive(Clone, Debug, Default)]
pub struct Asked<'a> {
    /// Those that fail open, or those that fail closed.
    pub fail_open: Option<bool>,
    /// Those with these names, `NAME.NAMESPACE`: the proxy decides the others by itself. A name that no rule has (any more)
    /// asks for all, since the rule may have got another one of which the proxy does not know yet.
    pub rules: Option<Vec<&'a str>>,
}

impl Asked<'_> {
    /// Whether all names are of rules.
    fn is_known(&self, rules: &Rules, request: &Request<'_>) -> bool {
        let known = |name: &&str| rules.about(request).any(|rule| rule.is_named(name));
        self.rules.as_ref().is_none_or(|names| names.iter().all(known))
    }

    /// The same without the names, unless all of them are of rules about the request.
    pub(crate) fn known(&self, rules: &Rules, request: &Request<'_>) -> Self {
        Self {
            fail_open: self.fail_open,
            rules: self.rules.clone().filter(|_| self.is_known(rules, request)),
        }
    }

    pub(crate) fn includes(&self, rule: &Rule) -> bool {
        self.fail_open.is_none_or(|fail_open| rule.fail_open == fail_open)
            && self
                .rules
                .as_ref()
                .is_none_or(|names| names.iter().any(|name| rule.is_named(name)))
    }
}

impl Rules {
    /// Decides on a request, by all rules, or by those that fail open or that fail closed: see [`Rules::check_asked`].
    pub fn check(&self, request: &Request<'_>, fail_open: Option<bool>) -> Verdict {
        self.check_asked(
            request,
            &Asked {
                fail_open,
                rules: None,
            },
        )
    }

    /// Decides on a request by the rules that are asked. The first that refuses answers. Quotas that rate limit descriptors
    /// cannot express are not charged here: see [`Rules::due`].
    ///
    /// A rule whose predicate meets malformed values (not absent ones) refuses with INTERNAL: it cannot be told whether
    /// it applies, and authorization fails closed.
    pub fn check_asked(&self, request: &Request<'_>, asked: &Asked<'_>) -> Verdict {
        self.told(request, |request| self.checked(request, asked))
    }

    fn checked(&self, request: &Request<'_>, asked: &Asked<'_>) -> Verdict {
        let mut verdict = Verdict::ok();
        let asked = asked.known(self, request);
        let rules = self.about(request).filter(|rule| rule.has_check());
        for rule in rules.filter(|rule| asked.includes(rule)) {
            if !verdict.is_ok() {
                break;
            }
            match rule.holds(Aspect::Check, request) {
                Ok(false) => {}
                Ok(true) => apply(rule, request, &mut verdict),
                Err(error) => {
                    verdict.errors.push((rule.key.clone(), error.to_string()));
                    if !rule.checks.is_empty() {
                        let message = "the rule's match cannot be evaluated for this request".to_owned();
                        let denial = Denial::plain(Code::INTERNAL, message);
                        verdict.refuse(&rule.key, &rule.full_name(), &denial);
                    }
                }
            }
        }
        verdict
    }
}

fn apply(rule: &Rule, request: &Request<'_>, verdict: &mut Verdict) {
    for action in &rule.checks {
        if let Checker::List(list, _) = &action.check {
            verdict.validity = verdict.validity.and(list.validity());
        }
        if let Some(denial) = refusal(action, rule, request, &mut verdict.asks) {
            verdict.refuse(&rule.key, &action.handler, &denial);
        }
    }
    if verdict.is_ok() {
        let sides = [
            (&rule.request_headers, &mut verdict.request_headers),
            (&rule.response_headers, &mut verdict.response_headers),
        ];
        for (operations, changes) in sides {
            let failed = operations
                .iter()
                .filter_map(|op| op.changes(request, changes).err());
            let failed = failed.map(|error| (rule.key.clone(), error));
            verdict.errors.extend(failed);
        }
    }
}
