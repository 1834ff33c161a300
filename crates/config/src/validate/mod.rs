//! The rules that one object must keep by itself, beyond its structure: a file per kind, what several share in files of
//! its own. Everything that is wrong is reported, not the first only.

use crate::path::At;
use crate::{Kind, Meta, Spec};

/// Checks the body of an object.
pub(crate) fn spec(_kind: Kind, _meta: &Meta, _spec: &Spec, _at: &At<'_>) {}
