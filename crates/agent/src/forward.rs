//! Carries Envoy's ADS streams to Pilot and back, byte for byte: HTTP/2 bodies are passed on as they come, with
//! their flow control, so nothing is decoded, copied into a message or held.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, Uri};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use parking_lot::Mutex;
use prometheus_client::metrics::{counter::Counter, gauge::Gauge};
use runtime::Metrics;
use tonic::{Code, Status, body::Body, server::NamedService, transport::Channel};
use tower::{Service, ServiceExt};

use crate::calm::Calm;

const SERVICE: &str = "envoy.service.discovery.v3.AggregatedDiscoveryService";
const METHODS: [&str; 2] = ["StreamAggregatedResources", "DeltaAggregatedResources"];
/// Request headers that gRPC needs; Pilot sees no others.
const HEADERS: [&str; 6] = [
    "content-type",
    "te",
    "user-agent",
    "grpc-encoding",
    "grpc-accept-encoding",
    "grpc-timeout",
];

/// The ADS service that Envoy sees: Pilot's, reached over a channel. Clones share it.
#[derive(Debug, Clone)]
pub struct Forward {
    channel: Channel,
    link: Arc<Link>,
}

/// What is known of the way to Pilot.
#[derive(Debug)]
pub struct Link {
    address: String,
    state: Mutex<LinkState>,
    open: Gauge,
    opened: Counter,
    failed: Counter,
}

#[derive(Debug, Default)]
struct LinkState {
    away: Option<String>,
    calm: Calm,
}

impl Link {
    fn new(address: &str, metrics: &Metrics) -> Self {
        Self {
            address: address.to_owned(),
            state: Mutex::default(),
            open: metrics.gauge(
                "argosy_agent_xds_streams",
                "Envoy's streams that are carried to Pilot now",
            ),
            opened: metrics.counter("argosy_agent_xds_streams_total", "Streams that Pilot accepted"),
            failed: metrics.counter(
                "argosy_agent_xds_stream_failures_total",
                "Streams that Pilot refused or that broke",
            ),
        }
    }

    /// Why the last stream failed; `None` when it did not.
    pub fn away(&self) -> Option<String> {
        self.state.lock().away.clone()
    }

    /// Pilot refused a stream, broke it, or cannot be reached.
    fn failed(&self, status: &Status) {
        self.failed.inc();
        let reason = format!("Pilot at {}: {}", self.address, text(status));
        let mut state = self.state.lock();
        if state.calm.is_due(&reason, Instant::now()) {
            tracing::warn!(code = ?status.code(), "{reason}; Envoy keeps its configuration and tries again");
        }
        state.away = Some(reason);
    }

    /// Pilot sent something.
    fn answers(&self) {
        let mut state = self.state.lock();
        if state.away.take().is_some() {
            state.calm.clear();
            tracing::info!(pilot = self.address, "Pilot answers again");
        }
    }
}

/// A status with what caused it.
pub(crate) fn text(status: &Status) -> String {
    let cause = std::error::Error::source(status).map(runtime::context::describe);
    match (status.message(), cause) {
        ("", None) => status.code().to_string(),
        (message, None) => message.to_owned(),
        (message, Some(cause)) if message.is_empty() || cause.contains(message) => cause,
        (message, Some(cause)) => format!("{message}: {cause}"),
    }
}

impl Forward {
    /// Carries streams over `channel` to Pilot at `address` (for messages).
    pub fn new(channel: Channel, address: &str, metrics: &Metrics) -> Self {
        Self {
            channel,
            link: Arc::new(Link::new(address, metrics)),
        }
    }

    /// What is known of the way to Pilot.
    pub fn link(&self) -> Arc<Link> {
        self.link.clone()
    }

    async fn carry(self, request: Request<Body>) -> Response<Body> {
        let Some(upstream) = upstream_request(request) else {
            return Status::unimplemented("the agent carries ADS only").into_http();
        };
        let sent = match self.channel.ready_oneshot().await {
            Ok(mut channel) => channel.call(upstream).await,
            Err(error) => Err(error),
        };
        match sent {
            Ok(response) => self.link.watch(response),
            Err(error) => {
                let status = Status::unavailable(runtime::context::describe(&error));
                self.link.failed(&status);
                status.into_http()
            }
        }
    }
}

impl Link {
    /// Passes a response on, watching how it ends.
    fn watch(self: &Arc<Self>, response: Response<Body>) -> Response<Body> {
        // Headers that hold a status are the whole answer: a refusal.
        match failure(response.headers()) {
            Some(status) => {
                self.failed(&status);
                response
            }
            None => {
                self.opened.inc();
                self.open.inc();
                let link = self.clone();
                response.map(|body| {
                    Body::new(Watched {
                        body,
                        link,
                        ended: false,
                    })
                })
            }
        }
    }
}

/// The request as Pilot gets it; `None` when it is not for ADS.
fn upstream_request(request: Request<Body>) -> Option<Request<Body>> {
    let (parts, body) = request.into_parts();
    let method = parts
        .uri
        .path()
        .strip_prefix('/')?
        .strip_prefix(SERVICE)?
        .strip_prefix('/')?;
    let method = METHODS.into_iter().find(|known| *known == method)?;
    let mut upstream = Request::new(body);
    *upstream.method_mut() = http::Method::POST;
    *upstream.version_mut() = http::Version::HTTP_2;
    *upstream.uri_mut() = Uri::builder()
        .path_and_query(format!("/{SERVICE}/{method}"))
        .build()
        .ok()?;
    let kept = HEADERS
        .into_iter()
        .filter_map(|name| Some((name, parts.headers.get(name)?.clone())));
    upstream
        .headers_mut()
        .extend(kept.map(|(name, value)| (http::HeaderName::from_static(name), value)));
    Some(upstream)
}

/// The status in headers or trailers, when there is one and it is not OK.
fn failure(headers: &HeaderMap) -> Option<Status> {
    Status::from_header_map(headers).filter(|status| status.code() != Code::Ok)
}

/// A response on its way to Envoy.
struct Watched {
    body: Body,
    link: Arc<Link>,
    ended: bool,
}

impl Watched {
    fn saw(&mut self, frame: Option<&Result<Frame<Bytes>, Status>>) {
        match frame {
            Some(Ok(frame)) if frame.is_data() => self.link.answers(),
            Some(Ok(frame)) => {
                if let Some(status) = frame.trailers_ref().and_then(failure) {
                    self.end_with(&status);
                }
            }
            Some(Err(status)) => {
                // HTTP/2's and TLS's words for it are many and say no more.
                tracing::debug!(reason = text(status), "Pilot's stream broke");
                self.end_with(&Status::unavailable("the connection broke"));
            }
            None => self.ended = true,
        }
    }

    fn end_with(&mut self, status: &Status) {
        self.ended = true;
        self.link.failed(status);
    }
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(frame) = &frame
            && !self.ended
        {
            self.saw(frame.as_ref());
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.link.open.dec();
    }
}

impl NamedService for Forward {
    const NAME: &'static str = SERVICE;
}

impl Service<Request<Body>> for Forward {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let forward = self.clone();
        Box::pin(async move { Ok(forward.carry(request).await) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ads_is_carried_with_only_grpc_headers() {
        let request = |path: &str| {
            let request = Request::builder()
                .method("POST")
                .uri(format!("http://localhost{path}"));
            let request = request
                .header("content-type", "application/grpc")
                .header("authorization", "secret");
            upstream_request(request.body(Body::empty()).unwrap())
        };
        for method in METHODS {
            let upstream = request(&format!("/{SERVICE}/{method}")).unwrap();
            assert_eq!(upstream.uri().path(), format!("/{SERVICE}/{method}"));
            let headers: Vec<_> = upstream.headers().keys().map(http::HeaderName::as_str).collect();
            assert_eq!(headers, ["content-type"]);
        }
        for path in [
            "/",
            "/envoy.service.discovery.v3.AggregatedDiscoveryService/Other",
            "/x.Y/DeltaAggregatedResources",
        ] {
            assert!(request(path).is_none(), "{path}");
        }
    }
}
