//! The gRPC discovery services over any [`Source`] of tables: one aggregated stream per client, both variants.
//!
//! Responses are written from bytes that are encoded already. It knows nothing of TLS: what the transport knows of the
//! peer reaches the source as the request's extensions.

mod body;
mod codec;
mod drive;
mod service;
mod watchdog;

use crate::stream::{Event, Pool, Settings, Variant};
use crate::table::Table;
use envoy_types::pb::envoy::config::core::v3::Node;
use http::Extensions;
pub use service::{Ads, Named, Sds, Service};
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// One stream of one server, counted from 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct StreamId(pub u64);

impl fmt::Display for StreamId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

/// What is known of a client when its first request has come.
#[derive(Debug)]
pub struct Hello {
    /// The stream.
    pub stream: StreamId,
    /// The protocol's variant.
    pub variant: Variant,
    /// What the client says of itself. Nothing of it is proven; compare it with the peer in `extensions`.
    pub node: Node,
    /// What the transport put there, such as the peer's certificate.
    pub extensions: Extensions,
}

/// Where a server's tables come from: it decides whom it serves, and with what.
pub trait Source: Send + Sync + 'static {
    /// Accepts a client and gives the table that it should have now and, as it changes, later. When the sender is
    /// dropped the stream ends with `UNAVAILABLE`, and the client may come again.
    ///
    /// # Errors
    /// The status that the client is refused with.
    fn connect(
        &self,
        hello: &Hello,
    ) -> impl Future<Output = Result<watch::Receiver<Arc<Table>>, Status>> + Send;

    /// What cuts the connection of a request with these extensions, for a client that takes no responses; `None` where the
    /// transport cannot, and such a client then keeps its stream.
    fn connection(&self, extensions: &Extensions) -> Option<CancellationToken> {
        let _ = extensions;
        None
    }

    /// Told of all that happens on accepted streams, in order for each stream. Should return at once.
    fn observe(&self, stream: StreamId, event: Event) {
        let _ = (stream, event);
    }
}

/// Bounds of a server.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How each stream behaves, and its bounds.
    pub stream: Settings,
    /// Most streams at once; one more is refused with `RESOURCE_EXHAUSTED`.
    pub streams: usize,
    /// Largest request in bytes.
    pub message_bytes: usize,
    /// How long a new stream may stay silent.
    pub first_request: Duration,
    /// Most streams at once whose clients have not yet answered all that they asked for first; others wait for their
    /// turn. So clients that all come again together are served one after the other and not all slowly.
    pub starting: usize,
    /// Longest wait for that turn; then a stream is refused with `UNAVAILABLE`. A stream that is slow gives its turn
    /// to the next after the same time.
    pub start: Duration,
    /// Age at which a stream is ended, once its client has answered everything, so that it comes again through a new
    /// admission, perhaps elsewhere. Each stream's own is up to a tenth longer or shorter; `None` for never.
    pub age: Option<Duration>,
    /// How long a response may wait for a client that takes no more bytes; then its connection is cut, if the source can
    /// ([`Source::connection`]). Such a stream holds the table that it had, so that it must not stay.
    pub blocked: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            stream: Settings::default(),
            streams: 10_000,
            message_bytes: 4 << 20,
            first_request: Duration::from_secs(10),
            starting: 256,
            start: Duration::from_secs(10),
            age: None,
            blocked: Duration::from_secs(60),
        }
    }
}

/// A discovery server. Clones share their bounds.
#[derive(Debug)]
pub struct Server<S> {
    shared: Arc<Shared<S>>,
}

#[derive(Debug)]
struct Shared<S> {
    source: S,
    limits: Limits,
    free: Arc<Semaphore>,
    starting: Arc<Semaphore>,
    last_stream: AtomicU64,
    began: Instant,
    /// Names that streams subscribe to.
    names: Arc<Pool>,
}

impl<S> Clone for Server<S> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
        }
    }
}

impl<S: Source> Server<S> {
    /// A server of that source.
    #[must_use]
    pub fn new(source: S, limits: Limits) -> Self {
        let shared = Shared {
            source,
            limits,
            free: Arc::new(Semaphore::new(limits.streams.min(Semaphore::MAX_PERMITS))),
            starting: Arc::new(Semaphore::new(limits.starting.clamp(1, Semaphore::MAX_PERMITS))),
            last_stream: AtomicU64::new(0),
            began: Instant::now(),
            names: Arc::default(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// `envoy.service.discovery.v3.AggregatedDiscoveryService`, for tonic's router.
    #[must_use]
    pub fn ads(&self) -> Service<S, Ads> {
        Service::new(self.clone())
    }

    /// `envoy.service.secret.v3.SecretDiscoveryService`, for tonic's router.
    #[must_use]
    pub fn sds(&self) -> Service<S, Sds> {
        Service::new(self.clone())
    }

    fn next_stream(&self) -> StreamId {
        StreamId(self.shared.last_stream.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

impl<S: Source> Source for Arc<S> {
    fn connect(
        &self,
        hello: &Hello,
    ) -> impl Future<Output = Result<watch::Receiver<Arc<Table>>, Status>> + Send {
        self.as_ref().connect(hello)
    }

    fn connection(&self, extensions: &Extensions) -> Option<CancellationToken> {
        self.as_ref().connection(extensions)
    }

    fn observe(&self, stream: StreamId, event: Event) {
        self.as_ref().observe(stream, event);
    }
}
