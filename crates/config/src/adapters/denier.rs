//! The denier adapter: one answer to every request.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::code::Code;
use super::params::{self, Problem};
use super::validity::Validity;

/// What a denier answers.
#[derive(Clone, Debug, PartialEq)]
pub struct Denial {
    /// The code, from 1 to 16.
    pub code: Code,
    /// Shown to the caller; may be empty.
    pub message: String,
    /// A response instead of the code's own.
    pub direct: Option<DirectResponse>,
    /// How long it may be used again.
    pub validity: Validity,
}

/// An HTTP response given instead of the code's own (istio.policy.v1beta1.DirectHttpResponse).
#[derive(Clone, Debug, PartialEq)]
pub struct DirectResponse {
    /// From 300 to 599; the code's own without.
    pub status: Option<u16>,
    /// The body.
    pub body: String,
    /// Headers by their names in lower case.
    pub headers: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Params {
    status: Option<Status>,
    valid_duration: Option<crate::Duration>,
    #[serde(deserialize_with = "params::integer")]
    valid_use_count: i64,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            status: None,
            valid_duration: None,
            valid_use_count: Validity::DENIER.uses.into(),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Status {
    #[serde(deserialize_with = "params::integer")]
    code: i64,
    message: String,
    details: Vec<Value>,
}

impl Denial {
    /// A refusal with this code and message, valid as long as adapters' answers are that say nothing of it.
    pub fn plain(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            direct: None,
            validity: Validity::DENIER,
        }
    }

    pub(super) fn new(params: Params) -> Result<Self, Problem> {
        let validity = Validity {
            duration: match params.valid_duration {
                None => Validity::DENIER.duration,
                Some(duration) => i64::try_from(duration.0.as_nanos())
                    .map_err(|_| Problem::new("validDuration", "longer than 292 years"))?,
            },
            uses: i32::try_from(params.valid_use_count)
                .ok()
                .filter(|uses| *uses >= 0)
                .ok_or_else(|| Problem::new("validUseCount", "is not from 0 to 2147483647"))?,
        };
        let Some(status) = params.status else {
            return Ok(Self {
                validity,
                ..Self::plain(Code::FAILED_PRECONDITION, "")
            });
        };
        if !(1..=16).contains(&status.code) {
            return Err(Problem::new(
                "status.code",
                format!("{} is not a code from 1 to 16", status.code),
            ));
        }
        let mut direct = None;
        for (i, detail) in status.details.iter().enumerate() {
            let path = format!("status.details[{i}]");
            let is_direct = detail
                .get("@type")
                .and_then(Value::as_str)
                .is_some_and(|t| t.ends_with(".DirectHttpResponse"));
            if !is_direct {
                return Err(Problem::new(
                    path,
                    "only istio.policy.v1beta1.DirectHttpResponse is served",
                ));
            }
            direct = Some(direct_response(detail).map_err(|message| Problem::new(path, message))?);
        }
        let code = Code(i32::try_from(status.code).unwrap_or_default());
        Ok(Denial {
            code,
            message: status.message,
            direct,
            validity,
        })
    }
}

fn direct_response(detail: &Value) -> Result<DirectResponse, String> {
    let status = match detail.get("code") {
        None => None,
        Some(code) => {
            Some(http_status(code).ok_or_else(|| format!("code {code} is no HTTP status of an error"))?)
        }
    };
    let mut headers = BTreeMap::new();
    for (name, value) in detail
        .get("headers")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        let value = value
            .as_str()
            .ok_or_else(|| format!("header {name} must be text"))?;
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let body = detail
        .get("body")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    Ok(DirectResponse {
        status,
        body,
        headers,
    })
}

/// A status as number or by istio.policy.v1beta1.HttpStatusCode's name. A denial may redirect or refuse.
fn http_status(code: &Value) -> Option<u16> {
    const NAMES: [(&str, u16); 16] = [
        ("MovedPermanently", 301),
        ("Found", 302),
        ("SeeOther", 303),
        ("TemporaryRedirect", 307),
        ("PermanentRedirect", 308),
        ("BadRequest", 400),
        ("Unauthorized", 401),
        ("PaymentRequired", 402),
        ("Forbidden", 403),
        ("NotFound", 404),
        ("MethodNotAllowed", 405),
        ("Conflict", 409),
        ("Gone", 410),
        ("TooManyRequests", 429),
        ("InternalServerError", 500),
        ("ServiceUnavailable", 503),
    ];
    let number = match code {
        Value::String(name) => NAMES
            .into_iter()
            .find(|(known, _)| known == name)
            .map(|(_, number)| number),
        code => code.as_u64().and_then(|n| u16::try_from(n).ok()),
    };
    number.filter(|n| (300..600).contains(n))
}
