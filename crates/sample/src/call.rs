//! `/call`: requests to another service, through this instance's sidecar, one after the other.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use http::{HeaderName, HeaderValue, Method, Request, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use proto::sample::EchoRequest;
use proto::sample::echo_client::EchoClient;
use serde::Serialize;
use serde_json::Value;
use tonic::transport::Endpoint;

use crate::behaviour::{BadQuery, parse_delay};
use crate::echo;

/// Requests of one call.
const MAX_COUNT: usize = 1000;
/// Bytes of one answer.
const MAX_ANSWER: usize = 256 << 10;
/// The default time for one request.
const TIMEOUT: Duration = Duration::from_secs(30);

/// What `/call` was asked to do.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Call {
    host: String,
    path: String,
    method: Method,
    headers: Vec<(HeaderName, HeaderValue)>,
    count: usize,
    timeout: Duration,
    grpc: bool,
}

/// A `/call` that cannot be understood.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadCall {
    #[error(
        "call names no host: /call?host=catalog&path=/&count=1&header=name:value&method=GET&timeout=30s&grpc=false"
    )]
    NoHost,
    #[error("count={0}: a count is a number from 1 to {MAX_COUNT}")]
    Count(String),
    #[error("header={0}: a header is NAME:VALUE")]
    Header(String),
    #[error("method={0}: not a method")]
    Method(String),
    #[error("timeout: {0}")]
    Timeout(BadQuery),
    #[error("path={0}: a path begins with / (write & as %26 within it)")]
    Path(String),
}

impl Call {
    pub(crate) fn parse(query: &[(String, String)]) -> Result<Self, BadCall> {
        let get = |name: &str| {
            query
                .iter()
                .find(|(key, _)| key == name)
                .map(|(_, value)| value.as_str())
        };
        let headers = query
            .iter()
            .filter(|(key, _)| key == "header")
            .map(|(_, value)| header(value));
        Ok(Self {
            host: get("host")
                .filter(|host| !host.is_empty())
                .ok_or(BadCall::NoHost)?
                .to_owned(),
            path: path(get("path").unwrap_or("/"))?,
            method: get("method").map(method).transpose()?.unwrap_or(Method::GET),
            headers: headers.collect::<Result<_, _>>()?,
            count: get("count").map(count).transpose()?.unwrap_or(1),
            timeout: get("timeout")
                .map(parse_delay)
                .transpose()
                .map_err(BadCall::Timeout)?
                .unwrap_or(TIMEOUT),
            grpc: get("grpc").is_some_and(|value| value != "false"),
        })
    }
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), BadCall> {
    let parsed = text.split_once(':').and_then(|(name, value)| {
        Some((
            name.trim().parse::<HeaderName>().ok()?,
            value.trim().parse::<HeaderValue>().ok()?,
        ))
    });
    parsed.ok_or_else(|| BadCall::Header(text.to_owned()))
}

fn path(text: &str) -> Result<String, BadCall> {
    let good = text.starts_with('/') && text.parse::<http::uri::PathAndQuery>().is_ok();
    good.then(|| text.to_owned())
        .ok_or_else(|| BadCall::Path(text.to_owned()))
}

fn method(text: &str) -> Result<Method, BadCall> {
    text.parse().map_err(|_| BadCall::Method(text.to_owned()))
}

fn count(text: &str) -> Result<usize, BadCall> {
    text.parse()
        .ok()
        .filter(|n| (1..=MAX_COUNT).contains(n))
        .ok_or_else(|| BadCall::Count(text.to_owned()))
}

/// What the calls came to.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Outcome {
    /// How many answers had which status (`error` where there was none).
    statuses: BTreeMap<String, usize>,
    /// How many answers came from which version of the service.
    versions: BTreeMap<String, usize>,
    results: Vec<Seen>,
}

/// What one request came to.
#[derive(Debug, Default, Serialize)]
struct Seen {
    /// HTTP status, or gRPC status code with `grpc`.
    status: Option<u16>,
    /// Milliseconds until the whole answer was there.
    ms: u64,
    headers: BTreeMap<String, String>,
    /// The answer: JSON where it is JSON, else text.
    body: Value,
    error: Option<String>,
}

/// The client side of an instance.
pub(crate) struct Caller {
    client: Client<HttpConnector, Full<Bytes>>,
    dial: Option<Uri>,
    dial_grpc: Option<Uri>,
}

impl Caller {
    pub(crate) fn new(dial: Option<Uri>, dial_grpc: Option<Uri>) -> Self {
        Self {
            client: Client::builder(TokioExecutor::new()).build_http(),
            dial,
            dial_grpc,
        }
    }

    /// Makes the requests and gathers what came back.
    pub(crate) async fn run(&self, call: &Call) -> Outcome {
        let mut outcome = Outcome::default();
        for _ in 0..call.count {
            let seen = self.one(call).await;
            let status = seen.status.map_or("error".to_owned(), |code| code.to_string());
            *outcome.statuses.entry(status).or_default() += 1;
            if let Some(version) = seen.body.get("version").and_then(Value::as_str) {
                *outcome.versions.entry(version.to_owned()).or_default() += 1;
            }
            outcome.results.push(seen);
        }
        outcome
    }

    async fn one(&self, call: &Call) -> Seen {
        let started = Instant::now();
        let answer = async {
            if call.grpc {
                self.grpc(call).await
            } else {
                self.http(call).await
            }
        };
        let mut seen = match tokio::time::timeout(call.timeout, answer).await {
            Ok(Ok(seen)) => seen,
            Ok(Err(error)) => Seen {
                error: Some(format!("{error:#}")),
                ..Seen::default()
            },
            Err(_) => Seen {
                error: Some(format!("no answer within {:?}", call.timeout)),
                ..Seen::default()
            },
        };
        seen.ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        seen
    }

    async fn http(&self, call: &Call) -> anyhow::Result<Seen> {
        let authority = match &self.dial {
            Some(base) => base.authority().map(ToString::to_string).unwrap_or_default(),
            None => call.host.clone(),
        };
        let mut request = Request::builder()
            .method(&call.method)
            .uri(format!("http://{authority}{}", call.path))
            .header(http::header::HOST, &call.host)
            .body(Full::new(Bytes::new()))?;
        request.headers_mut().extend(call.headers.iter().cloned());
        let response = self.client.request(request).await?;
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, MAX_ANSWER)
            .collect()
            .await
            .map_err(|error| anyhow::anyhow!(error))?
            .to_bytes();
        Ok(Seen {
            status: Some(parts.status.as_u16()),
            headers: echo::headers(&parts.headers),
            body: serde_json::from_slice(&body)
                .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&body).into_owned())),
            ..Seen::default()
        })
    }

    async fn grpc(&self, call: &Call) -> anyhow::Result<Seen> {
        let origin: Uri = format!("http://{}", call.host).parse()?;
        let dial = self.dial_grpc.clone().unwrap_or_else(|| origin.clone());
        let channel = Endpoint::from(dial).origin(origin).connect().await?;
        let mut request = tonic::Request::new(EchoRequest {
            message: call.path.clone(),
            ..EchoRequest::default()
        });
        request
            .metadata_mut()
            .as_mut()
            .extend(call.headers.iter().cloned());
        match EchoClient::new(channel).say(request).await {
            Ok(response) => {
                let headers = echo::headers(&response.metadata().clone().into_headers());
                let said = response.into_inner();
                let body = serde_json::json!({
                    "message": said.message, "service": said.service, "version": said.version,
                    "instance": said.instance, "headers": said.headers,
                });
                Ok(Seen {
                    status: Some(0),
                    headers,
                    body,
                    ..Seen::default()
                })
            }
            Err(status) => {
                let code = u16::try_from(i32::from(status.code())).ok();
                Ok(Seen {
                    status: code,
                    error: Some(status.message().to_owned()),
                    ..Seen::default()
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pairs: &[(&str, &str)]) -> Result<Call, BadCall> {
        let owned: Vec<_> = pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        Call::parse(&owned)
    }

    #[test]
    fn a_call_has_a_host_and_sensible_defaults() {
        let call = parse(&[("host", "catalog"), ("header", "end-user: jason"), ("count", "3")]).unwrap();
        assert_eq!(
            (call.path.as_str(), call.count, call.method),
            ("/", 3, Method::GET)
        );
        assert_eq!(
            call.headers,
            [("end-user".parse().unwrap(), "jason".parse().unwrap())]
        );
    }

    #[test]
    fn what_cannot_be_sent_is_refused() {
        for pairs in [
            &[("path", "/")][..],
            &[("host", "")],
            &[("host", "a"), ("count", "0")],
            &[("host", "a"), ("count", "1001")],
            &[("host", "a"), ("header", "no-colon")],
            &[("host", "a"), ("path", "no-slash")],
            &[("host", "a"), ("timeout", "1h")],
        ] {
            assert!(parse(pairs).is_err(), "{pairs:?}");
        }
    }
}
