//! Why an expression was not compiled, or has no value.

use crate::value::ValueType;

/// Why an expression was not compiled. Each is the author's to mend; the text says where and how.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// The text is longer than [`crate::MAX_LENGTH`].
    #[error("the expression is {length} bytes long, more than {limit}; split it into several rules")]
    TooLong {
        /// Bytes.
        length: usize,
        /// Bytes.
        limit: usize,
    },
    /// The text nests deeper than [`crate::MAX_DEPTH`].
    #[error("the expression nests deeper than {limit} levels; split it into several rules")]
    TooDeep {
        /// Levels.
        limit: usize,
    },
    /// The text is not an expression.
    #[error("column {column}: {problem}")]
    Syntax {
        /// Column of the offending character, counted from 1 in characters.
        column: usize,
        /// What is wrong.
        problem: String,
    },
    /// A part of a CEL expression whose type does not suit its place, or that Mixer's CEL does not have.
    #[error("column {column}: {problem}")]
    Mismatch {
        /// Column where the part begins, counted from 1 in characters.
        column: usize,
        /// What is wrong.
        problem: String,
    },
    /// No such attribute in the vocabulary.
    #[error("unknown attribute {name}{}", nearest.as_ref().map(|n| format!("; did you mean {n}?")).unwrap_or_default())]
    UnknownAttribute {
        /// The name as written.
        name: String,
        /// The nearest name that exists.
        nearest: Option<String>,
    },
    /// No such function.
    #[error(
        "unknown function {name}; the language has {}",
        crate::builtin::FUNCTION_NAMES
    )]
    UnknownFunction {
        /// The name as written.
        name: String,
    },
    /// An operator of Go's that the language does not have.
    #[error("the language has no operator {operator}{}", if operator == "!" { "; write \"x == false\"" } else { "" })]
    UnknownOperator {
        /// The operator as written.
        operator: String,
    },
    /// A function called as a method, or the other way round.
    #[error("{name} is called as {right}, not as {wrong}")]
    CallForm {
        /// The function.
        name: String,
        /// How it is called.
        right: &'static str,
        /// How it was called.
        wrong: &'static str,
    },
    /// Too few or too many arguments.
    #[error("{name} takes {expected} argument(s), but {found} are given")]
    Arity {
        /// The function.
        name: String,
        /// How many it takes.
        expected: usize,
        /// How many there are.
        found: usize,
    },
    /// An operand or argument of a wrong type.
    #[error("{what} is {found}, but must be {expected}{}", duration_hint(*found, *expected))]
    WrongType {
        /// Which operand or argument.
        what: String,
        /// The type that it must have.
        expected: ValueType,
        /// The type that it has.
        found: ValueType,
    },
    /// The operator is not defined for this type.
    #[error("{operator} is not defined for {ty}")]
    NotDefined {
        /// The operator.
        operator: &'static str,
        /// The operands' type.
        ty: ValueType,
    },
    /// A construct of Go's that is no part of the language, or an attribute of something that is not a name.
    #[error("{construct} is not part of the language{hint}")]
    Unsupported {
        /// What it is.
        construct: &'static str,
        /// What to do instead; empty, or begins with a semicolon.
        hint: &'static str,
    },
    /// A constant pattern of `matches` that is no regular expression of bounded size.
    #[error("pattern {pattern:?}: {problem}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// Why not.
        problem: String,
    },
}

impl CompileError {
    /// Where in `text` the fault is: the column, counted from 1 in characters. For an unknown name, where it first stands;
    /// `None` for faults of the whole.
    pub fn column(&self, text: &str) -> Option<usize> {
        let first = |part: &str| {
            let (before, _) = text.split_once(part)?;
            Some(before.chars().count() + 1)
        };
        match self {
            Self::Syntax { column, .. } | Self::Mismatch { column, .. } => Some(*column),
            Self::UnknownAttribute { name, .. }
            | Self::UnknownFunction { name }
            | Self::CallForm { name, .. }
            | Self::Arity { name, .. } => first(name),
            Self::Pattern { pattern, .. } => first(pattern),
            Self::UnknownOperator { operator } => first(operator),
            Self::NotDefined { operator, .. } => first(operator),
            Self::TooLong { .. }
            | Self::TooDeep { .. }
            | Self::WrongType { .. }
            | Self::Unsupported { .. } => None,
        }
    }
}

fn duration_hint(found: ValueType, expected: ValueType) -> &'static str {
    let hint = "; note that a literal such as \"0\" or \"5s\" is a DURATION";
    match (found, expected) {
        (ValueType::Duration, ValueType::String) | (ValueType::String, ValueType::Duration) => hint,
        _ => "",
    }
}

/// Why an expression has no value for a bag.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    /// The bag lacks the attribute, and nothing stands behind `|`.
    #[error("attribute {name} is absent")]
    Absent {
        /// The attribute.
        name: String,
    },
    /// The bag does not know yet whether there is such an attribute.
    #[error("attribute {name} is not known yet")]
    Unknown {
        /// The attribute.
        name: String,
    },
    /// The map lacks the entry, and nothing stands behind `|`.
    #[error("{map} has no entry {key:?}")]
    AbsentEntry {
        /// The map's attribute, or "the map".
        map: String,
        /// The key.
        key: String,
    },
    /// The bag holds a value of another type than the vocabulary says: the bag's maker is at fault.
    #[error("the value of {name} is not {expected}")]
    WrongType {
        /// The attribute.
        name: String,
        /// What the vocabulary says.
        expected: ValueType,
    },
    /// Text that `ip`, `timestamp`, `dnsName`, `email` or `uri` cannot convert.
    #[error("{text:?} is no {to}: {reason}")]
    Conversion {
        /// The text.
        text: String,
        /// What it should be.
        to: ValueType,
        /// Why it is not.
        reason: &'static str,
    },
    /// A CEL expression's evaluation failed.
    #[error("{problem}")]
    Cel {
        /// Why.
        problem: String,
    },
    /// A computed pattern of `matches` that is no regular expression of bounded size.
    #[error("pattern {pattern:?}: {problem}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// Why not.
        problem: String,
    },
}

impl EvalError {
    /// Whether the error says that something was absent, as opposed to malformed.
    pub fn is_absence(&self) -> bool {
        matches!(self, Self::Absent { .. } | Self::AbsentEntry { .. })
    }
}
