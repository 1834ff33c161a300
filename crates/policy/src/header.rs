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
        vocabulary: &dyn Vocabulary,
    ) -> Result<Self, Problem> {
        Ok(Self {
            name: template.name.to_ascii_lowercase(),
            operation: template.operation,
            values: header_values(template, vocabulary)?,
        })
    }

    /// Adds the changes for a request; a value that is absent or empty is left out, as in Istio.
    ///
    /// # Errors
    /// Values with characters that no header may have, which are left out too: clients could add headers of their own by them.
    pub(crate) fn changes(
        &self,
        bag: &dyn Attributes,
        changes: &mut Vec<HeaderChange>,
    ) -> Result<(), String> {
        if self.operation == HeaderOperation::Remove {
            changes.push(HeaderChange::Remove(self.name.clone()));
            return Ok(());
        }
        let mut refused = 0;
        let values = self
            .values
            .iter()
            .filter_map(|value| value.eval(bag).ok())
            .map(|value| value.to_string());
        for value in values.filter(|value| !value.is_empty()) {
            if !is_field_value(&value) {
                refused += 1;
                continue;
            }
            let name = self.name.clone();
            changes.push(match self.operation {
                HeaderOperation::Append => HeaderChange::Append(name, value),
                _ => HeaderChange::Replace(name, value),
            });
        }
        match refused {
            0 => Ok(()),
            _ => Err(format!(
                "the header {}: {refused} values with control characters are left out",
                self.name
            )),
        }
    }
}

/// Whether a header may have this value (RFC 9110, section 5.5): no control characters but the tab.
fn is_field_value(text: &str) -> bool {
    !text.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t')
}
