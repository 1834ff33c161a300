//! Keeps a log line that requests cause from filling the log.

use parking_lot::Mutex;

/// Shortest time between two lines, in nanoseconds.
const STEP: i64 = 1_000_000_000;

/// Lets one line through in a second and counts the others.
#[derive(Debug, Default)]
pub(crate) struct Pace(Mutex<(Option<i64>, u64)>);

impl Pace {
    /// Whether a line may be written now; if so, how many were not since the last.
    pub(crate) fn allow(&self, now: i64) -> Option<u64> {
        let mut state = self.0.lock();
        let (last, suppressed) = &mut *state;
        if last.is_some_and(|last| now.saturating_sub(last) < STEP) {
            *suppressed += 1;
            return None;
        }
        *last = Some(now);
        Some(std::mem::take(suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_second_tells_of_the_others() {
        let pace = Pace::default();
        assert_eq!(pace.allow(5), Some(0));
        assert_eq!(pace.allow(6), None);
        assert_eq!(pace.allow(STEP), None);
        assert_eq!(pace.allow(5 + STEP), Some(2));
    }
}
