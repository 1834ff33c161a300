//! A review as a function: the admission webhook but for sockets.

pub use admission::review::{Cause, Refused, Request, ReviewError, Reviewed, Verdict};

use super::judge::judge;

/// Answers a review.
///
/// # Errors
/// When the bytes are no review.
pub fn review(body: &[u8]) -> Result<Vec<u8>, ReviewError> {
    Ok(answer(body)?.answer)
}

/// As [`review`], with what was decided.
///
/// # Errors
/// When the bytes are no review.
pub fn answer(body: &[u8]) -> Result<Reviewed, ReviewError> {
    admission::review::answer(body, judge)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_refusal_is_a_status_with_causes() {
        let object = json!({"apiVersion": "networking.istio.io/v1", "kind": "Sidecar", "metadata": {"name": "x"}, "spec": {"egress": [{"hosts": ["./*"]}], "egres": []}});
        let body = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
            "uid": "u1", "operation": "CREATE", "name": "x", "namespace": "shop",
            "kind": {"group": "networking.istio.io", "version": "v1", "kind": "Sidecar"}, "object": object}});
        let bytes = review(&serde_json::to_vec(&body).unwrap()).unwrap();
        let answer: Value = serde_json::from_slice(&bytes).unwrap();
        let status = &answer["response"]["status"];
        assert_eq!(answer["response"]["allowed"], false);
        assert_eq!(status["code"], 400);
        assert_eq!(status["details"]["causes"][0]["field"], "spec.egres");
        let message = status["message"].as_str().unwrap();
        assert!(message.starts_with("Sidecar shop/x: spec.egres: "), "{message}");
        assert!(message.contains("egress"), "names the way out: {message}");
    }
}
