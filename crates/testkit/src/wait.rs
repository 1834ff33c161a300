//! Waiting on conditions, with a bound.

use std::fmt::Display;
use std::future::Future;
use std::time::{Duration, Instant};

/// How long to pause between two looks at a condition.
const PAUSE: Duration = Duration::from_millis(20);

/// Looks at a condition until it holds, and gives what it yields together with how long that took.
///
/// # Errors
/// After `bound`, naming `what` was waited for and why the last look did not succeed.
pub async fn until<T, E, F, Fut>(what: &str, bound: Duration, mut look: F) -> anyhow::Result<(T, Duration)>
where
    E: Display,
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    let started = Instant::now();
    let mut last = "the first look has not ended".to_owned();
    loop {
        let left = bound.saturating_sub(started.elapsed());
        match tokio::time::timeout(left, look()).await {
            Ok(Ok(value)) => return Ok((value, started.elapsed())),
            Ok(Err(reason)) => last = format!("{reason:#}"),
            Err(_) => {}
        }
        anyhow::ensure!(
            started.elapsed() < bound,
            "waited {bound:?} for {what}; last: {last}"
        );
        tokio::time::sleep(PAUSE).await;
    }
}

/// The same where nothing else is to go on meanwhile, for looks that take long, such as programs that are run; it pauses longer
/// between them. A look that has begun is waited for.
///
/// # Errors
/// As [`until`].
pub fn until_blocking<T, E: Display>(
    what: &str,
    bound: Duration,
    mut look: impl FnMut() -> Result<T, E>,
) -> anyhow::Result<T> {
    let started = Instant::now();
    loop {
        match look() {
            Ok(value) => return Ok(value),
            Err(reason) => anyhow::ensure!(
                started.elapsed() < bound,
                "waited {bound:?} for {what}; last: {reason:#}"
            ),
        }
        std::thread::sleep(PAUSE * 15);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blocking_wait_ends_as_the_other() {
        let mut looks = 0;
        let look = || {
            looks += 1;
            if looks == 2 { Ok(looks) } else { Err("not yet") }
        };
        assert_eq!(
            until_blocking("two looks", Duration::from_secs(60), look).unwrap(),
            2
        );
        let never = || Err::<(), _>("it is raining");
        let error = until_blocking("the sun", Duration::ZERO, never).unwrap_err();
        assert!(error.to_string().contains("raining"), "{error}");
    }

    #[tokio::test]
    async fn a_condition_that_comes_true_ends_the_wait() {
        let mut looks = 0;
        let look = || {
            looks += 1;
            std::future::ready(if looks == 3 { Ok(looks) } else { Err("not yet") })
        };
        assert_eq!(
            until("three looks", Duration::from_secs(60), look)
                .await
                .unwrap()
                .0,
            3
        );
    }

    #[tokio::test]
    async fn a_condition_that_never_holds_says_why() {
        let look = || std::future::ready(Err::<(), _>("it is raining"));
        let error = until("the sun", Duration::from_millis(50), look)
            .await
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("for the sun") && error.contains("raining"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn a_look_that_never_ends_is_bounded() {
        let look = std::future::pending::<Result<(), String>>;
        assert!(until("nothing", Duration::from_millis(50), look).await.is_err());
    }
}
