//! A part of an expression as CEL: its value, and when it has one. CEL's own errors are never relied on: its `&&` and `||` pass
//! over them, which Mixer's do not.

use expr::{Value, ValueType};

use super::{Reason, Text};
use crate::cel::literal;

/// Longest CEL of one expression, in bytes; proxies evaluate it for every request.
const MAX_LENGTH: usize = 8 * 1024;

/// A condition on a finished request.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum When {
    Always,
    Never,
    If(String),
}

impl When {
    pub(super) fn and(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::Never, _) | (_, Self::Never) => Self::Never,
            (Self::Always, when) | (when, Self::Always) => when.clone(),
            (Self::If(a), Self::If(b)) if a == b => self.clone(),
            (Self::If(a), Self::If(b)) => Self::If(format!("({a} && {b})")),
        }
    }

    pub(super) fn or(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::Always, _) | (_, Self::Always) => Self::Always,
            (Self::Never, when) | (when, Self::Never) => when.clone(),
            (Self::If(a), Self::If(b)) => Self::If(format!("({a} || {b})")),
        }
    }

    /// `yes` where `condition` holds, else `no`.
    pub(super) fn choose(condition: &str, yes: &Self, no: &Self) -> Self {
        if yes == no {
            return yes.clone();
        }
        Self::If(format!("({condition} ? {} : {})", yes.cel(), no.cel()))
    }

    /// As CEL.
    pub(super) fn cel(&self) -> &str {
        match self {
            Self::Always => "true",
            Self::Never => "false",
            Self::If(cel) => cel,
        }
    }
}

/// What a part is worth.
#[derive(Clone, Debug)]
pub(super) enum Worth<'a> {
    /// This for every request.
    Known(Value<'a>),
    /// What CEL gives.
    Cel(String),
    /// Something that proxies write, but cannot compute with.
    Whole(Text, &'static str),
}

/// A part of an expression.
#[derive(Clone, Debug)]
pub(super) struct Part<'a> {
    pub(super) worth: Worth<'a>,
    /// When it has a value.
    pub(super) present: When,
    /// Whether a missing value is an error, which `|` does not mend.
    pub(super) strict: bool,
    /// Whether a client writes it, as long as it likes.
    pub(super) free: bool,
}

impl<'a> Part<'a> {
    pub(super) fn new(worth: Worth<'a>, present: When) -> Self {
        Self {
            worth,
            present,
            strict: false,
            free: false,
        }
    }

    pub(super) fn known(value: Value<'a>) -> Self {
        Self::new(Worth::Known(value), When::Always)
    }

    pub(super) fn absent() -> Self {
        Self::new(Worth::Known(Value::from("")), When::Never)
    }

    /// CEL that has a value for every request.
    pub(super) fn always(cel: impl Into<String>) -> Self {
        Self::new(Worth::Cel(cel.into()), When::Always)
    }

    /// A value that is there under a condition.
    pub(super) fn under(cel: impl Into<String>, present: impl Into<String>) -> Self {
        Self::new(Worth::Cel(cel.into()), When::If(present.into()))
    }

    /// What a client writes, where it is there and not empty.
    pub(super) fn written(cel: &str, present: &str) -> Self {
        let present = format!("({present} && {cel} != '')");
        Self {
            free: true,
            ..Self::under(cel, present)
        }
    }

    /// An operator's result, whose absence is an error.
    pub(super) fn computed(cel: String, present: When) -> Self {
        Self {
            strict: true,
            ..Self::new(Worth::Cel(cel), present)
        }
    }

    pub(super) fn truth(truth: bool, present: When) -> Self {
        Self {
            strict: true,
            ..Self::new(Worth::Known(Value::Bool(truth)), present)
        }
    }

    /// The truth that it is for every request.
    pub(super) fn known_truth(&self) -> Option<bool> {
        match self.worth {
            Worth::Known(Value::Bool(truth)) => Some(truth),
            _ => None,
        }
    }

    /// Its value as CEL.
    pub(super) fn cel(&self) -> Result<String, Reason> {
        match &self.worth {
            Worth::Known(value) => constant(value),
            Worth::Cel(cel) => Ok(cel.clone()),
            Worth::Whole(_, name) => Err(Reason::Unlogged((*name).to_owned())),
        }
    }

    /// Its value as text.
    pub(super) fn text(&self) -> Result<Text, Reason> {
        match &self.worth {
            Worth::Known(Value::Text(text)) => Ok(Text::Fixed(text.to_string())),
            Worth::Whole(text, _) => Ok(text.clone()),
            _ => Ok(Text::Cel(self.cel()?)),
        }
    }

    /// Refuses what would take proxies long to evaluate.
    pub(super) fn bounded(self) -> Result<Self, Reason> {
        let value = match &self.worth {
            Worth::Cel(cel) => cel.len(),
            _ => 0,
        };
        match value + self.present.cel().len() {
            length if length > MAX_LENGTH => Err(Reason::Long),
            _ => Ok(self),
        }
    }
}

/// A constant as CEL.
fn constant(value: &Value<'_>) -> Result<String, Reason> {
    Ok(match value {
        Value::Text(text) => literal(text),
        Value::Int(number) => number.to_string(),
        Value::Bool(truth) => truth.to_string(),
        Value::Duration(nanos) => {
            let (sign, nanos) = (if *nanos < 0 { "-" } else { "" }, nanos.unsigned_abs());
            let (whole, rest) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
            format!("duration('{sign}{whole}.{rest:09}s')")
        }
        Value::Double(_) => return Err(Reason::Type(ValueType::Double)),
        Value::Timestamp(_) => return Err(Reason::Type(ValueType::Timestamp)),
        Value::Ip(_) => return Err(Reason::Type(ValueType::IpAddress)),
        Value::Map(_) => return Err(Reason::Type(ValueType::StringMap)),
    })
}
