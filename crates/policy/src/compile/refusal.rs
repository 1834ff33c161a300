//! What handlers refuse, as conditions with the answers that Mixer would give.

use expr::{Builtin, EvalError, Expression, Node, Value};

use super::attribute::{Environment, Subject, lower_case};
use super::expression::Term;
use super::matcher::{Fact, Matcher, Test};
use super::pattern;
use super::reason::Reason;
use crate::check::{HeaderChange, Verdict};
use crate::rules::{CheckAction, Checker};
use config::adapters::Code;
use config::adapters::Denial;
use config::adapters::{Entries, List};

/// A refusal that the proxy itself makes, with the answer that Mixer would give.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Refusal {
    /// The rule, `NAME.NAMESPACE`.
    pub rule: String,
    /// What is refused.
    pub when: Matcher,
    /// HTTP status.
    pub http_status: u16,
    /// The body.
    pub body: Vec<BodyPart>,
    /// Headers of the answer.
    pub headers: Vec<HeaderChange>,
}

/// A piece of a refusal's body, or a header's value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum BodyPart {
    /// This text.
    Text(String),
    /// A text of the request; never [`Fact::PeerUri`].
    Fact(Fact),
    /// The peer's own address.
    SourceIp,
}

/// A refusal before it is known by which rule.
struct Case {
    when: Matcher,
    code: Code,
    /// What stands before the value and behind it, and the value.
    message: (String, Option<BodyPart>, &'static str),
}

impl Environment<'_> {
    /// The refusals of an action under the rule's condition.
    pub(super) fn refusals(
        &self,
        rule: &str,
        condition: &Matcher,
        action: &CheckAction,
    ) -> Result<Vec<Refusal>, Reason> {
        match &action.check {
            Checker::Deny(denial) => Ok(vec![fixed(rule, condition.clone(), &action.handler, denial)]),
            Checker::Ask(handler, _) => Err(Reason::Adapter(handler.name.clone())),
            Checker::List(list, value) => {
                let cases = self.listed(list, value)?;
                let refusals = cases
                    .into_iter()
                    .map(|case| case.refusal(rule, condition, &action.handler));
                Ok(refusals
                    .filter(|refusal| refusal.when != Matcher::Never)
                    .collect())
            }
        }
    }

    fn listed(&self, list: &List, value: &Expression) -> Result<Vec<Case>, Reason> {
        if !is_plain(value.root()) {
            return Err(Reason::Function("the value that is looked up"));
        }
        let cases = self.cases(value.root())?;
        let mut out = Vec::new();
        for (guard, term) in cases.values {
            out.extend(in_list(list, &guard, &term)?);
        }
        if cases.absent != Matcher::Never {
            out.push(Case {
                when: cases.absent,
                code: Code::INTERNAL,
                message: (absence(value.root()).to_string(), None, ""),
            });
        }
        Ok(out)
    }
}

impl Case {
    fn refusal(self, rule: &str, condition: &Matcher, handler: &str) -> Refusal {
        let (before, value, behind) = self.message;
        let mut body = vec![BodyPart::Text(format!("{}:{handler}:{before}", self.code.name()))];
        body.extend(value);
        if !behind.is_empty() {
            body.push(BodyPart::Text(behind.to_owned()));
        }
        Refusal {
            rule: rule.to_owned(),
            when: condition.and(&self.when),
            http_status: self.code.http(),
            body,
            headers: Vec::new(),
        }
    }
}

/// A refusal whose answer does not depend on the request.
fn fixed(rule: &str, when: Matcher, handler: &str, denial: &Denial) -> Refusal {
    let verdict = Verdict::denied(handler, denial);
    Refusal {
        rule: rule.to_owned(),
        when,
        http_status: verdict.http_status,
        body: vec![BodyPart::Text(verdict.body)],
        headers: verdict.response_headers,
    }
}

/// Whether all that can go wrong with a value is that it is absent in a way that `|` mends.
pub(super) fn is_plain(node: &Node) -> bool {
    match node {
        Node::Constant(..) | Node::Attribute(..) | Node::Index(..) => true,
        Node::Fallback(left, right) => is_plain(left) && is_plain(right),
        // The same for every request; what is malformed has no cases.
        Node::Call(Builtin::Ip, arguments) => matches!(arguments.as_slice(), [Node::Constant(..)]),
        _ => false,
    }
}

/// The error of a value that is absent: it names what is missing last in a chain of fallbacks (as `expr` does).
fn absence(node: &Node) -> EvalError {
    let name = |node: &Node| match node {
        Node::Attribute(name, _) => name.clone(),
        _ => "the map".to_owned(),
    };
    match node {
        Node::Fallback(_, right) => absence(right),
        Node::Index(map, key) => EvalError::AbsentEntry {
            map: name(map),
            key: match &**key {
                Node::Constant(Value::Text(key), _) => key.to_string(),
                _ => "…".to_owned(),
            },
        },
        node => EvalError::Absent { name: name(node) },
    }
}

/// What a list has against a value, where the value is the term under the guard.
fn in_list(list: &List, guard: &Matcher, term: &Term<'_>) -> Result<Vec<Case>, Reason> {
    if let Term::Known(value) = term {
        let shown = value.to_string();
        let case = list.denial(&shown).map(|denial| Case {
            when: guard.clone(),
            code: denial.code,
            message: (denial.message, None, ""),
        });
        return Ok(case.into_iter().collect());
    }
    let (entries, blacklist) = list.parts();
    let found = among(entries, term)?;
    let (code, behind, when) = match blacklist {
        true => (
            Code::PERMISSION_DENIED,
            " is blacklisted",
            Matcher::any(found.iter().map(|(_, m)| m.clone())),
        ),
        false => (
            Code::NOT_FOUND,
            " is not whitelisted",
            Matcher::any(found.iter().map(|(_, m)| m.clone())).negated(),
        ),
    };
    if let Some(value) = printed(term) {
        return Ok(vec![Case {
            when: guard.and(&when),
            code,
            message: (String::new(), Some(value), behind),
        }]);
    }
    // What is on the list is its own value.
    if let (true, Entries::Strings(_)) = (blacklist, entries) {
        let case = |(entry, when): (String, Matcher)| Case {
            when: guard.and(&when),
            code,
            message: (format!("{entry}{behind}"), None, ""),
        };
        return Ok(found.into_iter().map(case).collect());
    }
    Err(Reason::Unprintable("a part of the caller's identity"))
}

/// The entries of a list, and when a value is each.
fn among(entries: &Entries, term: &Term<'_>) -> Result<Vec<(String, Matcher)>, Reason> {
    if entries.len() > super::MAX_SIZE {
        return Err(Reason::Large);
    }
    let subject = match (term, entries) {
        (Term::SourceIp, Entries::Addresses(networks)) => {
            return Ok(vec![(String::new(), Matcher::SourceIp(networks.clone()))]);
        }
        (Term::SourceIp, _) => return Err(Reason::Type(expr::ValueType::IpAddress)),
        (Term::Text(_), Entries::Addresses(_)) => return Err(Reason::Malformed("the address")),
        (Term::Text(subject), _) => subject,
        (Term::Known(_), _) => return Err(Reason::TwoValues),
    };
    let tests: Vec<(String, Option<Test>)> = match entries {
        Entries::Strings(all) => all
            .iter()
            .map(|e| (e.clone(), Some(Test::Exact(e.clone()))))
            .collect(),
        Entries::CaseInsensitive(all) => {
            let test = |e: &String| Ok((e.clone(), lower_case(e)?));
            all.iter().map(test).collect::<Result<_, Reason>>()?
        }
        Entries::Regex(set) => {
            let test = |p: &String| Ok((p.clone(), Some(Test::Regex(pattern::within(p)?))));
            set.patterns().iter().map(test).collect::<Result<_, Reason>>()?
        }
        Entries::Addresses(_) => Vec::new(),
    };
    let mut out = Vec::new();
    for (entry, test) in tests {
        if let Some(test) = test {
            out.push((entry, subject.passes(test)?));
        }
    }
    Ok(out)
}

/// How a proxy prints the value.
pub(super) fn printed(term: &Term<'_>) -> Option<BodyPart> {
    let fact = match term {
        Term::Known(value) => return Some(BodyPart::Text(value.to_string())),
        Term::SourceIp => return Some(BodyPart::SourceIp),
        Term::Text(Subject::Header(name)) => Fact::Header(name.clone()),
        Term::Text(Subject::Pseudo(name)) => Fact::Header((*name).to_owned()),
        Term::Text(Subject::UrlPath) => Fact::UrlPath,
        Term::Text(_) => return None,
    };
    Some(BodyPart::Fact(fact))
}
