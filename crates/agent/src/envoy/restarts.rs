//! When to start Envoy again, and when to give up: pure, driven by how long each run lasted.

use std::time::Duration;

/// A run at least this long counts as a success.
pub const STABLE: Duration = Duration::from_secs(10);
/// First wait before a restart.
const FIRST: Duration = Duration::from_millis(100);
/// Longest wait before a restart.
const LONGEST: Duration = Duration::from_secs(30);
/// Starts that end early before the agent gives up, when no run was ever stable: then what fails is how Envoy is
/// called, and waiting does not help.
pub const ATTEMPTS: u32 = 5;

/// What to do after Envoy ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Start it again after this long.
    StartAfter(Duration),
    /// It never ran for [`STABLE`] in [`ATTEMPTS`] starts.
    GiveUp,
}

/// The history of runs.
#[derive(Debug, Clone, Default)]
pub struct Restarts {
    early: u32,
    was_stable: bool,
}

impl Restarts {
    /// Envoy ended after `ran`.
    pub fn ended(&mut self, ran: Duration) -> Next {
        if ran >= STABLE {
            self.was_stable = true;
            self.early = 0;
            return Next::StartAfter(Duration::ZERO);
        }
        self.early = self.early.saturating_add(1);
        if !self.was_stable && self.early >= ATTEMPTS {
            return Next::GiveUp;
        }
        let doublings = self.early.saturating_sub(1).min(16);
        Next::StartAfter(FIRST.saturating_mul(1 << doublings).min(LONGEST))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EARLY: Duration = Duration::from_millis(20);

    #[test]
    fn a_stable_envoy_is_restarted_at_once_and_forever() {
        let mut restarts = Restarts::default();
        assert_eq!(restarts.ended(STABLE), Next::StartAfter(Duration::ZERO));
        let waits: Vec<_> = (0..100).map(|_| restarts.ended(EARLY)).collect();
        assert_eq!(waits.first(), Some(&Next::StartAfter(FIRST)));
        assert_eq!(waits.get(1), Some(&Next::StartAfter(FIRST * 2)));
        assert_eq!(waits.last(), Some(&Next::StartAfter(LONGEST)));
        assert_eq!(
            restarts.ended(STABLE),
            Next::StartAfter(Duration::ZERO),
            "a stable run resets the wait"
        );
    }

    #[test]
    fn an_envoy_that_never_ran_is_given_up() {
        let mut restarts = Restarts::default();
        let steps: Vec<_> = (0..ATTEMPTS).map(|_| restarts.ended(EARLY)).collect();
        assert_eq!(steps.iter().filter(|step| **step == Next::GiveUp).count(), 1);
        assert_eq!(steps.last(), Some(&Next::GiveUp));
    }
}
