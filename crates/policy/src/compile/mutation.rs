//! Header operations of rules, as changes that the proxy makes by itself.
//!
//! Mixer finds all values on the request as it came, and gives them when no rule refuses. So a proxy has to find them before
//! anything changes a header, and to make the changes after the last check.

use std::collections::BTreeSet;

use config::mixer::HeaderOperation;

use super::Compiler;
use super::attribute::Environment;
use super::expression::Term;
use super::matcher::{Fact, Matcher};
use super::reason::Reason;
use super::refusal::{BodyPart, printed};
use crate::header::Operation;
use crate::rules::Rule;

/// A change of a header that the proxy itself makes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Mutation {
    /// The header, in lower case.
    pub header: String,
    /// Whether it is the response's.
    pub on_response: bool,
    /// What is done.
    pub change: Change,
}

impl Mutation {
    /// The conditions of its values.
    pub fn conditions(&self) -> impl Iterator<Item = &Matcher> {
        let values = match &self.change {
            Change::Remove => None,
            Change::Replace(values) | Change::Append(values) => Some(&values.0),
        };
        values.into_iter().flatten().map(|(when, _)| when)
    }
}

/// What is done to a header.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    /// It is taken away from every request.
    Remove,
    /// It gets the value in the place of those that it has.
    Replace(Values),
    /// It gets the value beside those that it has.
    Append(Values),
}

/// A value for each of some conditions, which exclude each other and are about the request as it came. Where none of them
/// holds, or the value is empty, nothing is changed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Values(pub Vec<(Matcher, HeaderText)>);

/// What a header is set to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HeaderText {
    /// This text.
    Text(String),
    /// A text of the request; [`Fact::PeerUri`] in dimensions of quotas alone.
    Fact(Fact),
}

impl HeaderText {
    pub(super) fn of(term: &Term<'_>) -> Result<Self, Reason> {
        match printed(term) {
            Some(BodyPart::Text(text)) => Ok(Self::Text(text)),
            Some(BodyPart::Fact(fact)) => Ok(Self::Fact(fact)),
            Some(BodyPart::SourceIp) => Err(Reason::Type(expr::ValueType::IpAddress)),
            None => Err(Reason::Unprintable("a part of the caller's identity")),
        }
    }
}

/// Most values that a rule may have; each is evaluated for every request.
const MAX_VALUES: usize = 64;

impl Environment<'_> {
    /// The changes of one rule under its condition.
    pub(super) fn mutations(&self, rule: &Rule, condition: &Matcher) -> Result<Vec<Mutation>, Reason> {
        let requests = rule.request_headers.iter().map(|operation| (operation, false));
        let responses = rule.response_headers.iter().map(|operation| (operation, true));
        let mut mutations = Vec::new();
        for (operation, on_response) in requests.chain(responses) {
            for change in self.changes(operation, condition)? {
                mutations.push(Mutation {
                    header: operation.name.clone(),
                    on_response,
                    change,
                });
            }
        }
        let values = mutations.iter().map(|mutation| match &mutation.change {
            Change::Remove => 0,
            Change::Replace(values) | Change::Append(values) => values.0.len(),
        });
        match values.sum::<usize>() {
            count if count > MAX_VALUES => Err(Reason::Large),
            _ => Ok(mutations),
        }
    }

    fn changes(&self, operation: &Operation, condition: &Matcher) -> Result<Vec<Change>, Reason> {
        if *condition == Matcher::Never {
            return Ok(Vec::new());
        }
        if operation.operation == HeaderOperation::Remove {
            // Proxies have no removal under a condition.
            return match condition {
                Matcher::Always => Ok(vec![Change::Remove]),
                _ => Err(Reason::Removal(operation.name.clone())),
            };
        }
        let mut changes = Vec::new();
        for value in &operation.values {
            let mut values = Vec::new();
            // Where there is no value, the operation is left out.
            for (guard, term) in self.cases(value.root())?.values {
                let value = HeaderText::of(&term)?;
                let when = condition.and(&guard);
                if when != Matcher::Never && value != HeaderText::Text(String::new()) {
                    values.push((when, value));
                }
            }
            if values.is_empty() {
                continue;
            }
            changes.push(match operation.operation {
                HeaderOperation::Append => Change::Append(Values(values)),
                _ => Change::Replace(Values(values)),
            });
        }
        Ok(changes)
    }
}

/// Headers that Mixer's answers may change: `(of the response, name)`.
pub(super) type Changed = BTreeSet<(bool, String)>;

/// Which headers a rule changes.
pub(super) fn changed(rule: &Rule) -> impl Iterator<Item = (bool, String)> {
    let requests = rule
        .request_headers
        .iter()
        .map(|operation| (false, operation.name.clone()));
    let responses = rule
        .response_headers
        .iter()
        .map(|operation| (true, operation.name.clone()));
    requests.chain(responses)
}

impl Compiler<'_> {
    /// The headers that rules of Mixer's change. A rule that changes one of them too is Mixer's, so that the rules' order
    /// stays what it is; and so on, until none is left that does.
    pub(super) fn changed_by_mixer(&self, rules: &[&Rule]) -> Changed {
        let mut own: Vec<&Rule> = rules
            .iter()
            .copied()
            .filter(|rule| changed(rule).next().is_some())
            .collect();
        let mut by_mixer = Changed::new();
        loop {
            let before = by_mixer.len();
            own.retain(|rule| {
                let native =
                    self.alone(rule).is_ok() && changed(rule).all(|header| !by_mixer.contains(&header));
                if !native {
                    by_mixer.extend(changed(rule));
                }
                native
            });
            if by_mixer.len() == before {
                return by_mixer;
            }
        }
    }
}
