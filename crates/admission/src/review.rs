//! Kubernetes' AdmissionReview (`admission.k8s.io/v1`) as it comes and as it is answered.
//!
//! It knows the envelope alone; what is said of an object is a [`crate::server::Judge`]'s.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::bounds::{self, TooMuch};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The only version that is spoken.
const API_VERSION: &str = "admission.k8s.io/v1";

/// Bytes that are no review; the API server treats the answer as a webhook that failed.
#[derive(Debug, thiserror::Error)]
pub enum ReviewError {
    /// Larger than is parsed.
    #[error(transparent)]
    TooMuch(#[from] TooMuch),
    /// Not JSON, or not a review.
    #[error("not an AdmissionReview: {0}")]
    Parse(#[from] serde_json::Error),
    /// Another kind or version.
    #[error("{api_version} {kind} is not served; register the webhook with admissionReviewVersions: [v1]")]
    Version {
        /// As received.
        api_version: String,
        /// As received.
        kind: String,
    },
    /// No request in it.
    #[error("the AdmissionReview has no request")]
    NoRequest,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    request: Option<Request>,
}

/// What the API server asks. Fields that no answer depends on are left out: `dryRun` (answering changes nothing),
/// `userInfo` (the same rules hold for everybody), `options`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Request {
    /// Returned in the answer.
    pub uid: String,
    /// The kind of `object`.
    pub kind: GroupVersionKind,
    /// Such as `status`; empty for the object itself.
    pub sub_resource: String,
    /// The object's name, as far as the API server knows it.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// `CREATE`, `UPDATE`, `DELETE` or `CONNECT`.
    pub operation: String,
    /// The object as it would be stored.
    pub object: Option<Value>,
    /// As it is stored, for `UPDATE` and `DELETE`.
    pub old_object: Option<Value>,
}

/// A kind in Kubernetes' writing.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct GroupVersionKind {
    /// Empty for the core group.
    pub group: String,
    /// Such as `v1`.
    pub version: String,
    /// Such as `VirtualService`.
    pub kind: String,
}

/// What is answered.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Why the object may not be stored; `None` when it may.
    pub refused: Option<Refused>,
    /// Shown to the user by kubectl. The API server cuts those of more than 256 characters.
    pub warnings: Vec<String>,
    /// A JSON patch (RFC 6902) for the object, as JSON; `None` leaves it as it is.
    pub patch: Option<Vec<u8>>,
}

/// Why an object may not be stored.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused {
    /// For people.
    pub message: String,
    /// For programs.
    pub causes: Vec<Cause>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    api_version: &'static str,
    kind: &'static str,
    response: Response<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Response<'a> {
    uid: &'a str,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status<'a>>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    warnings: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<String>,
}

/// Kubernetes' Status. `BadRequest` because kubectl shows the message of that one; of `Invalid` it shows the causes alone,
/// without the webhook's name and the file.
#[derive(Serialize)]
struct Status<'a> {
    status: &'static str,
    code: u16,
    reason: &'static str,
    message: &'a str,
    details: Details<'a>,
}

#[derive(Serialize)]
struct Details<'a> {
    group: &'a str,
    kind: &'a str,
    name: &'a str,
    causes: &'a [Cause],
}

/// One thing that is wrong, for programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cause {
    /// Kubernetes' word for the sort of fault.
    pub reason: &'static str,
    /// What is wrong, and the way out.
    pub message: String,
    /// The field's path.
    pub field: String,
}

/// A review, answered.
#[derive(Debug)]
pub struct Reviewed {
    /// The answer as JSON.
    pub answer: Vec<u8>,
    /// What was decided, for metrics and logs.
    pub verdict: Verdict,
    /// What it was about.
    pub request: Request,
}

/// Answers a review by what `judge` decides: the whole webhook but for sockets.
///
/// # Errors
/// When the bytes are no review.
pub fn answer(body: &[u8], judge: impl FnOnce(&mut Request) -> Verdict) -> Result<Reviewed, ReviewError> {
    bounds::check(body)?;
    let review: Review = serde_json::from_slice(body)?;
    if review.api_version != API_VERSION || review.kind != "AdmissionReview" {
        return Err(ReviewError::Version {
            api_version: review.api_version,
            kind: review.kind,
        });
    }
    let mut request = review.request.ok_or(ReviewError::NoRequest)?;
    let verdict = judge(&mut request);
    let answer = Answer {
        api_version: API_VERSION,
        kind: "AdmissionReview",
        response: Response {
            uid: &request.uid,
            allowed: verdict.refused.is_none(),
            status: verdict.refused.as_ref().map(|refused| Status {
                status: "Failure",
                code: 400,
                reason: "BadRequest",
                message: &refused.message,
                details: Details {
                    group: &request.kind.group,
                    kind: &request.kind.kind,
                    name: &request.name,
                    causes: &refused.causes,
                },
            }),
            warnings: &verdict.warnings,
            patch_type: verdict.patch.as_ref().map(|_| "JSONPatch"),
            patch: verdict.patch.as_ref().map(|patch| STANDARD.encode(patch)),
        },
    };
    Ok(Reviewed {
        answer: serde_json::to_vec(&answer)?,
        verdict,
        request,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(body: &Value, verdict: Verdict, expected: Result<&Value, &str>) {
        let seen = answer(&serde_json::to_vec(body).unwrap(), |_| verdict);
        match (seen, expected) {
            (Ok(reviewed), Ok(response)) => {
                let answer: Value = serde_json::from_slice(&reviewed.answer).unwrap();
                assert_eq!(answer["apiVersion"], "admission.k8s.io/v1");
                assert_eq!(&answer["response"], response);
            }
            (Err(error), Err(words)) => assert!(error.to_string().contains(words), "{error}"),
            (seen, _) => panic!("{body}: {seen:?}"),
        }
    }

    fn of(version: &str) -> Value {
        let request = json!({"uid": "u1", "operation": "CREATE", "kind": {"version": "v1", "kind": "Pod"}});
        json!({"apiVersion": version, "kind": "AdmissionReview", "request": request})
    }

    #[test]
    fn only_reviews_of_version_1_are_answered() {
        let allowed = json!({"uid": "u1", "allowed": true});
        check(&of("admission.k8s.io/v1"), Verdict::default(), Ok(&allowed));
        let older = of("admission.k8s.io/v1beta1");
        check(&older, Verdict::default(), Err("admissionReviewVersions: [v1]"));
        check(&json!({}), Verdict::default(), Err("is not served"));
        let empty = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"});
        check(&empty, Verdict::default(), Err("no request"));
        check(&json!([]), Verdict::default(), Err("not an AdmissionReview"));
    }

    #[test]
    fn a_patch_is_sent_with_its_type() {
        let verdict = Verdict {
            patch: Some(b"[]".to_vec()),
            warnings: vec!["mind".to_owned()],
            refused: None,
        };
        let expected = json!({"uid": "u1", "allowed": true, "warnings": ["mind"], "patchType": "JSONPatch", "patch": "W10="});
        check(&of("admission.k8s.io/v1"), verdict, Ok(&expected));
    }

    #[test]
    fn what_would_cost_too_much_is_not_parsed() {
        let judged = |body: &[u8]| answer(body, |_| panic!("judged"));
        let deep = format!(
            r#"{{"request":{{"object":{}{}}}}}"#,
            "[".repeat(100_000),
            "]".repeat(100_000)
        );
        assert!(matches!(
            judged(deep.as_bytes()),
            Err(ReviewError::TooMuch(TooMuch::Depth))
        ));
        for junk in [&b"\xff\xfe"[..], b"", b"{", b"null", b"{\"request\":3}"] {
            assert!(judged(junk).is_err());
        }
    }
}
