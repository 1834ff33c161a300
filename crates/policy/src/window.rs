//! Quota state: how much of each limit is in use, in windows that roll with time, as in Istio's memquota. Time is an
//! argument; the state is bounded however many keys callers make up.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};

use config::adapters::Limit;

/// Shortest step in which used amounts come back, in nanoseconds (Istio's ten ticks a second).
const TICK: i64 = 100_000_000;
/// Most steps of one window; longer windows have coarser steps.
const MAX_TICKS: i64 = 600;
/// Keys of a quota that are kept apart.
const MAX_KEYS: usize = 100_000;
/// The same of all quotas together.
const MAX_KEYS_IN_ALL: usize = 500_000;
/// Nanoseconds between two looks for idle windows of a quota that is full: a look takes milliseconds, and all others wait.
const REAP: i64 = 1_000_000_000;

/// The answer to a charge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Charge {
    /// Whether the whole amount was granted; otherwise nothing was.
    pub granted: bool,
    /// Units left.
    pub remaining: u64,
    /// Nanoseconds until units come back; `None` when never or when none are in use.
    pub reset: Option<i64>,
}

/// What is wanted of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Units {
    /// How many there are.
    pub limit: Limit,
    /// Whether all come back together, a window after the first of them was used; otherwise each by itself.
    pub fixed: bool,
    /// How many are wanted.
    pub amount: u64,
}

#[derive(Debug, Default)]
struct Window {
    /// (tick, units), oldest first.
    used: VecDeque<(i64, u64)>,
    total: u64,
    limit: Option<Limit>,
}

/// The windows of a quota, by the keys' hashes.
#[derive(Debug, Default)]
struct Quota {
    windows: HashMap<u128, Window>,
    /// When idle ones were last looked for.
    reaped_at: Option<i64>,
}

/// The windows of all quotas. Of keys, which clients may make long, a hash is kept that only this process can compute. Windows in
/// which nothing is in use are forgotten.
#[derive(Debug, Default)]
pub struct Windows {
    quotas: HashMap<String, Quota>,
    kept: usize,
    hashes: [RandomState; 2],
}

/// The step in which units of a limit come back, in nanoseconds.
fn step_of(limit: Limit) -> i64 {
    TICK.max(limit.window / MAX_TICKS)
}

impl Window {
    /// Gives back what left the window.
    fn roll(&mut self, limit: Limit, now: i64) {
        if self.limit != Some(limit) {
            // A changed limit begins anew: amounts of another step cannot be compared.
            *self = Self {
                limit: Some(limit),
                ..Self::default()
            };
        }
        if limit.window == 0 {
            return;
        }
        while let Some((tick, units)) = self.used.front().copied() {
            if tick.saturating_mul(step_of(limit)).saturating_add(limit.window) > now {
                break;
            }
            self.used.pop_front();
            self.total = self.total.saturating_sub(units);
        }
    }

    fn charge(&mut self, units: Units, now: i64) -> Charge {
        let Units { limit, fixed, amount } = units;
        self.roll(limit, now);
        let granted = amount <= limit.amount.saturating_sub(self.total);
        if granted && amount > 0 {
            let tick = if limit.window == 0 {
                0
            } else {
                now.div_euclid(step_of(limit))
            };
            match self.used.back_mut() {
                // All units of a fixed window come back with its first.
                Some((_, units)) if fixed => *units = units.saturating_add(amount),
                // The clock may have been set back: the newest step then stands for now.
                Some((last, units)) if *last >= tick => *units = units.saturating_add(amount),
                _ => self.used.push_back((tick, amount)),
            }
            self.total = self.total.saturating_add(amount);
        }
        let reset = match self.used.front() {
            Some((tick, _)) if limit.window > 0 => Some(
                (tick.saturating_mul(step_of(limit)).saturating_add(limit.window))
                    .saturating_sub(now)
                    .max(0),
            ),
            _ => None,
        };
        Charge {
            granted,
            remaining: limit.amount.saturating_sub(self.total),
            reset,
        }
    }
}

impl Quota {
    /// Forgets windows in which nothing is in use, and tells how many.
    fn reap(&mut self, now: i64) -> usize {
        let before = self.windows.len();
        self.windows.retain(|_, window| {
            if let Some(limit) = window.limit {
                window.roll(limit, now);
            }
            window.total > 0
        });
        self.reaped_at = Some(now);
        before - self.windows.len()
    }

    /// Whether no further window may be kept, where all quotas have `kept`.
    fn is_full(&self, kept: usize) -> bool {
        self.windows.len() >= MAX_KEYS || kept >= MAX_KEYS_IN_ALL
    }

    /// Whether it is time to look for idle windows again. A clock that was set back does not hold it up.
    fn may_reap(&self, now: i64) -> bool {
        self.reaped_at
            .is_none_or(|at| now < at || now.saturating_sub(at) >= REAP)
    }
}

/// 128 bits, so that nobody meets another's by chance.
fn hash_of(hashes: &[RandomState; 2], key: &str) -> u128 {
    let [high, low] = hashes.each_ref().map(|half| u128::from(half.hash_one(key)));
    high << 64 | low
}

impl Windows {
    /// Takes units under `key` of `quota`, all or nothing. `now` is in nanoseconds since any fixed moment.
    ///
    /// Beyond 100,000 keys in use of the quota, or 500,000 of all, further ones share a window of the quota, so that made-up
    /// dimensions cannot grow the state and gain nothing.
    pub fn charge(&mut self, quota: &str, key: &str, units: Units, now: i64) -> Charge {
        let Self { quotas, kept, hashes } = self;
        let own = quotas.entry(quota.to_owned()).or_default();
        let mut hash = hash_of(hashes, key);
        if let Some(window) = own.windows.get_mut(&hash) {
            return window.charge(units, now);
        }
        if own.is_full(*kept) && own.may_reap(now) {
            *kept -= own.reap(now);
        }
        if own.is_full(*kept) {
            hash = hash_of(
                hashes,
                &format!("\u{0}{}/{}", units.limit.amount, units.limit.window),
            );
        }
        let before = own.windows.len();
        let charge = own.windows.entry(hash).or_default().charge(units, now);
        *kept += own.windows.len() - before;
        charge
    }

    /// Forgets windows in which nothing is in use.
    pub fn reap(&mut self, now: i64) {
        self.quotas.retain(|_, quota| {
            quota.reap(now);
            !quota.windows.is_empty()
        });
        self.kept = self.quotas.values().map(|quota| quota.windows.len()).sum();
    }

    /// How many windows are kept.
    pub fn len(&self) -> usize {
        self.kept
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.kept == 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: i64 = 1_000_000_000;

    fn wants(limit: Limit, fixed: bool, amount: u64) -> Units {
        Units { limit, fixed, amount }
    }

    #[test]
    fn runs_out_and_comes_back() {
        let limit = Limit {
            amount: 2,
            window: 5 * SECOND,
        };
        let mut windows = Windows::default();
        let mut charge = |now: i64| windows.charge("q", "a", wants(limit, false, 1), now).granted;
        assert!(charge(0));
        assert!(charge(SECOND));
        assert!(!charge(2 * SECOND));
        assert!(!charge(5 * SECOND - 1));
        assert!(charge(5 * SECOND));
        assert!(!charge(5 * SECOND));
        assert!(charge(6 * SECOND));
    }

    #[test]
    fn a_fixed_window_gives_all_back_at_once() {
        let limit = Limit {
            amount: 2,
            window: 5 * SECOND,
        };
        let mut windows = Windows::default();
        let mut charge = |now: i64| windows.charge("q", "a", wants(limit, true, 1), now).granted;
        assert!(charge(0) && charge(4 * SECOND));
        assert!(!charge(5 * SECOND - 1));
        assert!(charge(5 * SECOND) && charge(5 * SECOND), "both came back");
        assert!(!charge(9 * SECOND));
    }

    #[test]
    fn the_answer_says_what_is_left_and_when_more_comes() {
        let limit = Limit {
            amount: 3,
            window: SECOND,
        };
        let mut windows = Windows::default();
        let seen = windows.charge("q", "a", wants(limit, false, 2), 0);
        assert_eq!(
            seen,
            Charge {
                granted: true,
                remaining: 1,
                reset: Some(SECOND)
            }
        );
        let seen = windows.charge("q", "a", wants(limit, false, 2), SECOND / 2);
        assert_eq!(
            seen,
            Charge {
                granted: false,
                remaining: 1,
                reset: Some(SECOND / 2)
            }
        );
    }

    #[test]
    fn without_a_window_nothing_comes_back() {
        let limit = Limit { amount: 1, window: 0 };
        let mut windows = Windows::default();
        assert!(windows.charge("q", "a", wants(limit, false, 1), 0).granted);
        assert!(!windows.charge("q", "a", wants(limit, false, 1), i64::MAX).granted);
        assert!(windows.charge("q", "b", wants(limit, false, 1), 0).granted);
    }

    /// One unit of `quota` for `key`.
    fn one(windows: &mut Windows, quota: &str, key: &str, limit: Limit, now: i64) -> bool {
        windows.charge(quota, key, wants(limit, false, 1), now).granted
    }

    fn fill(windows: &mut Windows, quota: &str, limit: Limit, keys: usize) {
        for i in 0..keys {
            one(windows, quota, &i.to_string(), limit, 0);
        }
    }

    #[test]
    fn keys_are_bounded_and_idle_ones_forgotten() {
        let limit = Limit {
            amount: 1,
            window: SECOND,
        };
        let mut windows = Windows::default();
        fill(&mut windows, "a", limit, MAX_KEYS + 10);
        assert_eq!(windows.len(), MAX_KEYS + 1);
        assert!(!one(&mut windows, "a", "one more", limit, 0));
        // Whoever fills one quota takes nothing of another.
        for user in ["x", "y"] {
            assert!(one(&mut windows, "b", user, limit, 0));
        }
        windows.reap(2 * SECOND);
        assert!(windows.is_empty());
        assert!(one(&mut windows, "a", "one more", limit, 2 * SECOND));
    }

    #[test]
    fn all_quotas_together_are_bounded() {
        let limit = Limit {
            amount: 1,
            window: SECOND,
        };
        let mut windows = Windows::default();
        let quotas = MAX_KEYS_IN_ALL / MAX_KEYS + 1;
        for quota in 0..quotas {
            fill(&mut windows, &quota.to_string(), limit, MAX_KEYS);
        }
        assert!(windows.len() <= MAX_KEYS_IN_ALL + quotas, "{}", windows.len());
    }

    #[test]
    fn a_full_quota_is_searched_for_idle_windows_once_a_second() {
        let limit = Limit {
            amount: 1,
            window: SECOND / 2,
        };
        let mut windows = Windows::default();
        fill(&mut windows, "a", limit, MAX_KEYS);
        // Looked at in vain.
        one(&mut windows, "a", "more", limit, 0);
        one(&mut windows, "a", "again", limit, SECOND - 1);
        assert_eq!(windows.len(), MAX_KEYS + 1, "all are idle, but nobody looked");
        one(&mut windows, "a", "late", limit, SECOND);
        assert!(windows.len() <= 2, "{}", windows.len());
    }

    #[test]
    fn long_keys_are_told_apart_and_not_kept() {
        let limit = Limit {
            amount: 1,
            window: SECOND,
        };
        let mut windows = Windows::default();
        let long = "x".repeat(60_000);
        assert!(one(&mut windows, "a", &format!("{long}1"), limit, 0));
        assert!(one(&mut windows, "a", &format!("{long}2"), limit, 0));
        assert!(!one(&mut windows, "a", &format!("{long}1"), limit, 0));
        assert!(format!("{windows:?}").len() < 10_000);
    }

    proptest! {
        #[test]
        fn never_more_than_the_limit_within_a_window(
            steps in prop::collection::vec((0..3 * SECOND, 0u64..4), 1..60),
            amount in 0u64..6,
            seconds in 1i64..8,
        ) {
            let limit = Limit { amount, window: seconds * SECOND };
            let mut windows = Windows::default();
            let (mut now, mut granted) = (0, Vec::new());
            for (step, units) in steps {
                now += step;
                if windows.charge("q", "k", wants(limit, false, units), now).granted {
                    granted.push((now, units));
                }
                // A step's units may come back up to one tick early.
                let since = now - limit.window + TICK;
                let used: u64 = granted.iter().filter(|(at, _)| *at > since).map(|(_, units)| units).sum();
                prop_assert!(used <= amount);
            }
        }
    }
}
