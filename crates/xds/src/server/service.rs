//! The services as tonic's router takes them.

use super::codec::Encoded;
use super::drive::{Only, Request, responses};
use super::{Server, Source};
use crate::stream::Response;
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use futures::future::{BoxFuture, Ready, ready};
use futures::stream::BoxStream;
use std::convert::Infallible;
use std::marker::PhantomData;
use std::task::{Context, Poll};
use tonic::body::Body;
use tonic::server::{Grpc, NamedService, StreamingService};
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
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let server = self.server.clone();
        let only = if N::SECRETS { Only::Secrets } else { Only::All };
        let method = request.uri().path().rsplit('/').next().unwrap_or_default();
        if method == N::SOTW {
            Box::pin(serve::<S, DiscoveryRequest>(server, request, only))
        } else if method == N::DELTA {
            Box::pin(serve::<S, DeltaDiscoveryRequest>(server, request, only))
        } else {
            let status = Status::unimplemented(format!("{} has no method {method}", N::NAME));
            Box::pin(async move { Ok(status.into_http()) })
        }
    }
}

async fn serve<S: Source, R: Request>(
    server: Server<S>,
    request: http::Request<Body>,
    only: Only,
) -> Result<http::Response<Body>, Infallible> {
    let limit = server.shared.limits.message_bytes;
    let mut grpc = Grpc::new(Encoded::<R>::new(R::VARIANT)).apply_max_message_size_config(Some(limit), None);
    Ok(grpc.streaming(Method { server, only }, request).await)
}

struct Method<S> {
    server: Server<S>,
    only: Only,
}

impl<S: Source, R: Request> StreamingService<R> for Method<S> {
    type Response = Response;
    type ResponseStream = BoxStream<'static, Result<Response, Status>>;
    type Future = Ready<Result<tonic::Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: tonic::Request<Streaming<R>>) -> Self::Future {
        let (_, extensions, requests) = request.into_parts();
        let stream = responses(self.server.clone(), requests, extensions, self.only);
        ready(Ok(tonic::Response::new(stream)))
    }
}
