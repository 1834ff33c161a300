//! A rule's predicate.

use expr::{Attributes, EvalError, Expression, Value, ValueType, Vocabulary};

use crate::params::Problem;

/// When a rule applies. An attribute that is absent without a fallback makes it not apply, as in Istio.
#[derive(Clone, Debug)]
pub(crate) struct Condition(pub(crate) Option<Expression>);

impl Condition {
    pub(crate) fn new(text: &str, vocabulary: &dyn Vocabulary) -> Result<Self, Problem> {
        if text.trim().is_empty() {
            return Ok(Self(None));
        }
        let expression = Expression::compile(text, vocabulary).map_err(|e| Problem::new("match", e))?;
        match expression.ty() {
            ValueType::Bool => Ok(Self(Some(expression))),
            ty => Err(Problem::new("match", format!("is {ty}, but must be BOOL"))),
        }
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
