//! What must hold whatever bytes come in. Each function takes any bytes and panics where a promise is broken; the property
//! tests feed them random bytes, the targets in `fuzz/` those that a fuzzer finds.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a broken promise ends the test; each user takes a part"
)]

mod draw;

use std::sync::Arc;

use config::{
    Finding, Kind, Object, Parsed, decode, legacy, parse, parse_mesh_config, parse_mesh_networks, read,
};
use serde_json::Value;

/// Most findings of one file, and the one that says that there are more.
const FINDINGS_OF_FILE: usize = 1001;
/// Most findings of one object.
const FINDINGS_OF_OBJECT: usize = 200;

/// Bytes as a file of YAML or JSON.
pub fn file(bytes: &[u8]) {
    let parsed = parse("x.yaml", bytes, "default");
    places(&parsed, bytes);
    parsed.objects.iter().for_each(travels);
    today(parsed.objects);
}

/// Bytes as the files of the mesh's settings.
pub fn settings(bytes: &[u8]) {
    for parsed in [
        parse_mesh_config("mesh.yaml", bytes, "istio-system"),
        parse_mesh_networks("mesh-networks.yaml", bytes, "istio-system"),
    ] {
        assert!(parsed.objects.len() <= 1);
        places(&parsed, bytes);
        parsed.objects.iter().for_each(travels);
    }
}

/// Bytes as JSON that an API server sends.
pub fn json(bytes: &[u8]) {
    if let Ok(value) = serde_json::from_slice::<Value>(bytes) {
        judged(&value);
    }
}

/// Bytes as choices: which kind, which of its fields, which values. What comes has the kind's structure but for an odd
/// value here and there, so that the kind's rules are reached.
pub fn object(bytes: &[u8]) {
    let (kind, value) = draw::object(bytes);
    judged(&value);
    // The file's way says the same as the API server's.
    let parsed = parse("x.json", value.to_string().as_bytes(), "default");
    assert_eq!(
        parsed.objects.len(),
        usize::from(decode(&value).is_ok()),
        "{kind}: {value}\n{:?}",
        parsed.findings
    );
}

/// What is said of one object.
fn judged(value: &Value) {
    let findings = match decode(value) {
        Ok((object, findings)) => {
            assert!(!object.meta.name.is_empty(), "{value}");
            assert!(!findings.iter().any(Finding::is_error), "{findings:?}");
            travels(&object);
            today(vec![object]);
            findings
        }
        Err(findings) => {
            assert!(
                findings.iter().any(Finding::is_error),
                "refused without a reason: {value}"
            );
            findings
        }
    };
    assert!(findings.len() <= FINDINGS_OF_OBJECT);
    for finding in &findings {
        assert!(!finding.message.is_empty());
    }
    read(value);
}

/// Findings are few, each has words, and a place that the file has.
fn places(parsed: &Parsed, bytes: &[u8]) {
    assert!(parsed.findings.len() <= FINDINGS_OF_FILE);
    // A carriage return alone ends a line too.
    let lines = bytes.iter().filter(|byte| b"\r\n".contains(byte)).count() + 1;
    for finding in &parsed.findings {
        assert!(!finding.message.is_empty());
        assert!(finding.origin.line as usize <= lines + 1, "{finding}");
    }
    let refused = !parsed.invalid.is_empty();
    assert!(!refused || parsed.has_errors(), "refused without a reason");
}

/// What is accepted comes out of the feed as it went in. Kinds for analysis alone do not travel.
fn travels(object: &Object) {
    if object.kind.is_for_analysis() {
        return;
    }
    let arrived = Object::from_feed(object.to_feed()).expect("what was accepted is accepted again");
    assert_eq!(arrived.spec, object.spec, "{}", object.key());
    assert_eq!(arrived.key(), object.key());
}

/// Kinds of Istio 1.4 find their translation, and it is acceptable.
fn today(objects: Vec<Object>) {
    let objects: Vec<Arc<Object>> = objects.into_iter().map(Arc::new).collect();
    let (translated, _) = legacy::translate(&objects, legacy::Mesh::default());
    for object in &translated {
        assert!(matches!(
            object.kind,
            Kind::AuthorizationPolicy | Kind::PeerAuthentication | Kind::RequestAuthentication
        ));
    }
}
