//! The subscription state of one stream: requests, tables and time go in, responses come out.
//!
//! It knows no transport and no clock; time is a [`Duration`] since any fixed moment. Its rules:
//! - one un-ACKed response per type; what changes meanwhile coalesces;
//! - what did not change (by version) is not sent again, also after a reconnect (`initial_resource_versions`);
//! - make-before-break: clusters, at once behind each new or changed EDS cluster its endpoints (Envoy waits for them,
//!   changed or not), then listeners, then routes; each waits for the client's answer to what it needs, but no longer
//!   than [`Settings::gate`], and never overtakes it;
//! - what is no longer there is removed when the client has answered what replaces it and [`Settings::drain`] is over;
//! - what the client rejected is not sent again until it changes or is asked for; a rejection that names no resource is
//!   pinned down by sending the resources apart.
//!
//! A state-of-the-world client cannot say what it has from an earlier stream: its new stream begins with the whole state,
//! and what is gone meanwhile goes at once. Delta clients keep it for the drain time.

mod answer;
mod bulk;
mod delta;
mod event;
mod held;
mod kind;
mod nack;
mod names;
mod order;
mod sotw;
mod subscription;

use crate::table::{Chunk, Resource, Table};
use crate::types::{Rank, TypeUrl};
pub use event::{Event, Rejection};
use kind::{Kind, Sending};
pub use names::Pool;
use order::Owed;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;

/// How a stream behaves.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Longest wait for a client's answer before what depends on it is sent all the same.
    pub gate: Duration,
    /// From the answer that replaced a resource to its removal: longer than the longest request that may hold an
    /// old route.
    pub drain: Duration,
    /// A delta response is closed once it has this many bytes. Should be below the limit of common gRPC clients (4 MiB).
    pub response_bytes: usize,
    /// Most names that a client may subscribe to, or say that it has, per type.
    pub names: usize,
    /// Most bytes that the names of all a client's subscriptions may have together.
    pub name_bytes: usize,
    /// Most types per stream.
    pub types: usize,
    /// Up to this many names are told by [`Event::Subscribed`], for sources that make resources on demand.
    pub listed: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            gate: Duration::from_secs(15),
            drain: Duration::from_secs(60),
            response_bytes: 3 << 20,
            names: 100_000,
            name_bytes: 16 << 20,
            types: 64,
            listed: 0,
        }
    }
}

/// The protocol's two variants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Variant {
    /// State of the world: `StreamAggregatedResources`.
    Sotw,
    /// Incremental: `DeltaAggregatedResources`.
    Delta,
}

/// A response to be encoded; its resources are shared.
#[derive(Clone, Debug)]
pub struct Response {
    /// The type.
    pub type_url: TypeUrl,
    /// Unique on the stream.
    pub nonce: u64,
    /// Version of the table of this type that the client approaches.
    pub version: u64,
    /// Whether the client has reached that version with this response. In delta `system_version_info` is empty unless
    /// it has.
    pub complete: bool,
    /// New and changed resources; in state of the world, for listeners, clusters and wildcards, all.
    pub resources: Resources,
    /// Names that no longer exist, or never did. (Delta only; else implied.)
    pub removed: Vec<Arc<str>>,
}

/// The resources of a response.
#[derive(Clone, Debug)]
pub enum Resources {
    /// This stream's own choice.
    Listed(Vec<Resource>),
    /// Whole runs of a table, written once for all streams.
    Shared(Vec<Arc<Chunk>>),
}

impl Resources {
    /// One by one.
    pub fn iter(&self) -> Box<dyn Iterator<Item = &Resource> + '_> {
        match self {
            Self::Listed(list) => Box::new(list.iter()),
            Self::Shared(chunks) => Box::new(chunks.iter().flat_map(|chunk| chunk.iter())),
        }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Listed(list) => list.len(),
            Self::Shared(chunks) => chunks.iter().map(|chunk| chunk.iter().len()).sum(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// About how many bytes they take.
    fn weight(&self) -> usize {
        match self {
            Self::Listed(list) => list.iter().map(Resource::weight).sum(),
            Self::Shared(chunks) => chunks.iter().map(|chunk| chunk.weight).sum(),
        }
    }
}

impl Response {
    fn event(&self) -> Event {
        Event::Sent {
            type_url: self.type_url.clone(),
            nonce: self.nonce,
            version: self.version,
            resources: self.resources.len(),
            removed: self.removed.len(),
            bytes: self.resources.weight(),
        }
    }
}

/// A request that breaks the stream's bounds or rules. The stream should be closed with `InvalidArgument`.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum Refused {
    /// A request without a type.
    #[error("the request has no type_url; on an aggregated stream each request must have one")]
    NoType,
    /// More types than [`Settings::types`].
    #[error("more than {limit} resource types on one stream; use a stream for each group of types")]
    TooManyTypes {
        /// The bound.
        limit: usize,
    },
    /// More names than [`Settings::names`].
    #[error("{type_url}: more than {limit} resource names on one stream; subscribe to \"*\" or to fewer")]
    TooManyNames {
        /// The type.
        type_url: TypeUrl,
        /// The bound.
        limit: usize,
    },
    /// Longer names than [`Settings::name_bytes`].
    #[error(
        "{type_url}: the names of one stream's subscriptions have more than {limit} bytes together; subscribe to \"*\" or to fewer"
    )]
    TooLongNames {
        /// The type of the request.
        type_url: TypeUrl,
        /// The bound.
        limit: usize,
    },
    /// xdstp resource locators.
    #[error("{type_url}: resource locators (xdstp://) are not supported; subscribe by resource names")]
    Locators {
        /// The type.
        type_url: TypeUrl,
    },
}

/// A table and its place in the order in which this stream saw tables.
#[derive(Clone, Debug)]
struct Stage {
    seq: u64,
    table: Arc<Table>,
}

/// The state of one stream.
#[derive(Debug)]
pub struct Stream {
    variant: Variant,
    settings: Settings,
    /// In order of rank, then URL.
    kinds: Vec<Kind>,
    newest: Stage,
    nonce: u64,
    /// Endpoints whose cluster was sent before the client's first request for endpoints.
    owed: Owed,
    synced: Option<u64>,
    events: Vec<Event>,
    pool: Arc<Pool>,
}

impl Stream {
    /// A stream that has just begun; `table` is what its client should have.
    #[must_use]
    pub fn new(variant: Variant, settings: Settings, table: Arc<Table>) -> Self {
        Self {
            variant,
            settings,
            kinds: Vec::new(),
            newest: Stage { seq: 1, table },
            nonce: 0,
            owed: Owed::default(),
            pool: Arc::default(),
            synced: None,
            events: Vec::new(),
        }
    }

    /// Shares sets of names with other streams.
    #[must_use]
    pub fn sharing(self, pool: Arc<Pool>) -> Self {
        Self { pool, ..self }
    }

    /// Another table is the one that the client should have. One of equal content changes nothing.
    pub fn on_table(&mut self, table: Arc<Table>) {
        if table.version() != self.newest.table.version() {
            self.newest = Stage {
                seq: self.newest.seq + 1,
                table,
            };
        }
    }

    /// The next response that can be sent now. Call it until there is none, after every input and when
    /// [`Stream::deadline`] has come; call it late, when the transport can take a message, and changes coalesce.
    pub fn poll(&mut self, now: Duration) -> Option<Response> {
        // What came in since the last call may use what nothing used then.
        self.note_unused(now);
        loop {
            for at in 0..self.kinds.len() {
                if let Some(response) = self.poll_kind(at, now) {
                    self.send_endpoints_behind(&response);
                    return Some(response);
                }
            }
            if !self.note_unused(now) {
                self.note_rejections();
                self.note_synced();
                return None;
            }
        }
    }

    /// Whether the client has answered everything.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.kinds.iter().all(|kind| kind.in_flight.is_none())
    }

    fn poll_kind(&mut self, at: usize, now: Duration) -> Option<Response> {
        let source = self.source(self.kinds.get(at)?.rank, now)?;
        let sending = Sending {
            variant: self.variant,
            now,
            drain: self.settings.drain,
            bytes: self.settings.response_bytes,
            nonce: self.nonce + 1,
        };
        let response = self.kinds.get_mut(at)?.next(&source, sending, &mut self.events);
        self.nonce += u64::from(response.is_some());
        response
    }

    fn note_synced(&mut self) {
        let seq = self.newest.seq;
        let at_newest = |kind: &Kind| kind.settled.as_ref().is_some_and(|stage| stage.seq == seq);
        if self.synced != Some(seq) && !self.kinds.is_empty() && self.kinds.iter().all(at_newest) {
            self.synced = Some(seq);
            self.events.push(Event::Synced {
                table: self.newest.table.clone(),
            });
        }
    }

    /// What happened since the last call, in order.
    pub fn events(&mut self) -> Vec<Event> {
        self.note_rejections();
        std::mem::take(&mut self.events)
    }

    fn note_rejections(&mut self) {
        self.events
            .extend(self.kinds.iter_mut().filter_map(Kind::rejections));
    }

    fn kind(&self, rank: Rank) -> Option<&Kind> {
        self.kinds.iter().find(|kind| kind.rank == rank)
    }

    /// The state of a type, begun if this is its first request.
    fn kind_mut(&mut self, url: TypeUrl) -> Result<(&mut Kind, bool), Refused> {
        if url.as_str().is_empty() {
            return Err(Refused::NoType);
        }
        let place = (url.rank(), url.clone());
        let found = self
            .kinds
            .binary_search_by(|kind| (kind.rank, kind.url.clone()).cmp(&place));
        let first = found.is_err();
        let limit = self.settings.types;
        let at = match found {
            Ok(at) => at,
            Err(_) if self.kinds.len() >= limit => return Err(Refused::TooManyTypes { limit }),
            Err(at) => {
                self.kinds.insert(at, Kind::new(url));
                at
            }
        };
        let kind = self.kinds.get_mut(at).ok_or(Refused::NoType)?;
        Ok((kind, first))
    }

    fn check_names(&self, url: &TypeUrl, names: usize) -> Result<(), Refused> {
        let known = self.kinds.iter().find(|kind| kind.url == *url);
        let had = known.map_or(0, |kind| kind.subscription.names.len());
        let limit = self.settings.names;
        if had.saturating_add(names) > limit {
            return Err(Refused::TooManyNames {
                type_url: url.clone(),
                limit,
            });
        }
        Ok(())
    }

    /// Whether names may be kept beside those of the other types, and beside what is kept of their own where they are `added`.
    fn check_bytes(&self, url: &TypeUrl, names: &[String], added: bool) -> Result<(), Refused> {
        let kept = self.kinds.iter().filter(|kind| added || kind.url != *url);
        let kept: usize = kept.map(|kind| kind.subscription.names.bytes()).sum();
        let new: usize = names.iter().map(String::len).sum();
        let limit = self.settings.name_bytes;
        if kept.saturating_add(new) > limit {
            let type_url = url.clone();
            return Err(Refused::TooLongNames { type_url, limit });
        }
        Ok(())
    }

    fn note_subscribed(&mut self, url: &TypeUrl) {
        self.synced = None;
        let Some(kind) = self.kinds.iter().find(|kind| kind.url == *url) else {
            return;
        };
        let names = &kind.subscription.names;
        let few = names.len() <= self.settings.listed;
        self.events.push(Event::Subscribed {
            type_url: url.clone(),
            wildcard: kind.subscription.wildcard,
            names: names.len(),
            listed: if few {
                names.iter().cloned().collect()
            } else {
                Vec::new()
            },
        });
    }
}

/// A nonce as it is written on the wire.
#[must_use]
pub fn nonce_text(nonce: u64) -> String {
    format!("{nonce:x}")
}

/// A nonce that this side may have written.
fn nonce_of(text: &str) -> Option<u64> {
    u64::from_str_radix(text, 16).ok()
}

/// A version as it is written on the wire.
#[must_use]
pub fn version_text(version: u64) -> String {
    format!("{version:016x}")
}
