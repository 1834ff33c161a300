//! The webhook over HTTP: `POST /validate`, bounded in size, number and time. Reviews are decided in [`super::review`].
//!
//! Callers are not authenticated: Kubernetes' API server shows no certificate unless it is started with a file that says
//! so. Whoever reaches the port learns only what the rules say of an object that they hold already, and the bounds keep
//! what they can cost.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use config::Kind;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use runtime::Metrics;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::review::{self, Reviewed};

/// Largest body in bytes. Kubernetes takes requests of 3 MiB, and an update holds the object twice.
pub const MAX_BODY: usize = 6 << 20;
/// Bytes of bodies that may be held at once, all callers together.
const MAX_HELD: usize = 64 << 20;
/// How long a review may wait for others, and its body for the network. The API server itself waits for ten seconds.
const PATIENCE: Duration = Duration::from_secs(3);
/// Bodies above this are judged off the async threads, so that small ones do not wait for them.
const LARGE: usize = 128 << 10;
/// A unit of [`Webhook::held`], in bytes.
const UNIT: usize = 1 << 10;

/// Upper bounds in seconds.
const SECONDS: [f64; 8] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    group: String,
    resource: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StatusLabel {
    status: u16,
}

/// Answers reviews. Clones share bounds and metrics.
#[derive(Clone)]
pub struct Webhook {
    held: Arc<Semaphore>,
    passed: Family<KindLabel, Counter>,
    failed: Family<KindLabel, Counter>,
    errors: Family<StatusLabel, Counter>,
    seconds: Histogram,
}

/// A request that is not answered with a review.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("the body is not application/json")]
    ContentType,
    #[error("the body is larger than {MAX_BODY} bytes")]
    TooLarge,
    #[error("the body did not come within {PATIENCE:?}")]
    TooSlow,
    #[error("the body broke off: {0}")]
    Broken(String),
    #[error("too many reviews at once; try again")]
    Busy,
    #[error(transparent)]
    Review(#[from] review::ReviewError),
    #[error("the review could not be finished")]
    Panicked,
}

impl Refused {
    fn status(&self) -> StatusCode {
        match self {
            Self::ContentType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::Broken(_) | Self::Review(_) => StatusCode::BAD_REQUEST,
            Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Self::Panicked => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl Webhook {
    /// A webhook that has answered nothing yet. Metrics have Istio's names where Istio has one.
    #[must_use]
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            held: Arc::new(Semaphore::new(MAX_HELD / UNIT)),
            passed: metrics.family(
                "galley_validation_passed",
                "Objects that the admission webhook let pass",
            ),
            failed: metrics.family(
                "galley_validation_failed",
                "Objects that the admission webhook refused",
            ),
            errors: metrics.family(
                "galley_validation_http_error",
                "Requests to the admission webhook that were no review, by HTTP status",
            ),
            seconds: metrics.histogram(
                "galley_validation_seconds",
                "Seconds from a whole request to its answer",
                &SECONDS,
            ),
        }
    }

    /// Its routes.
    pub fn routes(self) -> Router {
        Router::new()
            .route("/validate", post(validate))
            .layer(DefaultBodyLimit::disable())
            .with_state(self)
    }

    async fn answer(&self, request: Request) -> Result<Response, Refused> {
        let json = request
            .headers()
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok());
        if !json.is_some_and(is_json) {
            return Err(Refused::ContentType);
        }
        let length = content_length(&request).unwrap_or(MAX_BODY);
        if length > MAX_BODY {
            return Err(Refused::TooLarge);
        }
        let _held = self.room(length).await?;
        let body = read(request.into_body(), length).await?;
        let start = Instant::now();
        let reviewed = match body.len() > LARGE {
            false => review::answer(&body)?,
            true => tokio::task::spawn_blocking(move || review::answer(&body))
                .await
                .map_err(|_| Refused::Panicked)??,
        };
        self.seconds.observe(start.elapsed().as_secs_f64());
        self.tell(&reviewed);
        Ok(([(header::CONTENT_TYPE, "application/json")], reviewed.answer).into_response())
    }

    /// Room for a body among those that are held.
    async fn room(&self, length: usize) -> Result<SemaphorePermit<'_>, Refused> {
        let units = u32::try_from(length / UNIT + 1).unwrap_or(u32::MAX);
        match tokio::time::timeout(PATIENCE, self.held.acquire_many(units)).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(Refused::Busy),
        }
    }

    fn tell(&self, reviewed: &Reviewed) {
        let asked = &reviewed.request.kind;
        // Labels stay for ever, so what a caller may invent is no label.
        let kind = Kind::find(&asked.group, &asked.kind);
        let label = KindLabel {
            group: kind.map_or("other", Kind::group).to_owned(),
            resource: kind.map_or("other", Kind::plural),
        };
        match &reviewed.verdict.refused {
            None => _ = self.passed.get_or_create(&label).inc(),
            Some(refused) => {
                self.failed.get_or_create(&label).inc();
                tracing::info!(
                    operation = reviewed.request.operation,
                    "refused {}",
                    refused.message
                );
            }
        }
    }
}

async fn validate(State(webhook): State<Webhook>, request: Request) -> Response {
    match webhook.answer(request).await {
        Ok(response) => response,
        Err(refused) => {
            let status = refused.status();
            let label = StatusLabel {
                status: status.as_u16(),
            };
            webhook.errors.get_or_create(&label).inc();
            tracing::warn!(%status, reason = %refused, "a request to the admission webhook was no review");
            (status, format!("{refused}\n")).into_response()
        }
    }
}

fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default();
    essence.trim().eq_ignore_ascii_case("application/json")
}

fn content_length(request: &Request) -> Option<usize> {
    let value = request.headers().get(header::CONTENT_LENGTH)?;
    value.to_str().ok()?.parse().ok()
}

async fn read(body: Body, most: usize) -> Result<Bytes, Refused> {
    match tokio::time::timeout(PATIENCE, axum::body::to_bytes(body, most)).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(error)) if is_too_long(&error) => Err(Refused::TooLarge),
        Ok(Err(error)) => Err(Refused::Broken(error.to_string())),
        Err(_) => Err(Refused::TooSlow),
    }
}

fn is_too_long(error: &axum::Error) -> bool {
    let source = std::error::Error::source(error);
    source.is_some_and(|source| source.is::<http_body_util::LengthLimitError>())
}

#[cfg(test)]
mod tests {
    use axum::http;
    use tower::ServiceExt;

    use super::*;

    async fn check(
        request: http::request::Builder,
        body: impl Into<Body>,
        expected: StatusCode,
        words: &str,
    ) {
        let metrics = Metrics::new();
        let routes = Webhook::new(&metrics).routes();
        let request = request.body(body.into()).unwrap();
        let response = routes.oneshot(request).await.unwrap();
        let status = response.status();
        let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        let body = String::from_utf8_lossy(&body);
        assert_eq!(status, expected, "{body}");
        assert!(body.contains(words), "{body}");
        let counted = metrics.encode().contains(&format!(
            "galley_validation_http_error{{status=\"{}\"}} 1",
            status.as_u16()
        ));
        assert_eq!(counted, status.is_client_error() || status.is_server_error());
    }

    fn posted() -> http::request::Builder {
        http::Request::post("/validate").header("content-type", "application/json; charset=utf-8")
    }

    #[tokio::test]
    async fn reviews_are_answered_and_all_else_is_refused_by_its_status() {
        let review = r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u7","operation":"DELETE"}}"#;
        check(posted(), review, StatusCode::OK, r#""uid":"u7","allowed":true"#).await;
        check(posted(), "{", StatusCode::BAD_REQUEST, "not an AdmissionReview").await;
        check(
            http::Request::post("/validate"),
            review,
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "application/json",
        )
        .await;
        let long = posted().header("content-length", MAX_BODY + 1);
        check(long, "{", StatusCode::PAYLOAD_TOO_LARGE, "6291456").await;
        let streamed = vec![b' '; MAX_BODY + 1];
        check(posted(), streamed, StatusCode::PAYLOAD_TOO_LARGE, "6291456").await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_too_slow_or_too_much_ends() {
        let never = Body::from_stream(futures::stream::pending::<Result<Bytes, std::io::Error>>());
        check(posted(), never, StatusCode::REQUEST_TIMEOUT, "within 3s").await;
        let webhook = Webhook::new(&Metrics::new());
        let all = webhook.held.clone();
        let _taken = all.acquire_many((MAX_HELD / UNIT) as u32).await.unwrap();
        assert!(matches!(webhook.room(1).await, Err(Refused::Busy)));
    }
}
