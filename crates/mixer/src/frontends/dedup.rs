//! Remembers what calls were granted, so that a call that is repeated after a failure is not charged twice. Bounded in calls
//! and in time: beyond either a repetition counts as a call of its own.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::OnceCell;

use crate::engine::api::Grant;

/// Nanoseconds for which a call is remembered at least, and twice that at most (Istio's memquota: a second at least).
const KEPT: i64 = 5_000_000_000;
/// Most calls of one such time.
const MAX_CALLS: usize = 50_000;
/// Longest deduplication id that is looked at, in bytes.
const MAX_ID: usize = 128;

type Cells = HashMap<(String, String, String), Arc<OnceCell<Grant>>>;

/// The calls that were granted something.
#[derive(Debug, Default)]
pub(super) struct Remembered(Mutex<Shelves>);

#[derive(Debug, Default)]
struct Shelves {
    since: i64,
    young: Cells,
    old: Cells,
}

impl Remembered {
    /// Where the grant of a call stands or will stand: one place for all repetitions. `None` for calls without id, and when
    /// there is no room.
    pub(super) fn place(
        &self,
        caller: &str,
        id: &str,
        quota: &str,
        now: i64,
    ) -> Option<Arc<OnceCell<Grant>>> {
        if id.is_empty() || id.len() > MAX_ID {
            return None;
        }
        let key = (caller.to_owned(), id.to_owned(), quota.to_owned());
        let mut shelves = self.0.lock();
        shelves.turn(now);
        if let Some(cell) = shelves.young.get(&key).or_else(|| shelves.old.get(&key)) {
            return Some(cell.clone());
        }
        if shelves.young.len() >= MAX_CALLS {
            return None;
        }
        Some(shelves.young.entry(key).or_default().clone())
    }
}

/// What a call is granted: what stands in its place, else what `charge` gives. Of a failure nothing is kept, since the call is
/// repeated because of it.
pub(super) async fn once(place: Option<&OnceCell<Grant>>, charge: impl Future<Output = Grant>) -> Grant {
    let Some(place) = place else {
        return charge.await;
    };
    let granted = place.get_or_try_init(|| async {
        let grant = charge.await;
        match grant.failure {
            None => Ok(grant),
            Some(_) => Err(grant),
        }
    });
    granted.await.cloned().unwrap_or_else(|failed| failed)
}

impl Shelves {
    fn turn(&mut self, now: i64) {
        let age = now.saturating_sub(self.since);
        if age >= 2 * KEPT {
            self.old.clear();
            self.young.clear();
            self.since = now;
        } else if age >= KEPT {
            self.old = std::mem::take(&mut self.young);
            self.since = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repetition_finds_the_place_of_the_first_call_for_a_while() {
        let remembered = Remembered::default();
        let place = |caller: &str, id: &str, quota: &str, now| remembered.place(caller, id, quota, now);
        let first = place("a", "1", "q", 0).unwrap();
        let same = |other: Option<Arc<OnceCell<Grant>>>| Arc::ptr_eq(&first, &other.unwrap());
        assert!(same(place("a", "1", "q", KEPT - 1)));
        assert!(same(place("a", "1", "q", KEPT + 1)));
        assert!(!same(place("b", "1", "q", KEPT + 1)));
        assert!(!same(place("a", "1", "r", KEPT + 1)));
        assert!(!same(place("a", "1", "q", 3 * KEPT + 1)));
        assert!(place("a", "", "q", 0).is_none());
    }

    #[tokio::test]
    async fn a_failure_is_not_what_a_repetition_gets() {
        let place = OnceCell::new();
        let granted = |amount, failure| Grant {
            amount,
            valid: None,
            failure,
        };
        let failed = granted(0, Some((policy::Code::UNAVAILABLE, "away".to_owned())));
        let asked = async |grant: Grant| once(Some(&place), async { grant }).await;
        assert_eq!(asked(failed.clone()).await, failed);
        assert_eq!(asked(granted(3, None)).await.amount, 3);
        assert_eq!(asked(granted(5, None)).await.amount, 3, "charged once");
    }

    #[test]
    fn calls_are_bounded() {
        let remembered = Remembered::default();
        for n in 0..MAX_CALLS {
            assert!(remembered.place("a", &n.to_string(), "q", 0).is_some());
        }
        assert!(remembered.place("a", "more", "q", 0).is_none());
        assert!(remembered.place("a", "0", "q", 0).is_some());
    }
}
