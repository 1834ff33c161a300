//! When a root is replaced, step by step. Pure: the steps themselves are the folder's.
//!
//! 1. *prepare*: a second root is made and trusted; the first still signs.
//! 2. *distribute*: for the longest life of a leaf nothing happens. After it every certificate in use was issued with
//!    both roots in the answer, so every holder trusts the new one, whoever missed the news.
//! 3. *activate*: the new root signs; the old key is destroyed, its certificate stays trusted.
//! 4. *retire*: after another longest life no certificate of the old root is left, and it is trusted no more.
//!
//! An emergency (a key that was exposed) does not wait so long: connected agents are told at once, and renew at once.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What is remembered of a rotation, beside the roots and keys themselves. Times are seconds since 1970.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Record {
    /// When the next root was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prepared: Option<i64>,
    /// When the root in force began to sign; set until the old one is retired.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub activated: Option<i64>,
    /// SHA-256 of the roots to be retired, hexadecimal.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub retiring: Vec<String>,
    /// SHA-256 of plugged-in roots that are trusted no more, hexadecimal: their file is its owner's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub distrusted: Vec<String>,
    /// The steps are short, because a key was exposed.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub emergency: bool,
    /// Certificates issued before this are to be renewed at once; 0 for none.
    #[serde(skip_serializing_if = "is_zero")]
    pub reissue_before: i64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(value: &i64) -> bool {
    *value == 0
}

/// Where a rotation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// One root, which signs.
    Stable,
    /// The next root is trusted and does not sign yet.
    Distributing,
    /// The next root signs; the one before is still trusted.
    Retiring,
}

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing before this time; `None` when no time is known.
    Wait(Option<i64>),
    /// Make the next root.
    Prepare,
    /// A next root is there and nobody noted since when: it counts from now.
    Note,
    /// Let the next root sign.
    Activate,
    /// Trust the old root no more.
    Retire,
}

/// How long steps take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// The longest life of a leaf.
    pub leaf_ttl: Duration,
    /// Age at which a root is replaced; `None`: never by age.
    pub max_age: Option<Duration>,
}

/// Replicas and agents see a change within this time after it was made.
const SPREAD: i64 = 5;
/// What an emergency waits for the news to spread, and again for certificates to be renewed.
const EMERGENCY: i64 = 60;

impl Policy {
    fn wait(&self, record: &Record) -> i64 {
        let life = seconds(self.leaf_ttl).saturating_add(SPREAD);
        match record.emergency {
            true => life.min(EMERGENCY),
            false => life,
        }
    }
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

/// Where things stand: a next key in the folder says more than the record, because it is written first.
#[must_use]
pub fn stage(record: &Record, next_key: bool) -> Stage {
    match (next_key, record.activated) {
        (true, _) => Stage::Distributing,
        (false, Some(_)) => Stage::Retiring,
        (false, None) => Stage::Stable,
    }
}

/// The next step, for a root that has signed since `root_since`.
#[must_use]
pub fn next(record: &Record, next_key: bool, root_since: i64, policy: &Policy, now: i64) -> Step {
    let due = |since: i64, wait: i64, step| match since.saturating_add(wait) {
        at if at <= now => step,
        at => Step::Wait(Some(at)),
    };
    match (stage(record, next_key), record.prepared, record.activated) {
        (Stage::Distributing, Some(since), _) => due(since, policy.wait(record), Step::Activate),
        // Activation was noted and then interrupted.
        (Stage::Distributing, None, Some(_)) => Step::Activate,
        (Stage::Distributing, None, None) => Step::Note,
        (Stage::Retiring, _, since) => due(since.unwrap_or(now), policy.wait(record), Step::Retire),
        (Stage::Stable, ..) => match policy.max_age {
            Some(age) => due(root_since, seconds(age), Step::Prepare),
            None => Step::Wait(None),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: Policy = Policy {
        leaf_ttl: Duration::from_secs(100),
        max_age: Some(Duration::from_secs(1000)),
    };

    fn record(prepared: Option<i64>, activated: Option<i64>) -> Record {
        Record {
            prepared,
            activated,
            ..Record::default()
        }
    }

    fn check(record: &Record, next_key: bool, now: i64, expected: Step) {
        assert_eq!(
            next(record, next_key, 0, &POLICY, now),
            expected,
            "{record:?} at {now}"
        );
    }

    #[test]
    fn each_step_waits_for_the_longest_life_of_a_leaf() {
        check(&record(None, None), false, 999, Step::Wait(Some(1000)));
        check(&record(None, None), false, 1000, Step::Prepare);
        check(&record(Some(1000), None), true, 1104, Step::Wait(Some(1105)));
        check(&record(Some(1000), None), true, 1105, Step::Activate);
        check(&record(None, Some(1105)), false, 1209, Step::Wait(Some(1210)));
        check(&record(None, Some(1105)), false, 1210, Step::Retire);
    }

    #[test]
    fn a_clock_that_is_set_back_delays_steps_and_one_that_is_ahead_skips_none() {
        check(&record(Some(1600), None), true, 1000, Step::Wait(Some(1705)));
        check(&record(Some(1000), None), true, 1705, Step::Activate);
        check(&record(None, Some(1605)), false, 1005, Step::Wait(Some(1710)));
    }

    #[test]
    fn interrupted_steps_are_taken_up_where_they_ended() {
        // The next root was made and the process ended before it was noted: nobody may have seen it.
        check(&record(None, None), true, 5000, Step::Note);
        // Activation was noted and the key not yet moved.
        check(&record(None, Some(1105)), true, 1106, Step::Activate);
    }

    #[test]
    fn an_emergency_is_short_and_a_root_without_an_age_stays() {
        let emergency = Record {
            emergency: true,
            ..record(Some(1000), None)
        };
        check(&emergency, true, 1059, Step::Wait(Some(1060)));
        check(&emergency, true, 1060, Step::Activate);
        let policy = Policy {
            max_age: None,
            ..POLICY
        };
        assert_eq!(
            next(&record(None, None), false, 0, &policy, i64::MAX),
            Step::Wait(None)
        );
    }
}
