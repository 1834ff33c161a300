//! How long a watch waits after a failure.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use kube::runtime::utils::{Backoff, ResetTimerBackoff};

/// Shortest and longest pause, before jitter, which adds up to as much again.
const BOUNDS: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));
/// A pause is short again when this long has passed since the last failure.
const CALM: Duration = Duration::from_secs(60);

/// The pauses of a watch, for `WatchStreamExt::backoff`: from 200 ms they double to 10 s, with jitter of up to as much again.
///
/// Time alone makes them short again, a minute without a failure. `StreamBackoff` resets its backoff at whatever is no error,
/// and kube's watcher announces each list (`Event::Init`) before it asks for it: a list that is always refused would be asked
/// for five times a second for ever.
pub struct Pauses(ResetTimerBackoff<Doubling>);

impl Default for Pauses {
    fn default() -> Self {
        Self(ResetTimerBackoff::new(Doubling(doubling()), CALM))
    }
}

impl Iterator for Pauses {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.0.next()
    }
}

impl Backoff for Pauses {
    /// Nothing: see [`Pauses`].
    fn reset(&mut self) {}
}

struct Doubling(ExponentialBackoff);

fn doubling() -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(BOUNDS.0)
        .with_max_delay(BOUNDS.1)
        .with_factor(2.0)
        .with_jitter()
        .without_max_times()
        .build()
}

impl Iterator for Doubling {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.0.next()
    }
}

impl Backoff for Doubling {
    fn reset(&mut self) {
        self.0 = doubling();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may fail loudly")]
mod tests {
    use futures::{StreamExt, stream};
    use kube::runtime::WatchStreamExt;
    use kube::runtime::watcher::{Error, Event};
    use tokio::time::{Instant, advance};

    use super::*;

    /// What kube's watcher tells while each list is refused.
    fn refused() -> impl stream::Stream<Item = Result<Event<()>, Error>> {
        stream::iter([(); 20]).flat_map(|()| stream::iter([Ok(Event::Init), Err(Error::NoResourceVersion)]))
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_that_is_always_refused_is_asked_for_ever_more_seldom() {
        let start = Instant::now();
        let events = refused().backoff(Pauses::default()).count().await;
        assert_eq!(events, 40);
        // 0.2 + 0.4 + 0.8 + 1.6 + 3.2 + 6.4 s, then 10 s each.
        let least = Duration::from_millis(12_600) + 13 * BOUNDS.1;
        let passed = start.elapsed();
        assert!(passed >= least && passed <= 2 * (least + BOUNDS.1), "{passed:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_minute_without_a_failure_makes_them_short_again() {
        let mut pauses = Pauses::default();
        for _ in 0..10 {
            pauses.next();
        }
        pauses.reset();
        assert!(pauses.next().unwrap() >= BOUNDS.1);
        advance(CALM + Duration::from_millis(1)).await;
        assert!(pauses.next().unwrap() <= 2 * BOUNDS.0);
    }
}
