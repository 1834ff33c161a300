//! Regular expressions as proxies read them: RE2's syntax (<https://github.com/google/re2/wiki/Syntax>).
//!
//! An expression is good when both Envoy (RE2) and Istio's validation (Go's `regexp`) take it. It is also written down again
//! for Rust's `regex`, so that what runs here means what it means in a proxy: RE2's `\d`, `\w`, `\s` and `\b` are ASCII.
//! Time is linear in the expression's length; what uses the crate bounds that length. It knows nothing of what is matched.

mod class;
mod cursor;
mod fault;
mod parser;
mod property;
mod size;

pub use fault::{Fault, Problem};

/// Most instructions of a program: what proxies of the mesh are told (`re2.max_program_size.error_level` in their
/// bootstraps, as Istio has it).
pub const MAX_INSTRUCTIONS: usize = 32_768;

/// An expression that is fine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expression {
    rust: String,
    instructions: usize,
    groups: usize,
}

impl Expression {
    /// The same in the syntax of Rust's `regex`, for texts that are UTF-8. Groups keep their numbers and lose their names.
    #[must_use]
    pub fn rust(&self) -> &str {
        &self.rust
    }

    /// How many instructions RE2's program has, or somewhat more.
    #[must_use]
    pub fn instructions(&self) -> usize {
        self.instructions
    }

    /// How many groups capture, the whole text not counted: `\1` to `\N` may be named in a substitution.
    #[must_use]
    pub fn groups(&self) -> usize {
        self.groups
    }
}

/// Reads an expression that somebody wrote.
///
/// # Errors
/// When Envoy or Istio would refuse it: its place, the rule and the way out.
pub fn parse(expression: &str) -> Result<Expression, Fault> {
    parser::parse(expression, false)
}

/// As [`parse`], with `\C` (any byte), which RE2 has and Go has not: for expressions that a proxy has taken already. Over
/// UTF-8 it is read as any character.
///
/// # Errors
/// When Envoy would refuse it.
pub fn parse_of_proxy(expression: &str) -> Result<Expression, Fault> {
    parser::parse(expression, true)
}

#[cfg(test)]
mod tests;
