//! Drives the state of one stream: requests, tables and time in, responses out.
//!
//! It is pulled by the transport: only when the client can take bytes is the next response made, so a slow client
//! holds none, and what changes meanwhile coalesces.

use super::{Hello, Server, Source, StreamId};
use crate::stream::{Event, Refused, Response, Stream, Variant};
use crate::table::Table;
use crate::types::{SECRET, TypeUrl};
use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use futures::stream::{BoxStream, StreamExt, try_unfold};
use http::Extensions;
use prost::Message;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{sleep, timeout};
use tonic::{Status, Streaming};

/// A request of either variant.
pub(super) trait Request: Message + Default + 'static {
    const VARIANT: Variant;
    fn take_node(&mut self) -> Option<Node>;
    fn type_url(&mut self) -> &mut String;
    fn give(self, stream: &mut Stream, now: Duration) -> Result<(), Refused>;
}

impl Request for DiscoveryRequest {
    const VARIANT: Variant = Variant::Sotw;

    fn take_node(&mut self) -> Option<Node> {
        self.node.take()
    }

    fn type_url(&mut self) -> &mut String {
        &mut self.type_url
    }

    fn give(self, stream: &mut Stream, now: Duration) -> Result<(), Refused> {
        stream.on_sotw(now, self)
    }
}

impl Request for DeltaDiscoveryRequest {
    const VARIANT: Variant = Variant::Delta;

    fn take_node(&mut self) -> Option<Node> {
        self.node.take()
    }

    fn type_url(&mut self) -> &mut String {
        &mut self.type_url
    }

    fn give(self, stream: &mut Stream, now: Duration) -> Result<(), Refused> {
        stream.on_delta(now, self)
    }
}

/// The only type that a service of one type serves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Only {
    All,
    Secrets,
}

/// The responses of one stream.
pub(super) fn responses<S: Source, R: Request>(
    server: Server<S>,
    requests: Streaming<R>,
    extensions: Extensions,
    only: Only,
) -> BoxStream<'static, Result<Response, Status>> {
    let driver = Waiting {
        server,
        requests,
        extensions,
        only,
    };
    try_unfold(State::Waiting(Box::new(driver)), |state| async move {
        let mut driver = match state {
            State::Waiting(waiting) => waiting.accept().await?,
            State::Driving(driver) => driver,
        };
        let response = driver.next().await?;
        Ok(response.map(|response| (response, State::Driving(driver))))
    })
    .boxed()
}

enum State<S: Source, R> {
    Waiting(Box<Waiting<S, R>>),
    Driving(Box<Driver<S, R>>),
}

/// A stream whose first request has not come.
struct Waiting<S, R> {
    server: Server<S>,
    requests: Streaming<R>,
    extensions: Extensions,
    only: Only,
}

impl<S: Source, R: Request> Waiting<S, R> {
    async fn accept(mut self: Box<Self>) -> Result<Box<Driver<S, R>>, Status> {
        let shared = self.server.shared.clone();
        let Ok(permit) = shared.free.clone().try_acquire_owned() else {
            let limit = shared.limits.streams;
            return Err(Status::resource_exhausted(format!(
                "all {limit} streams are in use; try again later"
            )));
        };
        let first = timeout(shared.limits.first_request, self.requests.message()).await;
        let first = first.map_err(|_| Status::deadline_exceeded("no first request; send one with a node"))?;
        let mut first =
            first?.ok_or_else(|| Status::invalid_argument("the stream ended before a request"))?;
        let hello = Hello {
            stream: self.server.next_stream(),
            variant: R::VARIANT,
            node: first.take_node().unwrap_or_default(),
            extensions: self.extensions,
        };
        let start = shared.limits.start;
        let Ok(Ok(turn)) = timeout(start, shared.starting.clone().acquire_owned()).await else {
            return Err(Status::unavailable(format!(
                "more clients are starting than are served within {start:?}; try again later"
            )));
        };
        let mut tables = shared.source.connect(&hello).await?;
        let table = tables.borrow_and_update().clone();
        let mut driver = Box::new(Driver {
            state: Stream::new(R::VARIANT, shared.limits.stream, table).sharing(shared.names.clone()),
            id: hello.stream,
            server: self.server,
            requests: self.requests,
            tables,
            only: self.only,
            turn: Some(turn),
            turn_ends: shared.began.elapsed() + start,
            ends: shared
                .limits
                .age
                .map(|age| shared.began.elapsed() + jittered(age)),
            _permit: permit,
        });
        driver.server.shared.source.observe(driver.id, Event::Connected);
        driver.give(first)?;
        Ok(driver)
    }
}

/// An accepted stream.
struct Driver<S: Source, R> {
    state: Stream,
    id: StreamId,
    server: Server<S>,
    requests: Streaming<R>,
    tables: watch::Receiver<Arc<Table>>,
    only: Only,
    /// Held until the client has answered all that it asked for first, or is too slow.
    turn: Option<OwnedSemaphorePermit>,
    turn_ends: Duration,
    /// When the stream has its age.
    ends: Option<Duration>,
    _permit: OwnedSemaphorePermit,
}

/// Longest wait for a client's answers when its stream has its age.
const LAST_ANSWERS: Duration = Duration::from_secs(30);

/// A tenth more or less.
fn jittered(age: Duration) -> Duration {
    age.mul_f64(rand::random_range(0.9..1.1))
}

impl<S: Source, R: Request> Driver<S, R> {
    /// The next response; `None` when the client has ended the stream.
    async fn next(&mut self) -> Result<Option<Response>, Status> {
        loop {
            let response = self.state.poll(self.now());
            self.tell();
            if response.is_some() {
                return Ok(response);
            }
            if self.is_over() || !self.wait().await? {
                return Ok(None);
            }
        }
    }

    /// Whether the stream has its age and nothing is un-ACKed, or not for much longer.
    fn is_over(&self) -> bool {
        let Some(ends) = self.ends else { return false };
        let now = self.now();
        now >= ends + LAST_ANSWERS || (now >= ends && self.state.is_quiet())
    }

    /// When something is due though nothing comes in.
    fn deadline(&mut self, now: Duration) -> Option<Duration> {
        if now >= self.turn_ends {
            self.turn = None;
        }
        let turn = self.turn.as_ref().map(|_| self.turn_ends);
        let end = self
            .ends
            .map(|ends| if now < ends { ends } else { ends + LAST_ANSWERS });
        [self.state.deadline(now), turn, end].into_iter().flatten().min()
    }

    /// Waits for something to happen; false when the client has ended the stream.
    async fn wait(&mut self) -> Result<bool, Status> {
        let now = self.now();
        let deadline = self.deadline(now).map(|deadline| deadline.saturating_sub(now));
        tokio::select! {
            request = self.requests.message() => match request? {
                Some(request) => self.give(request)?,
                None => return Ok(false),
            },
            changed = self.tables.changed() => {
                changed.map_err(|_| Status::unavailable("no longer served here; connect again"))?;
                let table = self.tables.borrow_and_update().clone();
                self.state.on_table(table);
            }
            () = sleep(deadline.unwrap_or_default()), if deadline.is_some() => {}
        }
        Ok(true)
    }

    fn give(&mut self, mut request: R) -> Result<(), Status> {
        if self.only == Only::Secrets {
            let type_url = request.type_url();
            if type_url.is_empty() {
                SECRET.as_str().clone_into(type_url);
            } else if TypeUrl::from(type_url.as_str()) != SECRET {
                return Err(Status::invalid_argument(format!(
                    "{type_url}: this service serves {SECRET} alone"
                )));
            }
        }
        let now = self.now();
        let result = request.give(&mut self.state, now);
        self.tell();
        result.map_err(|refused| Status::invalid_argument(refused.to_string()))
    }

    fn tell(&mut self) {
        for event in self.state.events() {
            if matches!(event, Event::Synced { .. }) {
                self.turn = None;
            }
            self.server.shared.source.observe(self.id, event);
        }
    }

    fn now(&self) -> Duration {
        self.server.shared.began.elapsed()
    }
}

impl<S: Source, R> Drop for Driver<S, R> {
    fn drop(&mut self) {
        self.server.shared.source.observe(self.id, Event::Closed);
    }
}
