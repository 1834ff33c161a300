//! Who of several Galleys leads, by a Kubernetes Lease: whose turn it is, as a function of what the Lease says.
//!
//! Pure. Clocks of different machines are not compared: a Lease has run out when it has not changed for its whole duration
//! by this process's own clock. (client-go's leader election does the same, so the two can be mixed.)

use std::time::Duration;

/// How long a leader that is gone blocks others.
pub const LEASE: Duration = Duration::from_secs(15);
/// A leader that could not renew for this long stops leading, well before another one may start.
pub const DEADLINE: Duration = Duration::from_secs(10);
/// How often the Lease is looked at.
pub const RETRY: Duration = Duration::from_secs(2);

/// What a Lease says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// Who leads; empty when it was given back.
    pub holder: String,
    /// For how long after the last renewal.
    pub duration: Duration,
    /// When the holder says that it renewed; compared for change alone.
    pub renewed: String,
    /// How often the holder has changed.
    pub transitions: i64,
}

/// What to do about the Lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Move {
    /// Make it.
    Create,
    /// Take it over; the new number of transitions.
    Take(i64),
    /// Renew it.
    Renew,
    /// Leave it to its holder.
    Wait,
}

/// One candidate's view.
#[derive(Debug)]
pub struct Election {
    me: String,
    /// The Lease as it last changed, and when that was seen.
    seen: Option<(Record, Duration)>,
    /// Leads until then.
    until: Option<Duration>,
}

impl Election {
    /// A candidate under a name that nobody else has.
    #[must_use]
    pub fn new(me: String) -> Self {
        Self {
            me,
            seen: None,
            until: None,
        }
    }

    /// The candidate's name.
    #[must_use]
    pub fn me(&self) -> &str {
        &self.me
    }

    /// What to do, given the Lease as it is at `now`; `None` when there is none.
    pub fn step(&mut self, lease: Option<&Record>, now: Duration) -> Move {
        let Some(lease) = lease else {
            return Move::Create;
        };
        if self.seen.as_ref().is_none_or(|(seen, _)| seen != lease) {
            self.seen = Some((lease.clone(), now));
        }
        let since = self.seen.as_ref().map_or(now, |(_, since)| *since);
        match lease.holder.as_str() {
            holder if holder == self.me => Move::Renew,
            "" => Move::Take(lease.transitions.saturating_add(1)),
            _ if now.saturating_sub(since) >= lease.duration => {
                Move::Take(lease.transitions.saturating_add(1))
            }
            _ => Move::Wait,
        }
    }

    /// The Lease was written; `asked` is the time before the request was sent.
    pub fn won(&mut self, asked: Duration) {
        self.until = Some(asked + DEADLINE);
    }

    /// Another one has the Lease.
    pub fn lost(&mut self) {
        self.until = None;
    }

    /// Whether this candidate leads.
    #[must_use]
    pub fn leads(&self, now: Duration) -> bool {
        self.until.is_some_and(|until| now < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(holder: &str, renewed: &str) -> Record {
        Record {
            holder: holder.to_owned(),
            duration: LEASE,
            renewed: renewed.to_owned(),
            transitions: 4,
        }
    }

    #[test]
    fn a_lease_is_taken_when_it_is_free_or_has_not_changed_for_its_duration() {
        let seconds = Duration::from_secs;
        let mut candidate = Election::new("b".to_owned());
        for (lease, now, expected) in [
            (None, 0, Move::Create),
            (Some(held("a", "1")), 1, Move::Wait),
            (Some(held("a", "1")), 15, Move::Wait),
            (Some(held("a", "2")), 15, Move::Wait),
            (Some(held("a", "2")), 29, Move::Wait),
            (Some(held("a", "2")), 30, Move::Take(5)),
            (Some(held("b", "3")), 31, Move::Renew),
            (Some(held("", "4")), 32, Move::Take(5)),
            (Some(held("c", "5")), 33, Move::Wait),
        ] {
            let seen = candidate.step(lease.as_ref(), seconds(now));
            assert_eq!(seen, expected, "{lease:?} at {now}");
        }
    }

    #[test]
    fn two_never_lead_at_once() {
        // The first renews at 0 for the last time; the second sees that write at once, the earliest that it can be.
        let (mut first, mut second) = (Election::new("a".to_owned()), Election::new("b".to_owned()));
        first.won(Duration::ZERO);
        for tenth in 0..400 {
            let now = Duration::from_millis(tenth * 100);
            if matches!(second.step(Some(&held("a", "0")), now), Move::Take(_)) {
                second.won(now);
            }
            assert!(!(first.leads(now) && second.leads(now)), "{now:?}");
        }
        assert!(!first.leads(DEADLINE));
        second.won(Duration::from_secs(20));
        assert!(second.leads(Duration::from_secs(20)));
        second.lost();
        assert!(!second.leads(Duration::from_secs(20)));
    }
}
