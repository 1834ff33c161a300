//! Header operations of rules.

use config::adapters::Problem;
use config::mixer::{HeaderOperation, HeaderOperationTemplate};
use config::rule::header_values;
use expr::{Attributes, Expression, Vocabulary};

use crate::check::HeaderChange;

/// A header operation with its values compiled.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    pub(crate) name: String,
    pub(crate) operation: HeaderOperation,
    pub(crate) values: Vec<Expression>,
}

impl Operation {
    pub(crate) fn new(
        template: &HeaderOperationTemplate,
        on_response: bool,
        vocabulary: &dyn Vocabulary,
    ) -> Result<Self, Problem> {
        if on_response && template.operation == HeaderOperation::Remove {
            return Err(Problem::new(
                "operation",
                "removing a response header is not served yet",
            ));
        }
        Ok(Self {
            name: template.name.to_ascii_lowercase(),
            operation: template.operation,
            values: header_values(template, vocabulary)?,
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
