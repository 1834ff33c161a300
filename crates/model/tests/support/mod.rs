//! What the tests share: snapshots of YAML.
#![allow(dead_code, reason = "each test uses its part")]

use std::sync::Arc;

use config::Object;
use model::Snapshot;

/// The objects of a text, which must be free of errors.
pub(crate) fn objects(text: &str) -> Vec<Arc<Object>> {
    let parsed = config::parse("test.yaml", text.as_bytes(), "default");
    let errors: Vec<_> = parsed
        .findings
        .iter()
        .filter(|f| f.is_error())
        .map(ToString::to_string)
        .collect();
    assert!(errors.is_empty(), "{errors:#?}");
    parsed.objects.into_iter().map(Arc::new).collect()
}

/// The mesh of a text.
pub(crate) fn snapshot(text: &str) -> Snapshot {
    Snapshot::build(objects(text))
}
