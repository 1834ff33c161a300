//! What is known of each source of keys, and when it is asked again. It knows neither the network nor the disk.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::fetch::FetchError;
use super::fill::Source;

/// First wait after a failure; it doubles up to [`LONGEST`].
const FIRST: Duration = Duration::from_secs(1);
/// Longest wait after failures.
const LONGEST: Duration = Duration::from_secs(300);
/// Most sources; those beyond are not fetched, and say so.
const MAX_SOURCES: usize = 1000;

/// A source's keys and fate.
#[derive(Debug, Clone)]
struct Entry {
    keys: Option<Arc<str>>,
    failure: Option<String>,
    failures: u32,
    /// None while it is being fetched.
    next: Option<Instant>,
}

/// All sources.
#[derive(Debug)]
pub(super) struct Schedule {
    refresh: Duration,
    entries: BTreeMap<Source, Entry>,
    /// What the run before knew.
    remembered: BTreeMap<Source, Arc<str>>,
}

impl Schedule {
    pub(super) fn new(refresh: Duration, remembered: BTreeMap<Source, Arc<str>>) -> Self {
        Self {
            refresh,
            entries: BTreeMap::new(),
            remembered,
        }
    }

    /// Makes these the sources. New ones are due at once; what is known of the others stays.
    pub(super) fn want(&mut self, sources: impl IntoIterator<Item = Source>, now: Instant) {
        let mut old = std::mem::take(&mut self.entries);
        for source in sources {
            if self.entries.len() >= MAX_SOURCES {
                break;
            }
            let known = old.remove(&source);
            let entry = known.unwrap_or_else(|| Entry {
                keys: self.remembered.get(&source).cloned(),
                failure: None,
                failures: 0,
                next: Some(now),
            });
            self.entries.insert(source, entry);
        }
    }

    /// Up to `most` sources whose time has come; they are not due again until [`Schedule::fetched`].
    pub(super) fn due(&mut self, now: Instant, most: usize) -> Vec<Source> {
        let due = self
            .entries
            .iter_mut()
            .filter(|(_, entry)| entry.next.is_some_and(|next| next <= now));
        due.take(most)
            .map(|(source, entry)| {
                entry.next = None;
                source.clone()
            })
            .collect()
    }

    /// When the next is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.entries.values().filter_map(|entry| entry.next).min()
    }

    /// Takes up a result; whether there are other keys than before. A failure leaves the last keys in place.
    pub(super) fn fetched(
        &mut self,
        source: &Source,
        result: Result<Arc<str>, FetchError>,
        now: Instant,
    ) -> bool {
        let refresh = self.refresh;
        let Some(entry) = self.entries.get_mut(source) else {
            return false;
        };
        match result {
            Ok(keys) => {
                entry.failure = None;
                entry.failures = 0;
                entry.next = Some(now + jitter(refresh));
                let news = entry.keys.as_ref() != Some(&keys);
                if news {
                    entry.keys = Some(keys);
                }
                news
            }
            Err(error) => {
                let wait = FIRST.saturating_mul(2_u32.saturating_pow(entry.failures.min(16)));
                entry.next = Some(now + jitter(wait.min(LONGEST).min(refresh.max(FIRST))));
                entry.failures = entry.failures.saturating_add(1);
                entry.failure = Some(error.to_string());
                false
            }
        }
    }

    /// The keys of a source.
    pub(super) fn keys(&self, source: &Source) -> Option<&Arc<str>> {
        self.entries.get(source)?.keys.as_ref()
    }

    /// Why the last fetch of a source failed.
    pub(super) fn failure(&self, source: &Source) -> Option<&str> {
        match self.entries.get(source) {
            Some(entry) => entry.failure.as_deref(),
            None => Some("too many sources of keys are named; this one is not fetched"),
        }
    }

    /// All keys.
    pub(super) fn all(&self) -> Vec<(Source, Arc<str>)> {
        let known = self.entries.iter();
        known
            .filter_map(|(source, entry)| Some((source.clone(), entry.keys.clone()?)))
            .collect()
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn failing(&self) -> usize {
        self.entries
            .values()
            .filter(|entry| entry.failure.is_some())
            .count()
    }

    pub(super) fn missing(&self) -> usize {
        self.entries.values().filter(|entry| entry.keys.is_none()).count()
    }
}

/// Somewhat less than a time, so that replicas do not call together.
fn jitter(time: Duration) -> Duration {
    time.mul_f64(rand::random_range(0.9..=1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(uri: &str) -> Source {
        Source {
            issuer: "i".into(),
            uri: uri.into(),
            timeout: Duration::from_secs(5),
        }
    }

    #[test]
    fn last_good_keys_stay_and_failures_wait_longer() {
        let now = Instant::now();
        let mut schedule = Schedule::new(Duration::from_secs(60), BTreeMap::new());
        schedule.want([source("a"), source("b")], now);
        assert_eq!(schedule.due(now, 1).len(), 1);
        assert_eq!(schedule.due(now, 9).len(), 1);
        assert_eq!(schedule.due(now, 9).len(), 0, "under way");
        assert!(schedule.fetched(&source("a"), Ok("keys".into()), now));
        assert!(
            !schedule.fetched(&source("a"), Ok("keys".into()), now),
            "the same"
        );
        let mut waits = Vec::new();
        for _ in 0..10 {
            assert!(!schedule.fetched(&source("a"), Err(FetchError::TooLong), now));
            waits.push(schedule.next().unwrap() - now);
        }
        assert!(
            waits[0] <= Duration::from_secs(1) && waits[3] > waits[1],
            "{waits:?}"
        );
        assert!(
            waits[9] <= Duration::from_secs(60),
            "never longer than without failure"
        );
        assert_eq!(schedule.keys(&source("a")).unwrap().as_ref(), "keys");
        assert_eq!((schedule.failing(), schedule.missing()), (1, 1));
        schedule.want([source("b")], now);
        assert!(schedule.keys(&source("a")).is_none());
    }
}
