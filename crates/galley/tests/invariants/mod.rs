//! What must hold whatever bytes are sent to the admission webhook; for the property test and the target in `fuzz/`.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a broken promise ends the test"
)]

use galley::webhook::review::{Reviewed, answer};
use serde_json::{Value, json};

/// Bytes as the body of a request.
pub fn review(bytes: &[u8]) {
    if let Ok(reviewed) = answer(bytes) {
        answered(&reviewed);
    }
    // As an object in a review that is well-formed: the webhook's own rules are reached.
    let Ok(object) = serde_json::from_slice::<Value>(bytes) else {
        return;
    };
    for operation in ["CREATE", "UPDATE", "DELETE"] {
        let body = around(&object, operation);
        if let Ok(reviewed) = answer(body.to_string().as_bytes()) {
            answered(&reviewed);
            let deleted = operation == "DELETE";
            assert!(
                !deleted || reviewed.verdict.refused.is_none(),
                "a deletion was refused"
            );
        }
    }
}

/// A review of that object, whose kind is what the object says.
fn around(object: &Value, operation: &str) -> Value {
    let api_version = object["apiVersion"].as_str().unwrap_or_default();
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "u", "operation": operation, "namespace": "shop",
        "kind": {"group": group, "version": version, "kind": object["kind"].as_str().unwrap_or_default()},
        "object": object, "oldObject": object,
    }})
}

/// The answer is one that an API server takes, and a refusal says why.
fn answered(reviewed: &Reviewed) {
    let answer: Value = serde_json::from_slice(&reviewed.answer).expect("an answer is JSON");
    let response = &answer["response"];
    assert_eq!(answer["kind"], "AdmissionReview");
    assert_eq!(response["uid"], reviewed.request.uid);
    let allowed = response["allowed"].as_bool().expect("a verdict");
    assert_eq!(allowed, reviewed.verdict.refused.is_none());
    let message = response["status"]["message"].as_str().unwrap_or_default();
    assert!(allowed || !message.is_empty(), "refused without a reason");
}
