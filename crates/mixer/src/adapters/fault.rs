//! Why an adapter did not do what it was asked to.

use std::time::Duration;

/// Why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    /// Its backend cannot be reached, or cannot take it now: later it may.
    #[error("its backend does not answer: {0}")]
    Away(String),
    /// Its backend will never take this.
    #[error("{0}")]
    Refused(String),
    /// It took too long.
    #[error("no answer within {0:?}")]
    Late(Duration),
    /// A fault of the program.
    #[error("it panicked")]
    Panicked,
    /// As many calls as may be are under way.
    #[error("too many calls are under way")]
    Busy,
    /// It failed several times in a row and is left alone for a moment.
    #[error("it failed repeatedly and is left alone for a moment")]
    Resting,
}

impl Fault {
    /// For a metric's label.
    pub(crate) const fn reason(&self) -> &'static str {
        match self {
            Self::Away(_) => "away",
            Self::Refused(_) => "refused",
            Self::Late(_) => "late",
            Self::Panicked => "panicked",
            Self::Busy => "busy",
            Self::Resting => "resting",
        }
    }

    /// Whether the same may succeed later.
    pub(crate) const fn may_pass(&self) -> bool {
        !matches!(self, Self::Refused(_) | Self::Panicked)
    }
}
