//! One message of analysis, and its form as a finding.

use std::cmp::Ordering;
use std::fmt;

use config::{Finding, ObjectKey, Origin, Severity};

use crate::Code;

/// What analysis says of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Which message it is.
    pub code: Code,
    /// The object that it is about; none when it is about the cluster.
    pub object: Option<ObjectKey>,
    /// The field; empty for the whole object.
    pub path: String,
    /// The message's words, gaps filled.
    pub text: String,
    /// Where the object, or the field, was written.
    pub origin: Origin,
}

impl Message {
    /// How bad it is.
    pub fn severity(&self) -> Severity {
        self.code.severity()
    }

    /// What it is about: `KIND NAMESPACE/NAME`, or `Cluster`.
    pub fn subject(&self) -> String {
        self.object
            .as_ref()
            .map_or_else(|| "Cluster".to_owned(), ToString::to_string)
    }

    /// The order in which people are told: the worst first, then by code, object, words and field.
    pub fn by_severity(&self, other: &Self) -> Ordering {
        let key = |m: &Self| (std::cmp::Reverse(m.severity()), m.code);
        key(self)
            .cmp(&key(other))
            .then_with(|| self.object.cmp(&other.object))
            .then_with(|| self.text.cmp(&other.text))
            .then_with(|| self.path.cmp(&other.path))
    }

    /// Whether the two say the same of the same field.
    pub(crate) fn repeats(&self, other: &Self) -> bool {
        (self.code, &self.object, &self.text, &self.path)
            == (other.code, &other.object, &other.text, &other.path)
    }
}

impl fmt::Display for Message {
    /// One line: `Error [IST0101] (Gateway shop/front front.yaml:3) words`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = level(self.severity());
        write!(f, "{level} [{}] ({}", self.code.id(), self.subject())?;
        if let Some(place) = place(&self.origin) {
            write!(f, " {place}")?;
        }
        write!(f, ") {}", self.text)
    }
}

/// A severity as `istioctl` writes it.
pub fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "Error",
        Severity::Warning => "Warning",
        Severity::Info => "Info",
    }
}

/// `FILE:LINE`; none for what comes from no file.
pub fn place(origin: &Origin) -> Option<String> {
    let file = origin.file.as_ref()?;
    Some(match origin.line {
        0 => file.to_string(),
        line => format!("{file}:{line}"),
    })
}

impl From<Message> for Finding {
    /// The finding begins with the code: `IST0101: …`.
    fn from(message: Message) -> Self {
        let text = format!("{}: {}", message.code.id(), message.text);
        let finding = Finding::new(message.severity(), text)
            .at(message.path)
            .help(message.code.help())
            .from(message.origin);
        match message.object {
            Some(object) => finding.of(object),
            None => finding,
        }
    }
}
