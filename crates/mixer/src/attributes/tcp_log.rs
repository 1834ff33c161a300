//! A TCP access log entry as attributes, and the totals by which periodic entries become differences.

use std::collections::HashMap;

use envoy_types::pb::envoy::data::accesslog::v3::{
    AccessLogCommon, AccessLogType, ConnectionProperties, TcpAccessLogEntry,
};
use policy::{Connection, Protocol, ReporterKind, Request};

use super::log::{Common, Sender};
use crate::mesh::Mesh;
use crate::meters::{Connections, Reason};

/// Most connections whose totals are remembered.
const MAX_OPEN: usize = 100_000;

/// Longest silence of a connection that is still remembered, in nanoseconds: what comes later counts anew, but for what an open
/// connection had moved by then. Its end never came when its proxy was killed, or the report was dropped.
const SILENCE: i64 = 3_600 * 1_000_000_000;
/// How often the silent are looked for, in nanoseconds.
const SWEEP: i64 = 60 * 1_000_000_000;

/// What each open connection had moved when it was last reported. Envoy reports totals, Mixer's attributes want what
/// came since.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    open: HashMap<(String, String), Open>,
    now: i64,
    swept: i64,
    meters: Connections,
}

#[derive(Debug)]
struct Open {
    moved: ConnectionProperties,
    seen: i64,
}

impl Totals {
    /// None yet.
    pub(crate) fn new(meters: Connections) -> Self {
        Self {
            meters,
            ..Self::default()
        }
    }

    /// Sets the time, in nanoseconds, and forgets connections of which nothing was heard for long.
    pub(crate) fn at(&mut self, now: i64) {
        self.now = now;
        if now.saturating_sub(self.swept) >= SWEEP {
            self.swept = now;
            let before = self.open.len();
            self.open
                .retain(|_, open| now.saturating_sub(open.seen) < SILENCE);
            self.lost("silent", before - self.open.len());
        }
        self.meters
            .open
            .set(i64::try_from(self.open.len()).unwrap_or(i64::MAX));
    }

    fn lost(&self, reason: &'static str, count: usize) {
        if count > 0 {
            let lost = self.meters.lost.get_or_create(&Reason { reason });
            lost.inc_by(count as u64);
        }
    }

    /// Bytes received and sent since the last entry of this connection. Where nothing can be remembered, a connection's
    /// bytes count when it ends.
    fn since(
        &mut self,
        sender: &str,
        id: &str,
        event: Event,
        now: ConnectionProperties,
    ) -> ConnectionProperties {
        let key = (sender.to_owned(), id.to_owned());
        let before = self.open.remove(&key);
        if event != Event::Close {
            if id.is_empty() {
                return ConnectionProperties::default();
            }
            if before.is_none() && self.open.len() >= MAX_OPEN {
                self.lost("full", 1);
                return ConnectionProperties::default();
            }
            let seen = self.now;
            self.open.insert(key, Open { moved: now, seen });
        }
        let before = before.map(|open| open.moved).unwrap_or_default();
        ConnectionProperties {
            received_bytes: now.received_bytes.saturating_sub(before.received_bytes),
            sent_bytes: now.sent_bytes.saturating_sub(before.sent_bytes),
        }
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Event {
    Open,
    Continue,
    #[default]
    Close,
}

impl Event {
    /// As Mixer spells it (`connection.event`).
    fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Continue => "continue",
            Self::Close => "close",
        }
    }

    fn of(kind: AccessLogType) -> Option<Self> {
        match kind {
            AccessLogType::TcpConnectionStart => Some(Self::Open),
            AccessLogType::TcpPeriodic => Some(Self::Continue),
            AccessLogType::NotSet | AccessLogType::TcpConnectionEnd => Some(Self::Close),
            // TcpUpstreamConnected comes beside the start, the others are no TCP connection's.
            _ => None,
        }
    }
}

/// An entry, made ready.
#[derive(Debug, Default)]
pub(crate) struct TcpLog {
    common: AccessLogCommon,
    event: Event,
    total: ConnectionProperties,
    since: ConnectionProperties,
}

impl TcpLog {
    /// Takes an entry; none for one that says nothing of its own.
    pub(crate) fn new(entry: TcpAccessLogEntry, sender: &Sender, totals: &mut Totals) -> Option<Self> {
        let common = entry.common_properties.unwrap_or_default();
        let event = Event::of(common.access_log_type())?;
        let total = entry.connection_properties.unwrap_or_default();
        let since = totals.since(&sender.principal, &common.stream_id, event, total);
        Some(Self {
            common,
            event,
            total,
            since,
        })
    }

    /// Calls `then` with the attributes.
    pub(crate) fn with_request<T>(
        &self,
        mesh: &Mesh,
        sender: &Sender,
        then: impl FnOnce(&Request<'_>) -> T,
    ) -> T {
        let common = Common::new(&self.common, sender);
        let connection = Connection {
            id: Some(&self.common.stream_id),
            event: Some(self.event.name()),
            received: Some(int(self.since.received_bytes)),
            received_total: Some(int(self.total.received_bytes)),
            sent: Some(int(self.since.sent_bytes)),
            sent_total: Some(int(self.total.sent_bytes)),
            duration: common.duration(),
        };
        let mut request = Request {
            protocol: Protocol::Tcp,
            connection,
            ..common.request(mesh)
        };
        if request.reporter == ReporterKind::Inbound {
            let (workload, port) = (request.destination.workload, request.destination.port);
            request.service = workload.and_then(|w| w.service(port, None));
        }
        then(&request)
    }
}

fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(received_bytes: u64, sent_bytes: u64) -> ConnectionProperties {
        ConnectionProperties {
            received_bytes,
            sent_bytes,
        }
    }

    #[test]
    fn totals_become_differences() {
        let mut totals = Totals::default();
        let mut add = |id: &str, event, now| totals.since("me", id, event, now);
        assert_eq!(add("1", Event::Open, bytes(0, 0)), bytes(0, 0));
        assert_eq!(add("1", Event::Continue, bytes(10, 5)), bytes(10, 5));
        assert_eq!(add("2", Event::Continue, bytes(7, 0)), bytes(7, 0));
        assert_eq!(add("1", Event::Continue, bytes(15, 5)), bytes(5, 0));
        assert_eq!(add("1", Event::Close, bytes(15, 9)), bytes(0, 4));
        assert_eq!(add("", Event::Continue, bytes(9, 9)), bytes(0, 0));
        assert_eq!(add("", Event::Close, bytes(9, 9)), bytes(9, 9));
        assert_eq!(totals.open.len(), 1);
    }

    #[test]
    fn connections_whose_end_never_came_are_forgotten_and_counted() {
        let mut totals = Totals::default();
        totals.since("me", "1", Event::Open, bytes(0, 0));
        totals.at(SILENCE - 1);
        totals.since("me", "2", Event::Continue, bytes(5, 0));
        assert_eq!(totals.open.len(), 2);
        totals.at(SILENCE + SWEEP);
        assert_eq!((totals.open.len(), totals.meters.open.get()), (1, 1));
        let silent = Reason { reason: "silent" };
        assert_eq!(totals.meters.lost.get_or_create(&silent).get(), 1);
        let since = totals.since("me", "2", Event::Close, bytes(7, 0));
        assert_eq!(since, bytes(2, 0), "the other is still known");
    }

    #[test]
    fn another_sender_has_connections_of_its_own() {
        let mut totals = Totals::default();
        totals.since("a", "1", Event::Continue, bytes(10, 0));
        assert_eq!(totals.since("b", "1", Event::Close, bytes(10, 0)), bytes(10, 0));
    }
}
