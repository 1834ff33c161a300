//! Keeps the state of a cluster current: takes what the watches tell, and publishes what has changed, endpoints at once and
//! configuration after a short quiet time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use config::{Kind, Object};
use kube::Client;
use runtime::Metrics;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::kinds::built_in;
use super::reducer::{Event, Reducer};
use super::watches::{News, Told, Watches};
use crate::sources::Outlet;

/// Quiet time after a change of configuration: what `kubectl apply` sends comes object by object.
const QUIET: Duration = Duration::from_millis(10);
/// Configuration that keeps changing is published nevertheless after this time.
const LONGEST_WAIT: Duration = Duration::from_millis(100);
/// Kinds that are named when several are awaited.
const NAMED: usize = 3;

/// Follows the cluster until `shutdown`. `remembered` is what was served before a restart.
pub(crate) async fn run(
    client: Client,
    root_namespace: String,
    remembered: Vec<Arc<Object>>,
    outlet: Outlet,
    metrics: Metrics,
    shutdown: CancellationToken,
) {
    let (watches, told) = Watches::new(client, &root_namespace, &metrics);
    let source = Source {
        watches,
        reducer: Reducer::remembering(remembered),
        outlet,
        due: None,
        is_complete: false,
    };
    _ = shutdown.run_until_cancelled(source.follow(told)).await;
}

struct Source {
    watches: Watches,
    reducer: Reducer,
    outlet: Outlet,
    due: Option<Due>,
    /// Whether all kinds were there once. One that is defined later, and cannot be read, does not hold up the others.
    is_complete: bool,
}

/// When the state is to be published.
#[derive(Clone, Copy)]
struct Due {
    at: Instant,
    latest: Instant,
}

impl Source {
    async fn follow(mut self, mut told: mpsc::Receiver<Told>) {
        self.watch(&BTreeMap::new());
        loop {
            let news = match self.due {
                Some(due) => tokio::select! {
                    news = told.recv() => news,
                    () = sleep_until(due.at) => {
                        self.publish();
                        continue;
                    }
                },
                None => told.recv().await,
            };
            let Some(news) = news else { return };
            self.take(news);
            // What has come already belongs to the same state.
            while let Ok(news) = told.try_recv() {
                self.take(news);
            }
            if self.due.is_some_and(|due| due.at <= Instant::now()) {
                self.publish();
            }
        }
    }

    /// Watches the kinds of every API server and those that are defined.
    fn watch(&mut self, defined: &BTreeMap<Kind, &'static str>) {
        let mut kinds: BTreeMap<Kind, &'static str> =
            built_in().map(|kind| (kind, kind.stored_version())).collect();
        kinds.extend(defined);
        self.watches.set(&kinds);
        if self.reducer.expect(&self.watches.kinds()) {
            self.changed(false);
        }
    }

    fn take(&mut self, told: Told) {
        if !self.watches.is_current(&told) {
            return;
        }
        match told.news {
            News::Kinds(kinds) => self.watch(&kinds),
            News::Events(events) => {
                for (kind, event) in events {
                    let failed = matches!(event, Event::Failed(_));
                    if self.reducer.apply(kind, event) {
                        self.changed(is_urgent(kind));
                    } else if failed {
                        self.explain();
                    }
                }
            }
        }
    }

    /// The state is another: publishes it soon.
    fn changed(&mut self, urgent: bool) {
        let now = Instant::now();
        let latest = self.due.map_or(now + LONGEST_WAIT, |due| due.latest);
        let at = if urgent { now } else { (now + QUIET).min(latest) };
        // Nothing puts off what is due already.
        let at = if self.due.is_some_and(|due| due.at <= now) {
            now
        } else {
            at
        };
        self.due = Some(Due { at, latest });
    }

    fn publish(&mut self) {
        self.due = None;
        self.is_complete |= self.reducer.awaited().is_empty();
        if self.is_complete {
            self.outlet.publish(Arc::new(self.reducer.state()));
        } else {
            self.explain();
        }
    }

    /// Says what the first state waits for.
    fn explain(&self) {
        let awaited = self.reducer.awaited();
        let name = |(kind, reason): &(Kind, Option<&str>)| match reason {
            Some(reason) => format!("{kind} ({reason})"),
            None => kind.to_string(),
        };
        // Those that fail before those that are only slow.
        let mut known: Vec<_> = awaited.iter().filter(|(_, reason)| reason.is_some()).collect();
        known.extend(awaited.iter().filter(|(_, reason)| reason.is_none()));
        let mut text = known
            .iter()
            .take(NAMED)
            .map(|one| name(one))
            .collect::<Vec<_>>()
            .join(", ");
        if known.len() > NAMED {
            text = format!("{text} and {} kinds more", known.len() - NAMED);
        }
        if !text.is_empty() {
            self.outlet.wait_for(format!("waiting for {text}"));
        }
    }
}

/// Endpoints do not wait for anything.
fn is_urgent(kind: Kind) -> bool {
    matches!(kind, Kind::EndpointSlice | Kind::Pod | Kind::WorkloadEntry)
}
