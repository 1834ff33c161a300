//! What an instance has received, in counts: so that mirrored requests, whose answers nobody sees, can be seen.

use std::collections::{BTreeMap, HashMap, VecDeque};

use parking_lot::Mutex;
use serde::Serialize;

/// Paths counted one by one; those beyond are counted together.
const MAX_PATHS: usize = 1000;
/// Ids whose attempts are remembered; the oldest is forgotten first.
const MAX_IDS: usize = 10_000;

/// The counters of one instance. Bounded, whatever is received.
#[derive(Default)]
pub(crate) struct Seen {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    counts: Counts,
    attempts: HashMap<String, u64>,
    order: VecDeque<String>,
}

/// Received requests since the start, calls over gRPC among them.
#[derive(Default, Clone, Serialize)]
pub(crate) struct Counts {
    pub(crate) total: u64,
    /// Requests by path, without the query.
    pub(crate) paths: BTreeMap<String, u64>,
    /// Requests for paths that came when `paths` was full.
    pub(crate) other_paths: u64,
}

impl Seen {
    /// Counts a request, and answers which attempt with its id it is, from 1.
    pub(crate) fn record(&self, path: &str, id: Option<&str>) -> u64 {
        let mut state = self.state.lock();
        state.counts.record(path);
        id.map_or(1, |id| state.attempt(id))
    }

    /// The counts as they are now.
    pub(crate) fn counts(&self) -> Counts {
        self.state.lock().counts.clone()
    }
}

impl Counts {
    fn record(&mut self, path: &str) {
        self.total += 1;
        if let Some(count) = self.paths.get_mut(path) {
            *count += 1;
        } else if self.paths.len() < MAX_PATHS {
            self.paths.insert(path.to_owned(), 1);
        } else {
            self.other_paths += 1;
        }
    }
}

impl State {
    fn attempt(&mut self, id: &str) -> u64 {
        if let Some(count) = self.attempts.get_mut(id) {
            *count += 1;
            return *count;
        }
        if self.order.len() >= MAX_IDS
            && let Some(oldest) = self.order.pop_front()
        {
            self.attempts.remove(&oldest);
        }
        self.order.push_back(id.to_owned());
        self.attempts.insert(id.to_owned(), 1);
        1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_are_counted_for_each_id() {
        let seen = Seen::default();
        assert_eq!(
            (
                seen.record("/", Some("a")),
                seen.record("/", Some("b")),
                seen.record("/", Some("a"))
            ),
            (1, 1, 2)
        );
        assert_eq!(seen.record("/", None), 1);
        assert_eq!(seen.counts().total, 4);
    }

    #[test]
    fn counters_stay_bounded() {
        let seen = Seen::default();
        for i in 0..MAX_IDS + 5 {
            seen.record(&format!("/{i}"), Some(&format!("id-{i}")));
        }
        let counts = seen.counts();
        assert_eq!(counts.paths.len(), MAX_PATHS);
        assert_eq!(counts.other_paths as usize, MAX_IDS + 5 - MAX_PATHS);
        assert_eq!(seen.state.lock().attempts.len(), MAX_IDS);
        assert_eq!(seen.record("/", Some("id-0")), 1, "the oldest id was forgotten");
    }
}
