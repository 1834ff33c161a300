//! How fast requests may follow each other: a token bucket.
//!
//! Pure; the time comes in.

use std::time::Duration;

/// How many seconds' worth of requests may be sent at once after a rest.
const BURST: u32 = 2;

/// Lets so many requests a second pass, and some at once after a rest.
#[derive(Debug)]
pub(super) struct Pace {
    /// Time that a request takes up.
    each: Duration,
    /// When all requests so far are paid for; in the past after a rest.
    paid: Duration,
}

impl Pace {
    /// A bucket that is full at the time 0.
    pub(super) fn new(rate: u32) -> Self {
        Self {
            each: Duration::from_secs(1) / rate.max(1),
            paid: Duration::ZERO,
        }
    }

    /// Takes the next request, and says how long it has to wait.
    pub(super) fn next(&mut self, now: Duration) -> Duration {
        let full = Duration::from_secs(BURST.into());
        // Before that nothing is saved up any more. The bucket begins full: the time begins at the burst.
        let now = now + full;
        self.paid = self.paid.max(now.saturating_sub(full)) + self.each;
        self.paid.saturating_sub(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of many requests pass until `end`, when each waits for its turn.
    fn passed(pace: &mut Pace, start: Duration, end: Duration) -> u32 {
        let (mut now, mut count) = (start, 0);
        loop {
            now += pace.next(now);
            if now >= end {
                return count;
            }
            count += 1;
        }
    }

    #[test]
    fn a_burst_and_then_the_rate_and_after_a_rest_a_burst_again() {
        let seconds = Duration::from_secs;
        let mut pace = Pace::new(100);
        let at_once = passed(&mut pace, seconds(0), Duration::from_millis(5));
        assert_eq!(at_once, 200);
        let later = passed(&mut pace, Duration::from_millis(10), seconds(3));
        assert!((295..=301).contains(&later), "{later}");
        let rested = passed(&mut pace, seconds(60), seconds(60) + Duration::from_millis(5));
        assert_eq!(rested, 200, "never more at once");
    }
}
