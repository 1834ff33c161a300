//! What an analyzer is, and what it reports into.

use std::fmt::Display;

use config::{Kind, Object, Origin};

use crate::{Code, Message, Set};

/// How an analyzer looks at a mesh. The smaller its look, the less runs again after a change: what it reads beside is noted
/// by the [`Set`] meanwhile.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Check {
    /// At each object of these kinds by itself.
    Each(&'static [Kind], fn(&Set<'_>, &Object, &mut Report)),
    /// At the objects of a kind together that are in one namespace.
    Namespace(Kind, fn(&Set<'_>, &str, &mut Report)),
    /// At everything at once.
    Mesh(fn(&Set<'_>, &mut Report)),
}

/// One check over several objects.
#[derive(Clone, Copy, Debug)]
pub struct Analyzer {
    /// Its name, as in Istio's sources (`gateway.SecretAnalyzer`).
    pub name: &'static str,
    /// The name by which `istioctl` lists it, where that is another one.
    pub alias: Option<&'static str>,
    /// What it checks, in a line.
    pub about: &'static str,
    /// The messages that it may give.
    pub codes: &'static [Code],
    /// The kinds whose objects it reads. A change of others cannot change what it says.
    pub inputs: &'static [Kind],
    /// Whether it also reads the time.
    pub clock: bool,
    /// Whether it also reads [`crate::Facts`] about the cluster.
    pub facts: bool,
    /// The check.
    pub(crate) check: Check,
}

impl Analyzer {
    /// One that reads objects and nothing else.
    pub(crate) const fn new(
        name: &'static str,
        about: &'static str,
        codes: &'static [Code],
        inputs: &'static [Kind],
        check: Check,
    ) -> Self {
        Self {
            name,
            alias: None,
            about,
            codes,
            inputs,
            clock: false,
            facts: false,
            check,
        }
    }

    /// With the name that `istioctl` has for it.
    pub(crate) const fn alias(mut self, alias: &'static str) -> Self {
        self.alias = Some(alias);
        self
    }

    /// One that reads the time too.
    pub(crate) const fn by_clock(mut self) -> Self {
        self.clock = true;
        self
    }

    /// One that reads facts about the cluster too.
    pub(crate) const fn by_facts(mut self) -> Self {
        self.facts = true;
        self
    }

    /// Whether this is one of its names.
    pub fn is_named(&self, name: &str) -> bool {
        self.name == name || self.alias == Some(name)
    }

    /// Whether it cannot be asked while these kinds are not seen: it would take them for absent.
    pub(crate) fn is_blind(&self, unseen: &[Kind]) -> bool {
        self.inputs.iter().any(|kind| unseen.contains(kind))
    }
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
            object: Some(object.key()),
            path: path.into(),
            text: code.text(args),
            origin: object.origin.clone(),
        });
    }

    /// Says `code` of the cluster as a whole.
    pub(crate) fn say_of_cluster(&mut self, code: Code, args: &[&dyn Display]) {
        self.messages.push(Message {
            code,
            object: None,
            path: String::new(),
            text: code.text(args),
            origin: Origin::default(),
        });
    }
}
