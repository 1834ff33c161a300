//! Keeps the engine's configuration current: each state of the feed is built off the requests' path and swapped in, and
//! what is wrong with it is told once.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use config::{Finding, Severity};
use feed::State;
use runtime::readiness::Condition;
use tokio::sync::watch;

use crate::engine::Engine;
use crate::meters::SeverityLabel;

/// Shortest time between two builds: changes that come meanwhile are taken up together.
const PAUSE: Duration = Duration::from_millis(50);
/// Time between two rounds of tidying up.
const TIDY: Duration = Duration::from_secs(10);

/// Follows the feed until it ends.
pub(crate) async fn follow(
    engine: Arc<Engine>,
    mut states: watch::Receiver<Option<Arc<State>>>,
    ready: Condition,
) {
    let mut told = Told::default();
    let mut tidy = tokio::time::interval(TIDY);
    loop {
        let state = states.borrow_and_update().clone();
        if let Some(state) = state {
            build(&engine, state, &mut told).await;
            ready.set_ready();
            tokio::time::sleep(PAUSE).await;
        }
        loop {
            tokio::select! {
                changed = states.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return,
                },
                _ = tidy.tick() => {
                    engine.tidy();
                    let engine = engine.clone();
                    tokio::spawn(async move {
                        let refreshing = engine.clone();
                        if tokio::task::spawn_blocking(move || refreshing.refresh()).await.is_ok() {
                            engine.greet().await;
                        }
                    });
                }
            }
        }
    }
}

async fn build(engine: &Arc<Engine>, state: Arc<State>, told: &mut Told) {
    let building = engine.clone();
    match tokio::task::spawn_blocking(move || building.prepare(state)).await {
        Ok(policies) => {
            engine.greet().await;
            let policies = engine.install(policies);
            told.tell(&policies.findings);
            count(engine, &policies.findings);
        }
        // A fault of the program; the last configuration stays in force.
        Err(error) => tracing::error!(%error, "the configuration could not be built; the last one stays"),
    }
}

fn count(engine: &Engine, findings: &[Finding]) {
    for severity in [Severity::Info, Severity::Warning, Severity::Error] {
        let number = findings
            .iter()
            .filter(|finding| finding.severity == severity)
            .count();
        let label = SeverityLabel {
            severity: severity.to_string(),
        };
        engine
            .meters
            .findings
            .get_or_create(&label)
            .set(i64::try_from(number).unwrap_or(i64::MAX));
    }
}

/// The findings that were told, so that each is told once, and again only after it had gone.
#[derive(Debug, Default)]
struct Told(BTreeSet<String>);

impl Told {
    fn tell(&mut self, findings: &[Finding]) {
        for finding in self.news(findings) {
            match finding.severity {
                Severity::Error => tracing::error!(%finding, "configuration"),
                Severity::Warning => tracing::warn!(%finding, "configuration"),
                Severity::Info => tracing::info!(%finding, "configuration"),
            }
        }
    }

    fn news<'a>(&mut self, findings: &'a [Finding]) -> Vec<&'a Finding> {
        let now: BTreeSet<String> = findings.iter().map(ToString::to_string).collect();
        let before = std::mem::replace(&mut self.0, now);
        findings
            .iter()
            .filter(|finding| !before.contains(&finding.to_string()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use runtime::Metrics;
    use runtime::readiness::Readiness;

    use super::*;
    use crate::args::Args;
    use crate::clock::Clock;
    use crate::testing::{SAMPLE_MIXER, SAMPLE_SERVICES, SAMPLE_WORKLOADS, state};

    /// Only a failing test waits that long.
    const BOUND: Duration = Duration::from_secs(60);

    /// What a Redis says of itself: `NAME:VALUE`, a line each.
    async fn info(redis: &testkit::redis::Redis) -> String {
        let client = ::redis::Client::open(format!("redis://{}/", redis.address())).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        ::redis::cmd("INFO").query_async(&mut connection).await.unwrap()
    }

    #[tokio::test]
    async fn a_quotas_redis_is_reached_before_the_first_request() {
        let redis = testkit::redis::Redis::start().await.unwrap();
        let params = format!(
            "  params:\n    redisServerUrl: {}\n    connectionPoolSize: 2\n    quotas:",
            redis.address()
        );
        let mixer = SAMPLE_MIXER
            .replace("compiledAdapter: memquota", "compiledAdapter: redisquota")
            .replace("  params:\n    quotas:", &params);
        let args = Args {
            redis_deadline: BOUND,
            ..Args::default()
        };
        let engine = Arc::new(Engine::new(&args, Clock::system(), &Metrics::new()));
        let readiness = Readiness::new();
        let (_states, followed) = watch::channel(Some(state(&[&mixer, SAMPLE_SERVICES, SAMPLE_WORKLOADS])));
        let ready = readiness.condition("configuration");
        let following = tokio::spawn(follow(engine, followed, ready));
        tokio::time::timeout(BOUND, readiness.wait_ready()).await.unwrap();
        let said = info(&redis).await;
        // Both, and the one that asks.
        for expected in ["connected_clients:3", "number_of_cached_scripts:2"] {
            assert!(said.contains(expected), "{expected}: {said}");
        }
        following.abort();
    }

    #[tokio::test]
    async fn a_redis_that_is_away_does_not_keep_mixer_from_serving() {
        let mixer = SAMPLE_MIXER
            .replace("compiledAdapter: memquota", "compiledAdapter: redisquota")
            .replace(
                "  params:\n    quotas:",
                "  params:\n    redisServerUrl: 127.0.0.1:1\n    quotas:",
            );
        let engine = Arc::new(Engine::new(&Args::default(), Clock::system(), &Metrics::new()));
        let readiness = Readiness::new();
        let (_states, followed) = watch::channel(Some(state(&[&mixer, SAMPLE_SERVICES, SAMPLE_WORKLOADS])));
        let ready = readiness.condition("configuration");
        let following = tokio::spawn(follow(engine, followed, ready));
        tokio::time::timeout(BOUND, readiness.wait_ready()).await.unwrap();
        following.abort();
    }

    #[test]
    fn a_finding_is_told_once_and_again_after_it_had_gone() {
        let (a, b) = (Finding::error("a"), Finding::warning("b"));
        let mut told = Told::default();
        assert_eq!(told.news(std::slice::from_ref(&a)), [&a]);
        assert_eq!(told.news(&[a.clone(), b.clone()]), [&b]);
        assert!(told.news(std::slice::from_ref(&b)).is_empty());
        assert_eq!(told.news(&[a.clone(), b]), [&a]);
    }
}
