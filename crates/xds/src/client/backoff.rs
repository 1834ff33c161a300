//! Waiting times between attempts to connect: doubling, bounded, with jitter so that clients do not come all at once.

use std::time::Duration;

/// Exponential backoff.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    tries: u32,
}

impl Default for Backoff {
    /// 50 ms to 2 s.
    fn default() -> Self {
        Self::new(Duration::from_millis(50), Duration::from_secs(2))
    }
}

impl Backoff {
    /// The first wait is about `first`; none is longer than `most`.
    #[must_use]
    pub fn new(first: Duration, most: Duration) -> Self {
        Self {
            first,
            most,
            tries: 0,
        }
    }

    /// The next wait, between a half and all of the doubled time; `random` is any number.
    pub fn next(&mut self, random: u32) -> Duration {
        let full = self
            .first
            .saturating_mul(1u32.checked_shl(self.tries).unwrap_or(u32::MAX))
            .min(self.most);
        self.tries = self.tries.saturating_add(1);
        let share = f64::from(random) / f64::from(u32::MAX);
        full.mul_f64(0.5 + share / 2.0)
    }

    /// An attempt was successful, and its stream lived this long. A stream that ended at once counts as a failure all
    /// the same: a server may accept it and refuse what is asked.
    pub fn lived(&mut self, life: Duration) {
        if life >= self.most {
            self.tries = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_bound_and_begin_anew() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        let waits: Vec<_> = (0..6).map(|_| backoff.next(u32::MAX).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1000, 1000]);
        for _ in 0..100 {
            assert!(backoff.next(0) == Duration::from_millis(500));
        }
        backoff.lived(Duration::from_millis(999));
        assert_eq!(backoff.next(0), Duration::from_millis(500));
        backoff.lived(Duration::from_secs(1));
        assert_eq!(backoff.next(0), Duration::from_millis(50));
    }
}
