//! A circuit breaker: after several failures in a row nobody asks for a moment, then one asks for all.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Failures in a row after which nobody asks.
const FAILURES: u32 = 5;
/// How long nobody asks.
const REST: Duration = Duration::from_secs(1);

/// The breaker. Time is an argument.
#[derive(Debug, Default)]
pub(crate) struct Breaker(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    failures: u32,
    rests_until: Option<Instant>,
}

impl Breaker {
    /// Whether one may ask now. After the rest one may, and the others wait for what it hears.
    pub(crate) fn allows(&self, now: Instant) -> bool {
        let mut state = self.0.lock();
        match state.rests_until {
            Some(until) if now < until => false,
            Some(_) => {
                state.rests_until = Some(now + REST);
                true
            }
            None => true,
        }
    }

    /// Tells how a call ended.
    pub(crate) fn ended(&self, well: bool, now: Instant) {
        let mut state = self.0.lock();
        if well {
            *state = State::default();
            return;
        }
        state.failures = state.failures.saturating_add(1);
        if state.failures >= FAILURES {
            state.rests_until = Some(now + REST);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rests_after_failures_and_lets_one_try() {
        let (breaker, start) = (Breaker::default(), Instant::now());
        for _ in 1..FAILURES {
            breaker.ended(false, start);
            assert!(breaker.allows(start));
        }
        breaker.ended(false, start);
        assert!(!breaker.allows(start));
        let later = start + REST;
        assert!(breaker.allows(later), "one may try");
        assert!(!breaker.allows(later), "the others wait for it");
        breaker.ended(true, later);
        assert!(breaker.allows(later) && breaker.allows(later));
    }
}
