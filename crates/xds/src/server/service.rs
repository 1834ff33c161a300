//! The services as tonic's router takes them.

use super::body::Written;
use super::codec::Reader;
use super::drive::{Only, Request, responses};
use super::watchdog::Watchdog;
use super::{Server, Source};
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use futures::future::{Ready, ready};
use http::HeaderMap;
use std::convert::Infallible;
use std::marker::PhantomData;
use std::task::{Context, Poll};
use tonic::body::Body;
use tonic::metadata::{GRPC_CONTENT_TYPE, MetadataValue};
use tonic::server::NamedService;
use tonic::{Status, Streaming};

/// A service's name and methods.
pub trait Named: Send + Sync + 'static {
    /// The full name of the gRPC service.
    const NAME: &'static str;
    /// The method of the state-of-the-world variant.
    const SOTW: &'static str;
    /// The method of the delta variant.
    const DELTA: &'static str;
    /// Whether the service serves secrets alone.
    const SECRETS: bool;
}

/// Aggregated discovery.
#[derive(Clone, Copy, Debug)]
pub struct Ads;

impl Named for Ads {
    const NAME: &'static str = "envoy.service.discovery.v3.AggregatedDiscoveryService";
    const SOTW: &'static str = "StreamAggregatedResources";
    const DELTA: &'static str = "DeltaAggregatedResources";
    const SECRETS: bool = false;
}

/// Secret discovery.
#[derive(Clone, Copy, Debug)]
pub struct Sds;

impl Named for Sds {
    const NAME: &'static str = "envoy.service.secret.v3.SecretDiscoveryService";
    const SOTW: &'static str = "StreamSecrets";
    const DELTA: &'static str = "DeltaSecrets";
    const SECRETS: bool = true;
}

/// A discovery service for tonic's router.
#[derive(Debug)]
pub struct Service<S, N> {
    server: Server<S>,
    named: PhantomData<fn() -> N>,
}

impl<S, N> Service<S, N> {
    pub(super) fn new(server: Server<S>) -> Self {
        Self {
            server,
            named: PhantomData,
        }
    }
}

impl<S, N> Clone for Service<S, N> {
    fn clone(&self) -> Self {
        Self::new(self.server.clone())
    }
}

impl<S, N: Named> NamedService for Service<S, N> {
    const NAME: &'static str = N::NAME;
}

impl<S: Source, N: Named> tower_service::Service<http::Request<Body>> for Service<S, N> {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let server = self.server.clone();
        let only = if N::SECRETS { Only::Secrets } else { Only::All };
        let method = request.uri().path().rsplit('/').next().unwrap_or_default();
        ready(Ok(if method == N::SOTW {
            serve::<S, DiscoveryRequest>(server, request, only)
        } else if method == N::DELTA {
            serve::<S, DeltaDiscoveryRequest>(server, request, only)
        } else {
            Status::unimplemented(format!("{} has no method {method}", N::NAME)).into_http()
        }))
    }
}

/// Begins a stream. Its body is written by [`Written`], since tonic's own would copy each response into a buffer.
fn serve<S: Source, R: Request>(
    server: Server<S>,
    request: http::Request<Body>,
    only: Only,
) -> http::Response<Body> {
    if let Some(status) = compressed(request.headers()) {
        return status.into_http();
    }
    let shared = &server.shared;
    let (limit, blocked) = (shared.limits.message_bytes, shared.limits.blocked);
    let connection = shared.source.connection(request.extensions());
    let watchdog = connection.map(|connection| Watchdog::new(blocked, connection));
    let (head, body) = request.into_parts();
    let requests = Streaming::<R>::new_request(Reader::default(), body, None, Some(limit));
    let responses = responses(server, requests, head.extensions, only);
    let mut response = http::Response::new(Body::new(Written::new(responses, R::VARIANT, watchdog)));
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, GRPC_CONTENT_TYPE);
    response
}

/// Requests may be compressed only as the server says that it can read them: not at all (gRPC compression).
fn compressed(headers: &HeaderMap) -> Option<Status> {
    let encoding = headers.get("grpc-encoding")?;
    if encoding == "identity" {
        return None;
    }
    let mut status = Status::unimplemented("compressed requests are not read; send them as they are");
    let accepted = MetadataValue::from_static("identity");
    status.metadata_mut().insert("grpc-accept-encoding", accepted);
    Some(status)
}
