//! What a client's answer to a response means for one type: an ACK settles it, a NACK is pinned to resources.

use super::event::{Event, Rejection};
use super::held::Hold;
use super::kind::{Change, InFlight, Kind};
use super::{Stage, nack};
use crate::table::TypeTable;
use std::sync::Arc;
use std::time::Duration;

/// Most bytes of a client's words that are kept for each resource that it rejects; Envoy's have some hundred.
const MAX_MESSAGE: usize = 4096;

fn shortened(message: &str) -> &str {
    let end = message.floor_char_boundary(MAX_MESSAGE);
    message.get(..end).unwrap_or(message)
}

impl Kind {
    /// The client answered the response with this nonce; another nonce means nothing.
    pub(super) fn answered(
        &mut self,
        nonce: u64,
        error: Option<&str>,
        now: Duration,
        events: &mut Vec<Event>,
    ) {
        let Some(answered) = self.in_flight.take_if(|in_flight| in_flight.nonce == nonce) else {
            return;
        };
        self.dirty = true;
        match error {
            None => {
                events.push(Event::Acked {
                    type_url: self.url.clone(),
                    nonce,
                    version: answered.version,
                    after: now.saturating_sub(answered.sent_at),
                });
                if !self.uncertain.is_empty() {
                    let changes = answered.changes.listed();
                    changes
                        .iter()
                        .for_each(|(change, _)| _ = self.uncertain.remove(change.name()));
                }
                self.settle(answered.completes);
            }
            Some(message) => self.refused(answered, message, events),
        }
    }

    fn settle(&mut self, completes: Option<Stage>) {
        if completes.is_some() {
            self.settled = completes;
            self.partial = false;
        }
    }

    fn refused(&mut self, answered: InFlight, message: &str, events: &mut Vec<Event>) {
        let changes = answered.changes.listed();
        let sent: Vec<_> = changes.iter().map(|(change, _)| change.name().clone()).collect();
        let blamed = nack::blamed(self.rank, message, &sent);
        let certain = !blamed.is_empty() || sent.is_empty();
        let message: Arc<str> = shortened(message).into();
        events.push(Event::Nacked {
            type_url: self.url.clone(),
            nonce: answered.nonce,
            message: message.clone(),
            suspects: if certain { blamed.clone() } else { sent.clone() },
            certain,
        });
        for (change, before) in changes {
            let name = change.name().clone();
            if !certain {
                if let Change::Upsert(resource) = &change
                    && self.subscription.covers(&name)
                {
                    let versions = self.uncertain.entry(name.clone()).or_default();
                    versions.insert(resource.version);
                }
                self.held.set(name, before);
            } else if blamed.contains(&name) {
                self.reject(change, before, &message);
            } else {
                self.uncertain.remove(&name);
            }
        }
        if certain {
            self.settle(answered.completes);
        } else {
            self.partial = true;
            for group in nack::split(&sent).into_iter().rev() {
                self.isolate.push_front(group);
            }
        }
    }

    fn reject(&mut self, change: Change, before: Hold, message: &Arc<str>) {
        let name = change.name().clone();
        if let Change::Upsert(resource) = change {
            if let Some(versions) = self.uncertain.get_mut(&name) {
                versions.remove(&resource.version);
            }
            self.uncertain.retain(|_, versions| !versions.is_empty());
            let rejection = Rejection {
                name: name.clone(),
                version: resource.version,
                message: message.clone(),
            };
            self.rejected.insert(name.clone(), rejection);
            self.rejections_changed = true;
        }
        self.held.set(
            name,
            if before == Hold::Asked {
                Hold::Nothing
            } else {
                before
            },
        );
    }

    /// A rejection is over when the resource is another or nobody wants it.
    pub(super) fn forget_rejected(&mut self, target: &TypeTable) {
        let before = self.rejected.len();
        let subscription = &self.subscription;
        self.rejected.retain(|name, rejection| {
            subscription.covers(name)
                && target
                    .get(name)
                    .is_some_and(|resource| resource.version == rejection.version)
        });
        self.rejections_changed |= self.rejected.len() != before;
    }

    pub(super) fn forgive(&mut self, name: &str) {
        self.rejections_changed |= self.rejected.remove(name).is_some();
    }

    /// What is rejected now, if that is news.
    pub(super) fn rejections(&mut self) -> Option<Event> {
        std::mem::take(&mut self.rejections_changed).then(|| Event::Rejected {
            type_url: self.url.clone(),
            resources: self.rejected.values().cloned().collect(),
        })
    }
}
