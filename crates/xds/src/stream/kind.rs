//! The state of one resource type on one stream: what the client has, what is un-ACKed, what it rejected.

use super::bulk::Changes;
use super::event::{Event, Rejection};
use super::held::{Held, Hold};
use super::names::Set;
use super::subscription::{Changed, Subscription};
use super::{Resources, Response, Stage, Variant};
use crate::cluster::no_endpoints;
use crate::table::{Resource, TypeTable};
use crate::types::{Rank, TypeUrl};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// One type on one stream.
#[derive(Debug)]
pub(super) struct Kind {
    pub(super) url: TypeUrl,
    pub(super) rank: Rank,
    pub(super) subscription: Subscription,
    pub(super) held: Held,
    /// The client waits for a response even when there is nothing to say.
    pub(super) answer: bool,
    pub(super) in_flight: Option<InFlight>,
    /// Nonce of the newest response, ACKed or not.
    pub(super) last_nonce: Option<u64>,
    pub(super) rejected: BTreeMap<Arc<str>, Rejection>,
    /// Versions that came with messages that were rejected as a whole: Envoy applies such a message up to the first bad
    /// resource, so it may have them, until it has said what it makes of them alone or has taken another.
    pub(super) uncertain: BTreeMap<Arc<str>, BTreeSet<u64>>,
    /// `rejected` is another than those who watch know.
    pub(super) rejections_changed: bool,
    /// Groups of names from a rejected message, to be sent apart.
    pub(super) isolate: VecDeque<Vec<Arc<str>>>,
    /// The newest table that was sent entirely.
    pub(super) sent: Option<Stage>,
    /// The newest table that was sent entirely and answered.
    pub(super) settled: Option<Stage>,
    /// Part of a newer table than `sent` was sent.
    pub(super) partial: bool,
    /// There may be something to send although the table is the same.
    pub(super) dirty: bool,
    /// What the table no longer has and the client still has, and since when nothing can use it.
    pub(super) unused: BTreeMap<Arc<str>, Option<Duration>>,
}

/// The un-ACKed response.
#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) nonce: u64,
    pub(super) sent_at: Duration,
    pub(super) version: u64,
    /// What it changed, and what the client had before.
    pub(super) changes: Changes,
    /// The table that the client stands at once it has answered; `None` when parts are still to come.
    pub(super) completes: Option<Stage>,
}

/// One change to be sent.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Upsert(Resource),
    Remove(Arc<str>),
}

impl Change {
    pub(super) fn name(&self) -> &Arc<str> {
        match self {
            Self::Upsert(resource) => &resource.name,
            Self::Remove(name) => name,
        }
    }

    fn weight(&self) -> usize {
        // Tag and length.
        const AROUND: usize = 8;
        match self {
            Self::Upsert(resource) => resource.weight(),
            Self::Remove(name) => AROUND + name.len(),
        }
    }
}

/// What a sender needs to know besides the state.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sending {
    pub(super) variant: Variant,
    pub(super) now: Duration,
    /// Time from the moment when nothing uses a resource to its removal.
    pub(super) drain: Duration,
    /// About how many bytes a response may have.
    pub(super) bytes: usize,
    /// Nonce for a response.
    pub(super) nonce: u64,
}

impl Kind {
    pub(super) fn new(url: TypeUrl) -> Self {
        Self {
            rank: url.rank(),
            url,
            subscription: Subscription::default(),
            held: Held::default(),
            answer: false,
            in_flight: None,
            last_nonce: None,
            rejected: BTreeMap::new(),
            uncertain: BTreeMap::new(),
            rejections_changed: false,
            isolate: VecDeque::new(),
            sent: None,
            settled: None,
            partial: false,
            dirty: true,
            unused: BTreeMap::new(),
        }
    }

    /// Takes over a changed subscription. `known`: names that the client has from an earlier stream.
    pub(super) fn subscribed(&mut self, mut changed: Changed, known: impl Fn(&str) -> bool) {
        if changed.widened {
            let names = &self.subscription.names;
            self.held.keep_only(|name| names.contains(name));
        }
        for name in changed.dropped {
            self.forgive(&name);
            self.uncertain.remove(&name);
            // Whoever drops a name under a wildcard is told what there is (on-demand CDS).
            self.held.set(
                name,
                if self.subscription.wildcard {
                    Hold::Asked
                } else {
                    Hold::Nothing
                },
            );
        }
        if let Some(set) = &changed.began
            && !self.begin(set, &known)
        {
            changed.asked.extend(set.iter().cloned());
        }
        for name in changed.asked {
            if !known(&name) {
                self.ask(name);
            }
        }
        self.dirty = true;
    }

    /// Asks for all of a set at once, where that is possible.
    fn begin(&mut self, set: &Arc<Set>, known: &impl Fn(&str) -> bool) -> bool {
        self.rejected.is_empty() && !set.iter().any(|name| known(name)) && self.held.ask_all(set)
    }

    /// The client waits for that resource, whatever it was sent before.
    pub(super) fn ask(&mut self, name: Arc<str>) {
        self.forgive(&name);
        self.held.set(name, Hold::Asked);
        self.dirty = true;
    }

    /// Whether the client may still use an old version of something because it rejected the new one.
    pub(super) fn stuck(&self) -> bool {
        let has = |name: &Arc<str>| matches!(self.held.get(name), Hold::Has(_));
        !self.uncertain.is_empty() || self.rejected.keys().any(has)
    }

    /// Whether the client has answered everything and nothing is half sent.
    pub(super) fn quiet(&self) -> bool {
        self.in_flight.is_none() && !self.partial
    }

    /// The next response towards `source`, if there is something to say and nothing is un-ACKed.
    pub(super) fn next(
        &mut self,
        source: &Stage,
        sending: Sending,
        events: &mut Vec<Event>,
    ) -> Option<Response> {
        let at_it = self.sent.as_ref().is_some_and(|sent| sent.seq == source.seq);
        if self.in_flight.is_some() || (at_it && !self.dirty) {
            return None;
        }
        let target = source.table.of_type(&self.url);
        self.forget_rejected(&target);
        let response = match self.next_bulk(source, &target, sending) {
            Some(response) => response,
            None => self.next_listed(source, &target, sending)?,
        };
        events.push(response.event());
        Some(response)
    }

    fn next_listed(&mut self, source: &Stage, target: &Arc<TypeTable>, sending: Sending) -> Option<Response> {
        loop {
            let work = self.work(target, sending);
            let total = work.len();
            let batch = self.batch(work, sending);
            let complete = batch.len() == total;
            let response = self.response(&batch, target, complete, sending);
            let changes = self.apply(batch);
            if complete {
                self.held.rebase(target.clone());
                self.sent = Some(source.clone());
            }
            if let Some(response) = response {
                self.sent_now(&response, Changes::Listed(changes), source, sending);
                return Some(response);
            }
            if complete {
                self.dirty = false;
                self.partial = false;
                self.settled = Some(source.clone());
                return None;
            }
        }
    }

    /// What the client lacks of `target`, in order of names. Also notes what it has too much and must keep for now.
    fn work(&mut self, target: &Arc<TypeTable>, sending: Sending) -> Vec<Change> {
        let mut unused = BTreeMap::new();
        let mut work = Vec::new();
        for name in self.held.suspects(target) {
            if !self.subscription.covers(&name) {
                continue;
            }
            match (self.held.get(&name), target.get(&name)) {
                (Hold::Has(has), Some(is)) if has.version == is.version => {}
                (Hold::Nothing, None) => {}
                (Hold::Has(_) | Hold::Nothing, Some(_)) if self.rejected.contains_key(&name) => {}
                (_, Some(is)) => work.push(Change::Upsert(is.clone())),
                (Hold::Asked, None) => work.push(Change::Remove(name)),
                (Hold::Has(_), None) => {
                    let since = self.unused.get(&name).copied().flatten();
                    if self.removable(since, sending) {
                        work.push(Change::Remove(name));
                    } else {
                        unused.insert(name, since);
                    }
                }
            }
        }
        self.unused = unused;
        work
    }

    /// What others refer to goes away a drain time after the last reference.
    fn removable(&self, since: Option<Duration>, sending: Sending) -> bool {
        let others_refer = matches!(self.rank, Rank::Cluster | Rank::Endpoints | Rank::Route);
        !others_refer || since.is_some_and(|since| since + sending.drain <= sending.now)
    }

    /// The part of the work that the next response carries.
    fn batch(&mut self, work: Vec<Change>, sending: Sending) -> Vec<Change> {
        while let Some(group) = self.isolate.pop_front() {
            let of_group = |change: &&Change| group.contains(change.name());
            let batch: Vec<_> = work.iter().filter(of_group).cloned().collect();
            if !batch.is_empty() {
                return batch;
            }
        }
        if self.whole_state(sending.variant) {
            return work;
        }
        let mut left = sending.bytes;
        let fits = work.iter().take_while(|change| {
            let fits = left > 0;
            left = left.saturating_sub(change.weight());
            fits
        });
        let count = fits.count();
        work.into_iter().take(count).collect()
    }

    pub(super) fn whole_state(&self, variant: Variant) -> bool {
        variant == Variant::Sotw && (self.url.whole_state() || self.subscription.wildcard)
    }

    fn response(
        &self,
        batch: &[Change],
        target: &TypeTable,
        complete: bool,
        sending: Sending,
    ) -> Option<Response> {
        let mut resources = Vec::new();
        let mut removed = Vec::new();
        for change in batch {
            match change {
                Change::Upsert(resource) => resources.push(resource.clone()),
                Change::Remove(name) if self.must_say_none(name, sending) => {
                    resources.push(Resource::new(&self.url, name.clone(), no_endpoints(name)));
                }
                Change::Remove(name) => removed.push(name.clone()),
            }
        }
        if self.whole_state(sending.variant) {
            if batch.is_empty() && !self.answer {
                return None;
            }
            resources = self.whole(resources, &removed);
        } else if resources.is_empty() && !self.answer {
            // State of the world has no words for "there is none".
            let silent = removed.is_empty() || sending.variant == Variant::Sotw;
            if silent {
                return None;
            }
        }
        Some(Response {
            type_url: self.url.clone(),
            nonce: sending.nonce,
            version: target.version(),
            complete,
            resources: Resources::Listed(resources),
            removed,
        })
    }

    /// Whether a cluster waits for endpoints that do not exist, and the variant has no words for it.
    fn must_say_none(&self, name: &str, sending: Sending) -> bool {
        sending.variant == Variant::Sotw && self.rank == Rank::Endpoints && self.held.get(name) == Hold::Asked
    }

    /// What the client will have when it has applied these changes.
    fn whole(&self, changed: Vec<Resource>, removed: &[Arc<str>]) -> Vec<Resource> {
        let mut all: BTreeMap<_, _> = self
            .held
            .resources()
            .into_iter()
            .filter(|each| self.subscription.covers(&each.name) && !removed.contains(&each.name))
            .map(|each| (each.name.clone(), each))
            .collect();
        all.extend(changed.into_iter().map(|each| (each.name.clone(), each)));
        all.into_values().collect()
    }

    fn apply(&mut self, batch: Vec<Change>) -> Vec<(Change, Hold)> {
        let mut changes = Vec::with_capacity(batch.len());
        for change in batch {
            let name = change.name().clone();
            let before = self.held.get(&name);
            let after = match &change {
                Change::Upsert(resource) => Hold::Has(resource.clone()),
                Change::Remove(_) => Hold::Nothing,
            };
            self.held.set(name, after);
            changes.push((change, before));
        }
        changes
    }
}
