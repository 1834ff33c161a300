//! What is wrong with an expression, for people.

use thiserror::Error;

/// Why an expression is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the regular expression is refused at character {at}: {problem}")]
pub struct Fault {
    /// Place of the first character that is wrong, counted in characters from 1.
    pub at: usize,
    /// What is wrong there.
    pub problem: Problem,
}

/// The rule that is broken, and the way out.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Problem {
    /// `(` without `)`.
    #[error("the group that ( opens has no ); write \\( for the character")]
    MissingParenthesis,
    /// `)` without `(`.
    #[error("there is no ( before this ); write \\) for the character")]
    UnexpectedParenthesis,
    /// `[` without `]`.
    #[error("the class that [ opens has no ]; write \\[ for the character")]
    MissingBracket,
    /// An operator at the start of the expression, of a group or of an alternative.
    #[error("{0} has nothing before it to repeat; write \\{0} for the character")]
    NothingToRepeat(String),
    /// `a**`, `a++`, `a{2}{3}`.
    #[error(
        "{0}: a repetition must not follow another; possessive ones (a++) do not exist, else write (?:…) around the first"
    )]
    DoubleRepetition(String),
    /// `a{1001}`, `a{2,1}`, `(a{100}){100}`.
    #[error(
        "{0}: counts must rise, be at most 1000, and multiply to at most 1000 where one repetition is within another"
    )]
    RepetitionSize(String),
    /// `\y`, `\1`, `\u0041`.
    #[error(
        "{0} is no escape; bytes are \\x00 to \\xFF, other characters stand for themselves, and references to groups (\\1) do not \
         exist"
    )]
    Escape(String),
    /// `\` at the end.
    #[error("nothing follows \\; write \\\\ for the character")]
    TrailingBackslash,
    /// `[z-a]`.
    #[error("{0} is a range whose end is before its start")]
    Range(String),
    /// `[[:foo:]]`.
    #[error("{0} is no class; ASCII classes are like [[:alpha:]]")]
    ClassName(String),
    /// `\p{Foo}`.
    #[error(
        "{0} is no Unicode class; there are categories (\\p{{Lu}}), scripts (\\p{{Greek}}) and \\p{{Any}}"
    )]
    Property(String),
    /// `(?=x)`, `(?x)`.
    #[error(
        "{0} is not supported; there are (?:…), (?P<name>…) and the flags i, m, s, U, but no look-around"
    )]
    Group(String),
    /// `(?P<a-b>x)`.
    #[error("{0} is no name of a group; use ASCII letters, digits and _")]
    GroupName(String),
    /// `\C`.
    #[error("\\C (any byte) is refused by Istio's validation; use (?s:.) for any character")]
    AnyByte,
    /// Too many instructions.
    #[error(
        "its program has about {0} instructions, more than the 32768 that a proxy takes; lower the counts of its repetitions, or \
         write narrower classes"
    )]
    TooLarge(usize),
}
