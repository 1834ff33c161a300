//! A rule's predicate.

use config::adapters::Problem;
use expr::{Attributes, EvalError, Expression, Value, Vocabulary};

/// When a rule applies. An attribute that is absent without a fallback makes it not apply, as in Istio.
#[derive(Clone, Debug)]
pub(crate) struct Condition(pub(crate) Option<Expression>);

impl Condition {
    pub(crate) fn new(text: &str, vocabulary: &dyn Vocabulary) -> Result<Self, Problem> {
        config::rule::predicate(text, vocabulary).map(Self)
    }

    /// Whether it holds; an error is one of malformed values, not of absence.
    pub(crate) fn holds(&self, bag: &dyn Attributes) -> Result<bool, EvalError> {
        let Some(expression) = &self.0 else {
            return Ok(true);
        };
        match expression.eval(bag) {
            Ok(value) => Ok(value == Value::Bool(true)),
            Err(error) if error.is_absence() => Ok(false),
            Err(error) => Err(error),
        }
    }
}
