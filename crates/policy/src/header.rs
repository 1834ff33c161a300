//! Header operations of rules.

use config::mixer::{HeaderOperation, HeaderOperationTemplate};
use expr::{Attributes, Expression, ValueType, Vocabulary};

use crate::check::HeaderChange;
use crate::params::Problem;

/// A header operation with its values compiled.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    pub(crate) name: String,
    pub(crate) operation: HeaderOperation,
    pub(crate) values: Vec<Expression>,
}

/// Headers that the proxy itself relies on and that no rule may set.
fn is_protected(name: &str) -> bool {
    name.is_empty() || name.starts_with(':') || name == "host" || name.starts_with("x-envoy-")
}

impl Operation {
    pub(crate) fn new(
        template: &HeaderOperationTemplate,
        on_response: bool,
        vocabulary: &dyn Vocabulary,
    ) -> Result<Self, Problem> {
        let name = template.name.to_ascii_lowercase();
        if is_protected(&name)
            || !name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        {
            return Err(Problem::new(
                "name",
                format!("{:?} is no header that a rule may change", template.name),
            ));
        }
        if on_response && template.operation == HeaderOperation::Remove {
            return Err(Problem::new(
                "operation",
                "removing a response header is not served yet",
            ));
        }
        let mut values = Vec::new();
        for (i, text) in template.values.iter().enumerate() {
            let path = format!("values[{i}]");
            let value = Expression::compile(text, vocabulary).map_err(|e| Problem::new(&path, e))?;
            if value.ty() != ValueType::String {
                return Err(Problem::new(
                    path,
                    format!("is {}, but must be STRING", value.ty()),
                ));
            }
            values.push(value);
        }
        if values.is_empty() && template.operation != HeaderOperation::Remove {
            return Err(Problem::new("values", "is empty"));
        }
        Ok(Self {
            name,
            operation: template.operation,
            values,
        })
    }

    /// The changes for a request; a value that is absent or empty is left out, as in Istio.
    pub(crate) fn changes(&self, bag: &dyn Attributes, changes: &mut Vec<HeaderChange>) {
        if self.operation == HeaderOperation::Remove {
            changes.push(HeaderChange::Remove(self.name.clone()));
            return;
        }
        let values = self
            .values
            .iter()
            .filter_map(|value| value.eval(bag).ok())
            .map(|value| value.to_string());
        for value in values.filter(|value| !value.is_empty()) {
            let name = self.name.clone();
            changes.push(match self.operation {
                HeaderOperation::Append => HeaderChange::Append(name, value),
                _ => HeaderChange::Replace(name, value),
            });
        }
    }
}
