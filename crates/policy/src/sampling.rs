//! A rule's sampling: for which of the requests that its predicate holds for its actions are carried out
//! (istio.policy.v1beta1.Sampling). A request must be taken by chance and by rate, where both are given.
//!
//! Chance is a function of `x-request-id`, so that all rules, both ends and all Mixers take the same requests. A rate is
//! counted by each Mixer for itself, by the requests' own times.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use config::mixer::{DenominatorType, RandomSampling, RateLimitSampling, Sampling as Spec};
use expr::{Attributes, Expression, Use, Value, ValueType, Vocabulary};

use crate::request::Request;
use config::adapters::Problem;

/// Which of a rule's actions are asked for: each is sampled for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Aspect {
    Check,
    Quota,
    Report,
}

/// A rule's sampling.
#[derive(Clone, Debug)]
pub(crate) struct Sampling {
    chance: Option<Chance>,
    rate: Option<Rate>,
}

#[derive(Clone, Debug)]
struct Chance {
    /// Of so many.
    denominator: u64,
    numerator: u64,
    /// The numerator of a request of its own.
    of_request: Option<Expression>,
    /// Mixed into the request's id, so that rules do not take the same requests.
    salt: Option<String>,
}

#[derive(Clone, Debug)]
struct Rate {
    /// Nanoseconds.
    window: i64,
    /// Taken in a window before sampling begins.
    free: u64,
    /// Then one of so many.
    every: u64,
    counters: Arc<[Counter; 3]>,
}

#[derive(Debug, Default)]
struct Counter {
    /// When its window began, in nanoseconds; 0 before the first request.
    began: AtomicI64,
    seen: AtomicU64,
}

impl Sampling {
    /// Reads a rule's sampling; `rule` is its name. None where nothing is asked for.
    pub(crate) fn new(spec: &Spec, rule: &str, vocabulary: &dyn Vocabulary) -> Result<Option<Self>, Problem> {
        let random = spec
            .random
            .as_ref()
            .map(|random| Chance::new(random, rule, vocabulary));
        let rate = spec.rate_limit.as_ref().map(Rate::new);
        let sampling = Self {
            chance: random.transpose().map_err(|problem| problem.below("random"))?,
            rate: rate.transpose().map_err(|problem| problem.below("rateLimit"))?,
        };
        Ok((sampling.chance.is_some() || sampling.rate.is_some()).then_some(sampling))
    }

    /// Whether the request is one of those taken.
    pub(crate) fn takes(&self, aspect: Aspect, request: &Request<'_>) -> bool {
        self.chance.as_ref().is_none_or(|chance| chance.takes(request))
            && self.rate.as_ref().is_none_or(|rate| rate.takes(aspect, request))
    }

    /// What it reads.
    pub(crate) fn uses(&self) -> impl Iterator<Item = Use> {
        let expression = self.chance.iter().filter_map(|chance| chance.of_request.as_ref());
        let id = self
            .chance
            .iter()
            .map(|_| Use::Attribute("request.id".to_owned()));
        expression
            .flat_map(Expression::uses)
            .chain(id)
            .collect::<Vec<_>>()
            .into_iter()
    }
}

impl Chance {
    fn new(spec: &RandomSampling, rule: &str, vocabulary: &dyn Vocabulary) -> Result<Self, Problem> {
        let percent = spec.percent_sampled.as_ref();
        let denominator = match percent.map(|percent| percent.denominator).unwrap_or_default() {
            DenominatorType::Hundred => 100,
            DenominatorType::TenThousand => 10_000,
        };
        let of_request = match spec.attribute_expression.trim() {
            "" => None,
            text => {
                let problem = |why: String| Problem::new("attributeExpression", why);
                let expression = Expression::compile(text, vocabulary).map_err(|e| problem(e.to_string()))?;
                match expression.ty() {
                    ValueType::Int64 | ValueType::Double => Some(expression),
                    ty => return Err(problem(format!("is {ty}, but must be INT64 or DOUBLE"))),
                }
            }
        };
        Ok(Self {
            denominator,
            numerator: percent.map_or(0, |percent| u64::from(percent.numerator)),
            of_request,
            salt: spec.use_independent_randomness.then(|| rule.to_owned()),
        })
    }

    fn takes(&self, request: &Request<'_>) -> bool {
        let numerator = match &self.of_request {
            None => Some(self.numerator),
            // Without a number nothing is taken (Istio).
            Some(expression) => match expression.eval(request).ok() {
                Some(Value::Int(n)) => u64::try_from(n).ok(),
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "saturates, and part of a percent is none"
                )]
                Some(Value::Double(n)) => Some(n as u64),
                _ => None,
            },
        };
        numerator.is_some_and(|numerator| self.draw(request) % self.denominator < numerator)
    }

    fn draw(&self, request: &Request<'_>) -> u64 {
        let salt = hash(FNV, self.salt.as_deref().unwrap_or_default().as_bytes());
        match request.get("request.id") {
            Some(id) => mixed(hash(salt, id.to_string().as_bytes())),
            // Connections have no id.
            None => {
                let time = request.time.map_or(0, |time| time.0);
                let port = request.source.port.unwrap_or_default();
                mixed(hash(hash(salt, &time.to_le_bytes()), &port.to_le_bytes()))
            }
        }
    }
}

/// FNV-1a's offset basis and prime for 64 bits.
const FNV: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0100_0000_01b3;

fn hash(seed: u64, bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(seed, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(PRIME))
}

/// Lets each bit depend on all others (MurmurHash3's finalizer).
fn mixed(mut hash: u64) -> u64 {
    for factor in [0xff51_afd7_ed55_8ccd, 0xc4ce_b9fe_1a85_ec53] {
        hash ^= hash >> 33;
        hash = hash.wrapping_mul(factor);
    }
    hash ^ (hash >> 33)
}

impl Rate {
    fn new(spec: &RateLimitSampling) -> Result<Self, Problem> {
        let window = spec.sampling_duration.map_or(0, |duration| duration.0.as_nanos());
        let count = |field: &str, given: i64| {
            u64::try_from(given).map_err(|_| Problem::new(field, format!("{given} is negative")))
        };
        if window == 0 {
            return Err(Problem::new("samplingDuration", "must be set, such as 1s"));
        }
        Ok(Self {
            window: i64::try_from(window).unwrap_or(i64::MAX),
            free: count("maxUnsampledEntries", spec.max_unsampled_entries)?,
            every: count("samplingRate", spec.sampling_rate)?,
            counters: Arc::default(),
        })
    }

    fn takes(&self, aspect: Aspect, request: &Request<'_>) -> bool {
        let [check, quota, report] = &*self.counters;
        let counter = match aspect {
            Aspect::Check => check,
            Aspect::Quota => quota,
            Aspect::Report => report,
        };
        let now = request.time.map_or(1, |time| time.0);
        let began = counter.began.load(Ordering::Relaxed);
        // Of several requests at the end of a window one begins the next.
        if now.saturating_sub(began) >= self.window
            && counter
                .began
                .compare_exchange(began, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        {
            counter.seen.store(0, Ordering::Relaxed);
        }
        let seen = counter.seen.fetch_add(1, Ordering::Relaxed);
        match seen.checked_sub(self.free) {
            None => true,
            // Without a rate nothing more is taken.
            Some(beyond) => self.every > 0 && (beyond + 1).is_multiple_of(self.every),
        }
    }
}

#[cfg(test)]
mod tests {
    use config::mixer::FractionalPercent;

    use super::*;

    fn chance(numerator: u32, expression: &str, independent: bool, rule: &str) -> Sampling {
        let spec = Spec {
            random: Some(RandomSampling {
                attribute_expression: expression.to_owned(),
                percent_sampled: Some(FractionalPercent {
                    numerator,
                    denominator: DenominatorType::Hundred,
                }),
                use_independent_randomness: independent,
            }),
            rate_limit: None,
        };
        Sampling::new(&spec, rule, &expr::STANDARD).unwrap().unwrap()
    }

    fn taken(sampling: &Sampling, base: &Request<'_>) -> Vec<u32> {
        let takes = |i: &u32| {
            let id = format!("7d5c3a10-0000-4000-8000-{i:012x}");
            let request = Request {
                id: Some(&id),
                ..base.clone()
            };
            sampling.takes(Aspect::Report, &request)
        };
        (0..10_000).filter(takes).collect()
    }

    #[test]
    fn a_percentage_of_requests_is_taken_and_the_same_by_all_rules() {
        let base = Request::default();
        let a = taken(&chance(10, "", false, "a.shop"), &base);
        assert!((850..1_150).contains(&a.len()), "{}", a.len());
        assert_eq!(a, taken(&chance(10, "", false, "b.shop"), &base));
        assert_ne!(a, taken(&chance(10, "", true, "b.shop"), &base));
        assert_eq!(taken(&chance(0, "", false, "a"), &base).len(), 0);
        assert_eq!(taken(&chance(100, "", false, "a"), &base).len(), 10_000);
    }

    #[test]
    fn a_request_can_have_a_percentage_of_its_own() {
        let sampling = chance(0, "request.size", false, "a");
        let sized = |size: Option<i64>| Request {
            size,
            ..Request::default()
        };
        assert_eq!(taken(&sampling, &sized(None)).len(), 0);
        assert_eq!(taken(&sampling, &sized(Some(100))).len(), 10_000);
        let half = taken(&sampling, &sized(Some(50))).len();
        assert!((4_700..5_300).contains(&half), "{half}");
    }

    #[test]
    fn beyond_a_rate_one_of_so_many_is_taken() {
        let spec = Spec {
            random: None,
            rate_limit: Some(RateLimitSampling {
                sampling_duration: Some(config::Duration::from_secs(1)),
                max_unsampled_entries: 2,
                sampling_rate: 3,
            }),
        };
        let sampling = Sampling::new(&spec, "a", &expr::STANDARD).unwrap().unwrap();
        let at = |millis: i64| {
            let request = Request {
                time: Some(expr::Timestamp(1_700_000_000_000_000_000 + millis * 1_000_000)),
                ..Request::default()
            };
            sampling.takes(Aspect::Report, &request)
        };
        let seen: Vec<bool> = (0..8).map(at).collect();
        assert_eq!(seen, [true, true, false, false, true, false, false, true]);
        assert!(at(1_001), "a new window");
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let random = |text: &str| Spec {
            random: Some(RandomSampling {
                attribute_expression: text.to_owned(),
                ..RandomSampling::default()
            }),
            rate_limit: None,
        };
        let problem = Sampling::new(&random("request.path"), "a", &expr::STANDARD).unwrap_err();
        assert_eq!(problem.path, "random.attributeExpression");
        let rate = Spec {
            random: None,
            rate_limit: Some(RateLimitSampling::default()),
        };
        let problem = Sampling::new(&rate, "a", &expr::STANDARD).unwrap_err();
        assert_eq!(problem.path, "rateLimit.samplingDuration");
    }
}
