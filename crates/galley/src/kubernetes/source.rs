//! Keeps the state of a cluster current: takes what the watches tell, and publishes what has changed: endpoints and a change
//! after a rest at once, configuration that comes in a burst after a short quiet time.

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

/// Quiet time after a change of configuration that followed another one within this time: what `kubectl apply` sends comes
/// object by object.
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
        changed_at: None,
        is_complete: false,
    };
    _ = shutdown.run_until_cancelled(source.follow(told)).await;
}

struct Source {
    watches: Watches,
    reducer: Reducer,
    outlet: Outlet,
    due: Option<Due>,
    /// When the state became another one last.
    changed_at: Option<Instant>,
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
        let since = self.changed_at.replace(now).map(|before| now - before);
        self.due = Some(due(self.due, now, since, urgent));
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

/// When to publish a change, which comes `since` the one before it (`None`: it is the first), where another may be due.
fn due(before: Option<Due>, now: Instant, since: Option<Duration>, urgent: bool) -> Due {
    let latest = before.map_or(now + LONGEST_WAIT, |due| due.latest);
    // Nothing puts off what is due already, and nothing after a rest waits for what may follow.
    let is_due = before.is_some_and(|due| due.at <= now);
    let is_first = before.is_none() && since.is_none_or(|since| since > QUIET);
    let at = match urgent || is_due || is_first {
        true => now,
        false => (now + QUIET).min(latest),
    };
    Due { at, latest }
}

/// Endpoints do not wait for anything.
fn is_urgent(kind: Kind) -> bool {
    matches!(kind, Kind::EndpointSlice | Kind::Pod | Kind::WorkloadEntry)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Changes at these milliseconds; when each is to be published.
    fn check(changes: &[(u64, bool)], expected: &[u64]) {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let (mut before, mut last, mut found): (Option<Due>, Option<Instant>, _) = (None, None, Vec::new());
        for (ms, urgent) in changes {
            let now = at(*ms);
            // What was due by now has been published.
            before = before.filter(|due: &Due| due.at >= now);
            let next = due(before, now, last.map(|last| now - last), *urgent);
            found.push(u64::try_from((next.at - start).as_millis()).unwrap());
            (before, last) = (Some(next), Some(now));
        }
        assert_eq!(found, expected, "{changes:?}");
    }

    #[test]
    fn a_change_after_a_rest_is_published_at_once_and_a_burst_together() {
        check(&[(0, false)], &[0]);
        check(&[(0, false), (20, false), (40, false)], &[0, 20, 40]);
        check(&[(0, false), (4, false), (8, false)], &[0, 14, 18]);
        // Endpoints take along what waits.
        check(&[(0, false), (4, false), (6, true)], &[0, 14, 6]);
        check(&[(0, true), (4, true)], &[0, 4]);
    }

    #[test]
    fn a_burst_that_does_not_end_is_published_nevertheless() {
        let changes: Vec<(u64, bool)> = (0..30).map(|number| (number * 5, false)).collect();
        let mut expected: Vec<u64> = changes.iter().map(|(ms, _)| (ms + 10).min(105)).collect();
        expected[0] = 0;
        // The burst waits from its second change on; at 105 ms it is published, and the next one waits anew.
        for (at, (ms, _)) in expected.iter_mut().zip(&changes).skip(22) {
            *at = ms + 10;
        }
        check(&changes, &expected);
    }
}
