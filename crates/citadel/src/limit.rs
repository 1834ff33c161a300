//! How often one caller may ask: a token bucket for each, of a bounded number. The time comes in.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Most callers that are told apart; those beyond share one bucket.
const MAX_CALLERS: usize = 50_000;
/// Name of the shared bucket.
const OTHERS: &str = "";

#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

/// Buckets of callers.
#[derive(Debug)]
pub(crate) struct Limiter {
    /// What a caller may ask at once.
    burst: f64,
    /// What it may ask each second after that.
    rate: f64,
    buckets: Mutex<HashMap<String, Bucket>>,
}

impl Limiter {
    /// A limit of `burst` requests at once and `rate` in each second.
    pub(crate) fn new(burst: u32, rate: u32) -> Self {
        Self {
            burst: f64::from(burst.max(1)),
            rate: f64::from(rate.max(1)),
            buckets: Mutex::default(),
        }
    }

    /// Takes a request of `caller` at `now`, when it has one left.
    ///
    /// # Errors
    /// How long it has to wait when it has none.
    pub(crate) fn take(&self, caller: &str, now: Instant) -> Result<(), Duration> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let name = self.place(&mut buckets, caller, now);
        let full = Bucket {
            tokens: self.burst,
            at: now,
        };
        let bucket = buckets.entry(name.to_owned()).or_insert(full);
        *bucket = self.filled(*bucket, now);
        match bucket.tokens >= 1.0 {
            true => {
                bucket.tokens -= 1.0;
                Ok(())
            }
            false => Err(Duration::from_secs_f64((1.0 - bucket.tokens) / self.rate)),
        }
    }

    /// Whether a request would be taken; none is.
    ///
    /// # Errors
    /// As [`Limiter::take`].
    pub(crate) fn look(&self, caller: &str, now: Instant) -> Result<(), Duration> {
        let buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let tokens = buckets
            .get(caller)
            .map_or(self.burst, |bucket| self.filled(*bucket, now).tokens);
        match tokens >= 1.0 {
            true => Ok(()),
            false => Err(Duration::from_secs_f64((1.0 - tokens) / self.rate)),
        }
    }

    fn filled(&self, bucket: Bucket, now: Instant) -> Bucket {
        let passed = now.saturating_duration_since(bucket.at).as_secs_f64();
        Bucket {
            tokens: (bucket.tokens + passed * self.rate).min(self.burst),
            at: now.max(bucket.at),
        }
    }

    /// A full bucket is as good as none, so those go first.
    fn place<'a>(&self, buckets: &mut HashMap<String, Bucket>, caller: &'a str, now: Instant) -> &'a str {
        if buckets.len() < MAX_CALLERS || buckets.contains_key(caller) {
            return caller;
        }
        buckets.retain(|_, bucket| self.filled(*bucket, now).tokens < self.burst);
        match buckets.len() < MAX_CALLERS {
            true => caller,
            false => OTHERS,
        }
    }
}

/// Whom an address stands for: itself, or the network of 64 bits that one holder of IPv6 addresses has.
pub(crate) fn holder(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).to_string()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_has_its_burst_and_then_its_rate() {
        let limiter = Limiter::new(3, 2);
        let start = Instant::now();
        let take = |caller: &str, millis: u64| {
            limiter
                .take(caller, start + Duration::from_millis(millis))
                .is_ok()
        };
        assert_eq!(
            [take("a", 0), take("a", 0), take("a", 0), take("a", 0)],
            [true, true, true, false]
        );
        assert!(take("b", 0), "others have their own");
        assert!(limiter.look("a", start).is_err() && limiter.look("c", start).is_ok());
        assert_eq!(
            [take("a", 499), take("a", 500), take("a", 500)],
            [false, true, false]
        );
        assert_eq!(
            limiter.take("a", start + Duration::from_millis(750)),
            Err(Duration::from_millis(250))
        );
        assert_eq!(
            [
                take("a", 60_000),
                take("a", 60_000),
                take("a", 60_000),
                take("a", 60_000)
            ],
            [true, true, true, false]
        );
    }

    #[test]
    fn the_number_of_callers_is_bounded() {
        let limiter = Limiter::new(1, 1);
        let start = Instant::now();
        for n in 0..MAX_CALLERS {
            limiter.take(&n.to_string(), start).unwrap();
        }
        assert!(limiter.take("one", start).is_ok());
        assert!(limiter.take("another", start).is_err(), "they share what is left");
        assert_eq!(limiter.buckets.lock().unwrap().len(), MAX_CALLERS + 1);
        let later = start + Duration::from_secs(5);
        assert!(limiter.take("one", later).is_ok() && limiter.take("another", later).is_ok());
        assert!(
            limiter.buckets.lock().unwrap().len() <= 2,
            "what is full again is dropped"
        );
    }

    #[test]
    fn a_network_of_ipv6_is_one_holder() {
        let holder = |text: &str| holder(text.parse().unwrap());
        assert_eq!(holder("10.0.0.7"), "10.0.0.7");
        assert_eq!(holder("::ffff:10.0.0.7"), "10.0.0.7");
        assert_eq!(holder("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
    }
}
