//! Short ways to make the findings that cross-object rules give.

use config::{Finding, ObjectKey};

/// Something that will not work as its author meant.
pub(crate) fn warning(object: &ObjectKey, path: impl Into<String>, message: impl Into<String>) -> Finding {
    Finding::warning(message.into())
        .at(path.into())
        .of(object.clone())
}
