//! A circuit breaker: after several failures in a row nobody asks for a moment, then one asks for all.
//!
//! In a row means one after the other in time: of calls that wait together one failure counts, since one pause of the other side
//! fails all of them. So what opens the circuit is as many deadlines without any answer, however many calls there are.

use std::time::Duration;

use parking_lot::Mutex;

/// The circuit. Time is an argument: how long ago any one moment was.
#[derive(Debug)]
pub(crate) struct Circuit {
    failures: u32,
    rest: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// In a row.
    failures: u32,
    /// Grows with each failure that counts.
    turn: u64,
    rests_until: Option<Duration>,
}

/// A call that may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pass {
    turn: u64,
}

impl Circuit {
    /// One where nobody asks for `rest` after so many failures in a row.
    pub(crate) fn new(failures: u32, rest: Duration) -> Self {
        Self {
            failures,
            rest,
            state: Mutex::default(),
        }
    }

    /// Whether one may ask now. After the rest one may, and the others wait for what it hears.
    pub(crate) fn allows(&self, now: Duration) -> Option<Pass> {
        let mut state = self.state.lock();
        match state.rests_until {
            Some(until) if now < until => return None,
            Some(_) => state.rests_until = Some(now.saturating_add(self.rest)),
            None => {}
        }
        Some(Pass { turn: state.turn })
    }

    /// Tells how a call ended; says whether nobody asks now.
    pub(crate) fn ended(&self, pass: Pass, well: bool, now: Duration) -> bool {
        let mut state = self.state.lock();
        if well {
            state.failures = 0;
            state.rests_until = None;
            return false;
        }
        // Another that began before or with it has failed already.
        if pass.turn == state.turn {
            state.turn = state.turn.wrapping_add(1);
            state.failures = state.failures.saturating_add(1);
            if state.failures >= self.failures {
                state.rests_until = Some(now.saturating_add(self.rest));
            }
        }
        state.rests_until.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REST: Duration = Duration::from_millis(250);

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// Calls that begin together and fail together.
    fn fail(circuit: &Circuit, calls: usize, began: Duration, ended: Duration) -> usize {
        let passes: Vec<Pass> = (0..calls).filter_map(|_| circuit.allows(began)).collect();
        let ends = passes.iter().map(|pass| circuit.ended(*pass, false, ended));
        ends.filter(|rests| *rests).count()
    }

    #[test]
    fn rests_after_failures_and_lets_one_try() {
        let circuit = Circuit::new(3, REST);
        assert_eq!(fail(&circuit, 1, at(0), at(15)), 0);
        assert_eq!(fail(&circuit, 1, at(15), at(30)), 0);
        assert_eq!(fail(&circuit, 1, at(30), at(45)), 1);
        assert_eq!(circuit.allows(at(46)), None);
        let later = at(45) + REST;
        let one = circuit.allows(later).unwrap();
        assert_eq!(circuit.allows(later), None, "the others wait for it");
        assert!(circuit.ended(one, false, later), "as before");
        let again = later + REST;
        let one = circuit.allows(again).unwrap();
        assert!(!circuit.ended(one, true, again));
        assert!(circuit.allows(again).is_some() && circuit.allows(again).is_some());
    }

    #[test]
    fn one_pause_fails_many_calls_once() {
        let circuit = Circuit::new(3, REST);
        assert_eq!(fail(&circuit, 50, at(0), at(15)), 0);
        assert!(circuit.allows(at(15)).is_some());
        // What began before the first of them failed, and ends after.
        let slow = circuit.allows(at(15)).unwrap();
        assert_eq!(fail(&circuit, 50, at(16), at(31)), 0);
        assert!(!circuit.ended(slow, false, at(31)), "it waited with the others");
        let answered = circuit.allows(at(32)).unwrap();
        assert!(!circuit.ended(answered, true, at(33)));
        assert_eq!(fail(&circuit, 50, at(40), at(55)), 0, "an answer came between");
    }

    #[test]
    fn many_calls_to_what_is_gone_open_it_after_as_many_deadlines() {
        let circuit = Circuit::new(3, REST);
        assert_eq!(fail(&circuit, 30, at(0), at(15)), 0);
        assert_eq!(fail(&circuit, 30, at(15), at(30)), 0);
        assert_eq!(fail(&circuit, 30, at(30), at(45)), 30);
        assert_eq!(fail(&circuit, 30, at(45), at(60)), 0, "nobody asks");
    }
}
