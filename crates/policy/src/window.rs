//! Quota state: how much of each limit is in use, in windows that roll with time, as in Istio's memquota. Time is an
//! argument; the state is bounded however many keys callers make up.

use std::collections::{HashMap, VecDeque};

use config::adapters::Limit;

/// Shortest step in which used amounts come back, in nanoseconds (Istio's ten ticks a second).
const TICK: i64 = 100_000_000;
/// Most steps of one window; longer windows have coarser steps.
const MAX_TICKS: i64 = 600;
/// Keys that are kept apart.
const MAX_KEYS: usize = 100_000;

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

#[derive(Debug, Default)]
struct Window {
    /// (tick, units), oldest first.
    used: VecDeque<(i64, u64)>,
    total: u64,
    limit: Option<Limit>,
}

/// The windows of all quotas, by key. Forgets windows in which nothing is in use.
#[derive(Debug, Default)]
pub struct Windows {
    windows: HashMap<String, Window>,
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

    fn charge(&mut self, limit: Limit, fixed: bool, amount: u64, now: i64) -> Charge {
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

impl Windows {
    /// Takes `amount` of the limit under `key`, all or nothing. `now` is in nanoseconds since any fixed moment.
    ///
    /// Beyond 100,000 keys in use, further ones share one window, so that made-up dimensions cannot grow the state and
    /// gain nothing.
    pub fn charge(&mut self, key: &str, limit: Limit, amount: u64, now: i64) -> Charge {
        self.charge_by(key, limit, false, amount, now)
    }

    /// The same; where `fixed`, all units come back together, a window after the first of them was used.
    pub fn charge_by(&mut self, key: &str, limit: Limit, fixed: bool, amount: u64, now: i64) -> Charge {
        if let Some(window) = self.windows.get_mut(key) {
            return window.charge(limit, fixed, amount, now);
        }
        if self.windows.len() >= MAX_KEYS {
            self.reap(now);
        }
        let full = self.windows.len() >= MAX_KEYS;
        let key = if full {
            format!("\u{0}{}/{}", limit.amount, limit.window)
        } else {
            key.to_owned()
        };
        let window = self.windows.entry(key).or_default();
        window.charge(limit, fixed, amount, now)
    }

    /// Forgets windows in which nothing is in use.
    pub fn reap(&mut self, now: i64) {
        self.windows.retain(|_, window| {
            if let Some(limit) = window.limit {
                window.roll(limit, now);
            }
            window.total > 0
        });
    }

    /// How many windows are kept.
    pub fn len(&self) -> usize {
        self.windows.len()
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.windows.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: i64 = 1_000_000_000;

    #[test]
    fn runs_out_and_comes_back() {
        let limit = Limit {
            amount: 2,
            window: 5 * SECOND,
        };
        let mut windows = Windows::default();
        let mut charge = |now: i64| windows.charge("a", limit, 1, now).granted;
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
        let mut charge = |now: i64| windows.charge_by("a", limit, true, 1, now).granted;
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
        let seen = windows.charge("a", limit, 2, 0);
        assert_eq!(
            seen,
            Charge {
                granted: true,
                remaining: 1,
                reset: Some(SECOND)
            }
        );
        let seen = windows.charge("a", limit, 2, SECOND / 2);
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
        assert!(windows.charge("a", limit, 1, 0).granted);
        assert!(!windows.charge("a", limit, 1, i64::MAX).granted);
        assert!(windows.charge("b", limit, 1, 0).granted);
    }

    #[test]
    fn keys_are_bounded_and_idle_ones_forgotten() {
        let limit = Limit {
            amount: 1,
            window: SECOND,
        };
        let mut windows = Windows::default();
        for i in 0..MAX_KEYS + 10 {
            windows.charge(&i.to_string(), limit, 1, 0);
        }
        assert_eq!(windows.len(), MAX_KEYS + 1);
        assert!(!windows.charge("one more", limit, 1, 0).granted);
        windows.reap(2 * SECOND);
        assert!(windows.is_empty());
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
                if windows.charge("k", limit, units, now).granted {
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
