//! A webhook over HTTP: `POST` of reviews, bounded in size, number and time. Reviews are decided by a [`Judge`].
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
use tokio::sync::{Semaphore, SemaphorePermit};

use super::review::{self, Reviewed, Verdict};

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

/// Decides reviews, and keeps account of them.
pub trait Judge: Send + Sync + 'static {
    /// Decides about a request that came to this path.
    fn judge(&self, path: &str, request: &mut review::Request) -> Verdict;
    /// Hears of each answer, and of the time from the whole request to it.
    fn answered(&self, reviewed: &Reviewed, took: Duration);
    /// Hears of each request that was no review, with the HTTP status that it got.
    fn failed(&self, status: u16);
}

/// Answers reviews. Clones share bounds and judge.
#[derive(Clone)]
pub struct Webhook {
    held: Arc<Semaphore>,
    judge: Arc<dyn Judge>,
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
    /// A webhook that is decided by `judge`.
    #[must_use]
    pub fn new(judge: impl Judge) -> Self {
        Self {
            held: Arc::new(Semaphore::new(MAX_HELD / UNIT)),
            judge: Arc::new(judge),
        }
    }

    /// Its routes: these paths, as axum writes them.
    pub fn routes(self, paths: &[&str]) -> Router {
        let mut router = Router::new();
        for path in paths {
            router = router.route(path, post(review_page));
        }
        router.layer(DefaultBodyLimit::disable()).with_state(self)
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
        let path = request.uri().path().to_owned();
        let _held = self.room(length).await?;
        let body = read(request.into_body(), length).await?;
        let (start, length) = (Instant::now(), body.len());
        let judge = self.judge.clone();
        let decide = move || review::answer(&body, |request| judge.judge(&path, request));
        let reviewed = match length > LARGE {
            false => decide()?,
            true => tokio::task::spawn_blocking(decide)
                .await
                .map_err(|_| Refused::Panicked)??,
        };
        self.judge.answered(&reviewed, start.elapsed());
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
}

async fn review_page(State(webhook): State<Webhook>, request: Request) -> Response {
    match webhook.answer(request).await {
        Ok(response) => response,
        Err(refused) => {
            let status = refused.status();
            webhook.judge.failed(status.as_u16());
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
    use std::sync::Mutex;

    use axum::http;
    use tower::ServiceExt;

    use super::*;

    /// Says yes, and remembers.
    #[derive(Clone, Default)]
    struct Yes(Arc<Mutex<Vec<String>>>);

    impl Judge for Yes {
        fn judge(&self, path: &str, _request: &mut review::Request) -> Verdict {
            self.0.lock().unwrap().push(path.to_owned());
            Verdict::default()
        }

        fn answered(&self, reviewed: &Reviewed, _took: Duration) {
            self.0.lock().unwrap().push(reviewed.request.uid.clone());
        }

        fn failed(&self, status: u16) {
            self.0.lock().unwrap().push(status.to_string());
        }
    }

    async fn check(
        request: http::request::Builder,
        body: impl Into<Body>,
        expected: StatusCode,
        words: &str,
        told: &[&str],
    ) {
        let yes = Yes::default();
        let routes = Webhook::new(yes.clone()).routes(&["/validate", "/validate/{*rest}"]);
        let request = request.body(body.into()).unwrap();
        let response = routes.oneshot(request).await.unwrap();
        let status = response.status();
        let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        let body = String::from_utf8_lossy(&body);
        assert_eq!(status, expected, "{body}");
        assert!(body.contains(words), "{body}");
        assert_eq!(*yes.0.lock().unwrap(), told);
    }

    fn posted() -> http::request::Builder {
        http::Request::post("/validate/a/b").header("content-type", "application/json; charset=utf-8")
    }

    #[tokio::test]
    async fn reviews_are_answered_and_all_else_is_refused_by_its_status() {
        let review = r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u7","operation":"DELETE"}}"#;
        let told = ["/validate/a/b", "u7"];
        check(
            posted(),
            review,
            StatusCode::OK,
            r#""uid":"u7","allowed":true"#,
            &told,
        )
        .await;
        let words = "not an AdmissionReview";
        check(posted(), "{", StatusCode::BAD_REQUEST, words, &["400"]).await;
        let plain = http::Request::post("/validate");
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        check(plain, review, status, "application/json", &["415"]).await;
        let long = posted().header("content-length", MAX_BODY + 1);
        check(long, "{", StatusCode::PAYLOAD_TOO_LARGE, "6291456", &["413"]).await;
        let streamed = vec![b' '; MAX_BODY + 1];
        check(
            posted(),
            streamed,
            StatusCode::PAYLOAD_TOO_LARGE,
            "6291456",
            &["413"],
        )
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_too_slow_or_too_much_ends() {
        let never = Body::from_stream(futures::stream::pending::<Result<Bytes, std::io::Error>>());
        check(
            posted(),
            never,
            StatusCode::REQUEST_TIMEOUT,
            "within 3s",
            &["408"],
        )
        .await;
        let webhook = Webhook::new(Yes::default());
        let all = webhook.held.clone();
        let _taken = all.acquire_many((MAX_HELD / UNIT) as u32).await.unwrap();
        assert!(matches!(webhook.room(1).await, Err(Refused::Busy)));
    }
}
