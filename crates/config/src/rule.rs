//! The expressions of a Mixer rule, compiled: its predicate, and the values of its header operations.

use expr::{Expression, ValueType, Vocabulary};

use crate::adapters::Problem;
use crate::mixer::{HeaderOperation, HeaderOperationTemplate};

/// A rule's predicate; none for an empty one, which always holds.
///
/// # Errors
/// At `match`: the text is no expression, or none of type BOOL.
pub fn predicate(text: &str, vocabulary: &dyn Vocabulary) -> Result<Option<Expression>, Problem> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    let expression =
        Expression::compile(text, vocabulary).map_err(|error| Problem::expression("match", &error))?;
    match expression.ty() {
        ValueType::Bool => Ok(Some(expression)),
        ty => Err(Problem::new("match", format!("is {ty}, but must be BOOL"))),
    }
}

/// Headers that the proxy itself relies on and that no rule may set.
fn is_protected(name: &str) -> bool {
    name.is_empty() || name.starts_with(':') || name == "host" || name.starts_with("x-envoy-")
}

/// The values of a header operation.
///
/// # Errors
/// At the operation's field: a header that no rule may change, or a value that is no expression of type STRING.
pub fn header_values(
    template: &HeaderOperationTemplate,
    vocabulary: &dyn Vocabulary,
) -> Result<Vec<Expression>, Problem> {
    let name = template.name.to_ascii_lowercase();
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    if is_protected(&name) || !name.bytes().all(is_token) {
        let message = format!("{:?} is no header that a rule may change", template.name);
        return Err(Problem::new("name", message));
    }
    if template.values.is_empty() && template.operation != HeaderOperation::Remove {
        return Err(Problem::new("values", "at least one value is needed"));
    }
    let values = template.values.iter().enumerate();
    values
        .map(|(i, text)| header_value(i, text, vocabulary))
        .collect()
}

fn header_value(index: usize, text: &str, vocabulary: &dyn Vocabulary) -> Result<Expression, Problem> {
    let path = format!("values[{index}]");
    let value =
        Expression::compile(text, vocabulary).map_err(|error| Problem::expression(path.clone(), &error))?;
    match value.ty() {
        ValueType::String => Ok(value),
        ty => Err(Problem::new(path, format!("is {ty}, but must be STRING"))),
    }
}
