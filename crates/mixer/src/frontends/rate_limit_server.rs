//! How the rate limit service is reached: like tonic's generated server for it, but for texts that are no UTF-8.
//!
//! Envoy copies headers' bytes into descriptors as they are (ext_authz gets them cleaned). A decoder that refuses such a message
//! would have Envoy do what the failure mode says, so that any client gets past a quota that fails open by one byte. Here they are
//! read with U+FFFD for what is no text: all such values count as one.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use envoy_types::pb::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use envoy_types::pb::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::Entry;
use envoy_types::pb::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use envoy_types::pb::google::protobuf::UInt64Value;
use futures::future::BoxFuture;
use prost::Message;
use runtime::grpc::MAX_MESSAGE;
use tonic::body::Body;
use tonic::server::{Grpc, NamedService};
use tonic::{Request, Status};
use tonic_prost::ProstCodec;
use tower::{Service, service_fn};

use super::rate_limit::RateLimits;
use crate::engine::Engine;

/// The only method.
const METHOD: &str = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";

/// `RateLimitRequest`, its texts as bytes. Limits of descriptors' own are not looked at.
#[derive(Clone, PartialEq, Message)]
struct Raw {
    #[prost(bytes = "vec", tag = "1")]
    domain: Vec<u8>,
    #[prost(message, repeated, tag = "2")]
    descriptors: Vec<RawDescriptor>,
    #[prost(uint32, tag = "3")]
    hits_addend: u32,
}

#[derive(Clone, PartialEq, Message)]
struct RawDescriptor {
    #[prost(message, repeated, tag = "1")]
    entries: Vec<RawEntry>,
    #[prost(message, tag = "3")]
    hits_addend: Option<UInt64Value>,
}

#[derive(Clone, PartialEq, Message)]
struct RawEntry {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

impl From<Raw> for RateLimitRequest {
    fn from(raw: Raw) -> Self {
        let entry = |entry: &RawEntry| Entry {
            key: text(&entry.key),
            value: text(&entry.value),
        };
        let descriptor = |descriptor: &RawDescriptor| RateLimitDescriptor {
            entries: descriptor.entries.iter().map(entry).collect(),
            hits_addend: descriptor.hits_addend,
            ..RateLimitDescriptor::default()
        };
        Self {
            domain: text(&raw.domain),
            descriptors: raw.descriptors.iter().map(descriptor).collect(),
            hits_addend: raw.hits_addend,
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The service on the wire.
#[derive(Debug, Clone)]
pub(crate) struct RateLimitServer(RateLimits);

impl RateLimitServer {
    pub(crate) fn new(engine: Arc<Engine>) -> Self {
        Self(RateLimits(engine))
    }
}

impl NamedService for RateLimitServer {
    const NAME: &'static str = "envoy.service.ratelimit.v3.RateLimitService";
}

impl Service<http::Request<Body>> for RateLimitServer {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        if request.uri().path() != METHOD {
            return Box::pin(async { Ok(Status::unimplemented("").into_http()) });
        }
        let limits = self.0.clone();
        Box::pin(async move {
            let asked = service_fn(move |request: Request<Raw>| {
                let limits = limits.clone();
                async move {
                    limits
                        .should_rate_limit(request.map(RateLimitRequest::from))
                        .await
                }
            });
            let codec = ProstCodec::<RateLimitResponse, Raw>::default();
            let mut grpc = Grpc::new(codec).apply_max_message_size_config(Some(MAX_MESSAGE), None);
            Ok(grpc.unary(asked, request).await)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_as_it_was_sent() {
        let entry = Entry {
            key: "request.headers[x-user]".into(),
            value: "Ré".into(),
        };
        let descriptor = RateLimitDescriptor {
            entries: vec![entry],
            hits_addend: Some(UInt64Value { value: 5 }),
            ..RateLimitDescriptor::default()
        };
        let sent = RateLimitRequest {
            domain: "argosy".into(),
            descriptors: vec![descriptor],
            hits_addend: 3,
        };
        let read = Raw::decode(sent.encode_to_vec().as_slice()).unwrap();
        assert_eq!(RateLimitRequest::from(read), sent);
    }

    #[test]
    fn what_is_no_text_is_read_all_the_same() {
        let value = RawEntry {
            key: b"k".to_vec(),
            value: b"a\xff\xfe".to_vec(),
        };
        let raw = Raw {
            domain: b"argosy".to_vec(),
            descriptors: vec![RawDescriptor {
                entries: vec![value],
                hits_addend: None,
            }],
            hits_addend: 0,
        };
        assert!(RateLimitRequest::decode(raw.encode_to_vec().as_slice()).is_err());
        let read = RateLimitRequest::from(raw);
        assert_eq!(read.descriptors[0].entries[0].value, "a\u{fffd}\u{fffd}");
    }
}
