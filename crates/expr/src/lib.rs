//! Mixer's expression language (CEXL) as Istio 1.4 speaks it, and CEL as a second one ([`cel`]): an expression is compiled
//! once against a [`Vocabulary`] of attribute types and then evaluated on bags of [`Attributes`].
//!
//! CEXL's grammar is that of Go's expressions, cut down: attribute names (`source.labels`), literals, `==`, `!=`, `<`,
//! `<=`, `>`, `>=`, `&&`, `||`, `+`, map lookup, function calls, and `|`, which falls back to its right side when
//! the left names an attribute that is absent. It knows nothing of rules, adapters or where attributes come from.
//!
//! ```
//! use expr::{Bag, Expression, STANDARD, Value};
//!
//! let expression = Expression::compile(r#"source.labels["app"] | "unknown""#, &STANDARD).unwrap();
//! assert_eq!(expression.eval(&Bag::default()).unwrap(), Value::from("unknown"));
//! ```

mod attributes;
mod builtin;
pub mod cel;
mod check;
pub mod corpus;
mod error;
mod eval;
mod functions;
mod lexer;
mod names;
mod parser;
mod value;
mod vocabulary;

pub use attributes::{Attributes, Bag, Reference, References, Use};
pub use builtin::Builtin;
pub use check::{Expression, Node};
pub use error::{CompileError, EvalError};
pub use functions::{compile_pattern, compile_whole, parse_duration, wildcard_match};
pub use value::{StringLookup, Timestamp, Value, ValueType};
pub use vocabulary::{LANGUAGE_ANNOTATION, Language, Manifest, STANDARD, Speaking, Standard, Vocabulary};

/// Longest expression that is compiled, in bytes.
pub const MAX_LENGTH: usize = 16 * 1024;
/// Deepest nesting of an expression; a chain of one operator nests once per operand.
pub const MAX_DEPTH: usize = 200;
/// Longest pattern that `matches` takes, in bytes.
pub const MAX_PATTERN: usize = 1024;
