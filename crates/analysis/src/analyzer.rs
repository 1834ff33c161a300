//! What an analyzer is, and what it reports into.

use std::fmt::Display;

use config::{Kind, Object};

use crate::{Code, Message, Set};

/// One check over several objects.
#[derive(Clone, Copy, Debug)]
pub struct Analyzer {
    /// Its name, as in Istio's sources (`gateway.SecretAnalyzer`).
    pub name: &'static str,
    /// The kinds whose objects it reads. A change of others cannot change what it says.
    pub inputs: &'static [Kind],
    /// The check.
    pub(crate) run: fn(&Set, &mut Report),
}

/// Collects what one analyzer says.
#[derive(Debug, Default)]
pub struct Report {
    pub(crate) messages: Vec<Message>,
}

impl Report {
    /// Says `code` of `object` at the field `path` (empty for the whole object), the template's gaps filled with `args`.
    pub(crate) fn say(
        &mut self,
        code: Code,
        object: &Object,
        path: impl Into<String>,
        args: &[&dyn Display],
    ) {
        self.messages.push(Message {
            code,
            object: object.key(),
            path: path.into(),
            text: code.text(args),
            origin: object.origin.clone(),
        });
    }
}
