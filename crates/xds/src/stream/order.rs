//! The order between types: who waits for whom, for how long, and when nothing refers to a resource any more.

use super::held::Hold;
use super::kind::Kind;
use super::{Resources, Response, Stage, Stream};
use crate::types::{CLUSTER, ENDPOINTS, ROUTE, Rank, TypeUrl};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

/// The types that must have answered before one of this rank may be sent.
fn before(rank: Rank) -> &'static [Rank] {
    match rank {
        Rank::Listener => &[Rank::Cluster],
        Rank::Route => &[Rank::Cluster, Rank::Listener],
        Rank::Free | Rank::Cluster | Rank::Endpoints => &[],
    }
}

/// Whether something may still refer to a resource.
#[derive(PartialEq, Eq)]
enum Use {
    Possible,
    /// Not any more once messages under way are answered.
    Ending,
    Over,
}

impl Stream {
    /// The table that a type may go to now: the newest that all types before it have answered, or, when one has not
    /// answered for the time of the gate, the newest that they have been sent.
    ///
    /// So nothing is ever sent before what it refers to, whoever is slow.
    pub(super) fn source(&self, rank: Rank, now: Duration) -> Option<Stage> {
        let mut source = Some(&self.newest);
        for kind in before(rank).iter().filter_map(|rank| self.kind(*rank)) {
            let reached = if self.overdue(kind, now) {
                &kind.sent
            } else {
                &kind.settled
            };
            let reached = reached.as_ref();
            source = source
                .zip(reached)
                .map(|(one, two)| if two.seq < one.seq { two } else { one });
        }
        source.cloned()
    }

    fn overdue(&self, kind: &Kind, now: Duration) -> bool {
        kind.in_flight
            .as_ref()
            .is_some_and(|in_flight| now >= in_flight.sent_at + self.settings.gate)
    }

    /// When the state should be polled again though nothing came in.
    #[must_use]
    pub fn deadline(&self, now: Duration) -> Option<Duration> {
        let gates = self
            .kinds
            .iter()
            .filter(|kind| matches!(kind.rank, Rank::Cluster | Rank::Listener));
        let gates = gates.filter_map(|kind| kind.in_flight.as_ref());
        let gates = gates
            .map(|in_flight| in_flight.sent_at + self.settings.gate)
            .filter(|due| *due > now);
        let waiting = self.kinds.iter().filter(|kind| kind.in_flight.is_none());
        let drains = waiting.flat_map(|kind| kind.unused.values().flatten());
        let drains = drains
            .map(|since| *since + self.settings.drain)
            .filter(|due| *due > now);
        gates.chain(drains).min()
    }

    /// Envoy keeps a new or changed EDS cluster warming until its endpoints arrive after it, also when they are the
    /// same and it is subscribed to them already.
    pub(super) fn send_endpoints_behind(&mut self, response: &Response) {
        if response.type_url != CLUSTER {
            return;
        }
        if self.kind(Rank::Endpoints).is_none() {
            return self.owed.add(&response.resources);
        }
        let in_flight = self.kind(Rank::Cluster).and_then(|kind| kind.in_flight.as_ref());
        let changed = in_flight.map(|in_flight| in_flight.changes.resources());
        let names = changed
            .into_iter()
            .flatten()
            .filter_map(|each| each.endpoints.clone());
        let names: Vec<Arc<str>> = names.collect();
        let Some(kind) = self.kinds.iter_mut().find(|kind| kind.rank == Rank::Endpoints) else {
            return;
        };
        for name in names {
            if kind.subscription.covers(&name) {
                kind.ask(name);
            }
        }
    }

    /// Starts the drain time of what nothing refers to any more, and stops it where something does again. Says whether
    /// something has become due.
    pub(super) fn note_unused(&mut self, now: Duration) -> bool {
        let names = |kind: &Kind| {
            kind.unused
                .keys()
                .cloned()
                .map(|name| (kind.url.clone(), name))
                .collect()
        };
        let all: Vec<Vec<(TypeUrl, Arc<str>)>> = self.kinds.iter().map(names).collect();
        for (url, name) in all.into_iter().flatten() {
            let state = self.in_use(&url, &name);
            let Some(kind) = self.kinds.iter_mut().find(|kind| kind.url == url) else {
                continue;
            };
            let Some(since) = kind.unused.get_mut(&name) else {
                continue;
            };
            match state {
                Use::Possible => *since = None,
                Use::Ending => {}
                Use::Over => {
                    since.get_or_insert(now);
                }
            }
        }
        self.wake_drained(now)
    }

    fn wake_drained(&mut self, now: Duration) -> bool {
        let drain = self.settings.drain;
        let mut woken = false;
        for kind in &mut self.kinds {
            let due = kind.unused.values().flatten().any(|since| *since + drain <= now);
            woken |= due && !kind.dirty;
            kind.dirty |= due;
        }
        woken
    }

    fn in_use(&self, url: &TypeUrl, name: &str) -> Use {
        match url.rank() {
            Rank::Cluster => self.referred(&[Rank::Listener, Rank::Route], &CLUSTER, name),
            Rank::Route => self.referred(&[Rank::Listener], &ROUTE, name),
            Rank::Endpoints if self.has_cluster_of(name) => Use::Possible,
            _ => Use::Over,
        }
    }

    /// Whether resources of these ranks may refer to the named one: they do not once the client has answered tables
    /// that lack it, and rejected nothing of them.
    fn referred(&self, ranks: &[Rank], url: &TypeUrl, name: &str) -> Use {
        let mut state = Use::Over;
        for kind in ranks.iter().filter_map(|rank| self.kind(*rank)) {
            let lacks = |stage: &Option<Stage>| {
                stage
                    .as_ref()
                    .is_some_and(|stage| stage.table.get(url, name).is_none())
            };
            if kind.stuck() || !lacks(&kind.settled) || !lacks(&kind.sent) {
                return Use::Possible;
            }
            if !kind.quiet() {
                state = Use::Ending;
            }
        }
        state
    }

    /// Whether the client still has a cluster, gone from the table, with these endpoints.
    fn has_cluster_of(&self, endpoints: &str) -> bool {
        self.kind(Rank::Cluster).is_some_and(|kind| {
            kind.unused.keys().any(|name| match kind.held.get(name) {
                Hold::Has(cluster) => cluster.endpoints.as_deref().unwrap_or(name) == endpoints,
                Hold::Nothing | Hold::Asked => false,
            })
        })
    }

    /// At the first request for endpoints: those whose clusters went out before it must be sent whatever the client
    /// says that it has. Where it said nothing they are anyway.
    pub(super) fn pay_owed(&mut self, url: &TypeUrl, said_to_have: bool) {
        if *url != ENDPOINTS {
            return;
        }
        let owed = std::mem::take(&mut self.owed);
        let Some(kind) = self.kinds.iter_mut().find(|kind| kind.url == *url) else {
            return;
        };
        if !said_to_have {
            return;
        }
        for name in owed.into_names() {
            if kind.subscription.covers(&name) {
                kind.ask(name);
            }
        }
    }
}

/// Clusters that were sent before the client's first request for endpoints.
#[derive(Debug, Default)]
pub(super) struct Owed {
    /// As they were sent; mostly one response that all streams share.
    responses: Vec<Resources>,
    /// The endpoints of all others.
    names: HashSet<Arc<str>>,
}

/// Responses that are kept before they are broken up into names.
const KEPT: usize = 4;

impl Owed {
    fn add(&mut self, clusters: &Resources) {
        if self.responses.len() >= KEPT {
            self.names = std::mem::take(self).into_names();
        }
        self.responses.push(clusters.clone());
    }

    fn into_names(self) -> HashSet<Arc<str>> {
        let mut names = self.names;
        let clusters = self.responses.iter().flat_map(Resources::iter);
        names.extend(clusters.filter_map(|cluster| cluster.endpoints.clone()));
        names
    }
}
