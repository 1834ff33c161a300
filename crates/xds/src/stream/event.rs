//! What happened on a stream, for those who watch it (status, metrics, logs).

use crate::table::Table;
use crate::types::TypeUrl;
use std::sync::Arc;
use std::time::Duration;

/// Something that happened on one stream.
#[derive(Clone, Debug)]
pub enum Event {
    /// The stream was accepted.
    Connected,
    /// A client changed what it is subscribed to.
    Subscribed {
        /// The type.
        type_url: TypeUrl,
        /// Whether it wants all resources.
        wildcard: bool,
        /// How many names it asked for by name.
        names: usize,
        /// Those names, where they are no more than [`super::Settings::listed`].
        listed: Vec<Arc<str>>,
    },
    /// A response was handed to the transport.
    Sent {
        /// The type.
        type_url: TypeUrl,
        /// Its nonce.
        nonce: u64,
        /// The version of the table of that type that it leads to; see [`crate::table::TypeTable::version`].
        version: u64,
        /// How many resources it carries.
        resources: usize,
        /// How many it removes.
        removed: usize,
        /// About how many bytes the resources take.
        bytes: usize,
    },
    /// The client accepted a response.
    Acked {
        /// The type.
        type_url: TypeUrl,
        /// The nonce of the response.
        nonce: u64,
        /// The version that the response had.
        version: u64,
        /// From sending to this.
        after: Duration,
    },
    /// The client rejected a response.
    Nacked {
        /// The type.
        type_url: TypeUrl,
        /// The nonce of the response.
        nonce: u64,
        /// The client's words.
        message: Arc<str>,
        /// Resources of the response that may be the cause. Where there are several and none is named, they are sent
        /// again in smaller messages until the cause is alone.
        suspects: Vec<Arc<str>>,
        /// Whether `suspects` are the cause beyond doubt.
        certain: bool,
    },
    /// The resources of a type that the client has rejected and that have not changed since: the whole list, whenever
    /// it changes. They are not sent again until they change or are asked for again.
    Rejected {
        /// The type.
        type_url: TypeUrl,
        /// All of them; empty when there are none any more.
        resources: Vec<Rejection>,
    },
    /// The client has answered all that this table asks of it (removals may be due later).
    Synced {
        /// The newest table.
        table: Arc<Table>,
    },
    /// The stream is over.
    Closed,
}

/// One rejected resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Its name.
    pub name: Arc<str>,
    /// The rejected version.
    pub version: u64,
    /// The client's words.
    pub message: Arc<str>,
}
