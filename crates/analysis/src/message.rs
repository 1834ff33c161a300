//! One message of analysis, and its form as a finding.

use config::{Finding, ObjectKey, Origin, Severity};

use crate::Code;

/// What analysis says of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Which message it is.
    pub code: Code,
    /// The object that it is about.
    pub object: ObjectKey,
    /// The field; empty for the whole object.
    pub path: String,
    /// The message's words, gaps filled.
    pub text: String,
    /// Where the object was written.
    pub origin: Origin,
}

impl Message {
    /// How bad it is.
    pub fn severity(&self) -> Severity {
        self.code.severity()
    }
}

impl From<Message> for Finding {
    /// The finding begins with the code: `IST0101: …`.
    fn from(message: Message) -> Self {
        Finding::new(
            message.severity(),
            format!("{}: {}", message.code.id(), message.text),
        )
        .of(message.object)
        .at(message.path)
        .help(message.code.help())
        .from(message.origin)
    }
}
