//! The one way from JSON to a typed object: structure first, then the kind's own rules.

use serde_json::{Map, Value};

use crate::{Finding, Kind, Meta, ObjectKey, Spec};

/// The typed body of an object of `kind`; `body` is the object's JSON, of which apiVersion, kind and metadata are ignored.
///
/// # Errors
/// All that is wrong with it; warnings are given beside the result or with the errors.
pub(crate) fn body(
    kind: Kind,
    meta: &Meta,
    body: &Map<String, Value>,
) -> Result<(Spec, Vec<Finding>), Vec<Finding>> {
    let key = ObjectKey::new(kind, &*meta.namespace, &*meta.name);
    let value = match kind.under_spec() {
        true => body.get("spec").cloned().unwrap_or(Value::Object(Map::new())),
        false => Value::Object(body.clone()),
    };
    match Spec::from_value(kind, value) {
        Ok(spec) => Ok((spec, Vec::new())),
        Err(error) => {
            let path = format!("spec.{}", error.path());
            Err(vec![
                Finding::error(error.into_inner().to_string()).of(key).at(path),
            ])
        }
    }
}
