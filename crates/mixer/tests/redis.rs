//! Quotas in a real Redis: shared by Mixers, given back by their windows, and what happens when it is away.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod common;
#[path = "redis_slow/mod.rs"]
mod slow;
#[path = "redis_tls/mod.rs"]
mod tls;

use std::time::{Duration, Instant};

use common::server::{SAMPLE, Server, descriptor};
use envoy_types::pb::envoy::service::ratelimit::v3::RateLimitResponse;
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::Code as Limit;
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_service_client::RateLimitServiceClient;
use testkit::redis::{Cluster, Redis, Watched};
use tonic::Code;

/// Only a failing test waits that long.
const BOUND: Duration = Duration::from_secs(20);

/// The sample, its quota in Redis: so many requests a window.
fn sample(redis: &Redis, amount: u64, window: &str, more: &str) -> [String; 3] {
    sample_at(&redis.address().to_string(), amount, window, more)
}

/// The same, in the Redis of this `redisServerUrl`.
fn sample_at(url: &str, amount: u64, window: &str, more: &str) -> [String; 3] {
    let mixer = SAMPLE[0].replace("compiledAdapter: memquota", "compiledAdapter: redisquota");
    let mixer = mixer.replace("maxAmount: 5", &format!("maxAmount: {amount}{more}"));
    let mixer = mixer.replace("validDuration: 3s", &format!("validDuration: {window}"));
    let params = format!("  params:\n    redisServerUrl: {url}\n    quotas:");
    let mixer = mixer.replace("  params:\n    quotas:", &params);
    [mixer, SAMPLE[1].to_owned(), SAMPLE[2].to_owned()]
}

async fn mixer(texts: &[String; 3]) -> Server {
    // A busy machine is not what these tests are about.
    mixer_with(texts, BOUND).await
}

async fn mixer_with(texts: &[String; 3], redis_deadline: Duration) -> Server {
    let args = mixer::Args {
        redis_deadline,
        ..mixer::Args::default()
    };
    let server = Server::start_with(args).await;
    server
        .mixer
        .configure(common::state(texts.iter().map(String::as_str)));
    assert!(
        server.mixer.findings().is_empty(),
        "{:?}",
        server.mixer.findings()
    );
    server
}

fn granted(answer: &RateLimitResponse) -> bool {
    answer.overall_code() == Limit::Ok
}

/// Whether it is granted; what is not decided is not.
async fn ask(server: &Server, user: &str) -> bool {
    match server.limit("catalog", user).await {
        Ok(answer) => granted(&answer),
        Err(status) => {
            let codes = [Code::Unavailable, Code::FailedPrecondition];
            assert!(codes.contains(&status.code()), "{status}");
            false
        }
    }
}

#[tokio::test]
async fn mixers_share_a_quota_and_grant_no_unit_twice() {
    let redis = Redis::start().await.unwrap();
    let texts = sample(&redis, 30, "1h", "");
    let (one, other) = (mixer(&texts).await, mixer(&texts).await);
    let asking = |server: Server| async move {
        let mut count = 0;
        for _ in 0..40 {
            count += u32::from(ask(&server, "jason").await);
        }
        (count, server)
    };
    let ((first, one), (second, _other)) = tokio::join!(asking(one), asking(other));
    assert_eq!(first + second, 30);
    let over = one.limit("catalog", "jason").await.unwrap();
    assert_eq!(
        over.raw_body,
        b"RESOURCE_EXHAUSTED:Quota is exhausted for: catalogquota"
    );
    let reset = over.statuses[0].duration_until_reset.unwrap().seconds;
    assert!((3500..=3600).contains(&reset), "{reset}");
    assert!(ask(&one, "anna").await, "another user has a quota of their own");
}

/// Uses up two units, one at the window's beginning and one in its middle, and counts those that are back when the first is; none
/// where the machine was too slow to tell.
async fn back_together(server: &Server, user: &str, window: Duration) -> Option<usize> {
    let start = Instant::now();
    assert!(ask(server, user).await);
    tokio::time::sleep(window / 2).await;
    let middle = Instant::now();
    let two = ask(server, user).await && !ask(server, user).await;
    if start.elapsed() >= window {
        return None;
    }
    assert!(two, "two units and no more");
    while !ask(server, user).await {
        assert!(start.elapsed() < window + BOUND, "nothing comes back");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // Redis' clock counts whole milliseconds.
    assert!(start.elapsed() >= window - Duration::from_millis(5));
    let mut back = 1;
    while ask(server, user).await {
        back += 1;
    }
    (middle.elapsed() < window).then_some(back)
}

#[tokio::test]
async fn windows_give_units_back() {
    let redis = Redis::start().await.unwrap();
    let rolling = "\n        rateLimitAlgorithm: ROLLING_WINDOW\n        bucketDuration: 100ms";
    // A fixed window gives all back at once, a rolling one each unit when it has passed it.
    for (more, expected) in [("", 2), (rolling, 1)] {
        let mut seconds = 2;
        loop {
            let server = mixer(&sample(&redis, 2, &format!("{seconds}s"), more)).await;
            let user = format!("user-{seconds}");
            let back = back_together(&server, &user, Duration::from_secs(seconds)).await;
            if let Some(back) = back {
                assert_eq!(back, expected, "{more}");
                break;
            }
            seconds *= 2;
            assert!(seconds < 60, "the machine is too slow for windows of 32 s");
        }
    }
}

#[tokio::test]
async fn without_redis_the_rule_decides_and_its_return_is_noticed() {
    let mut redis = Redis::start().await.unwrap();
    let texts = sample(&redis, 1000, "1h", "");
    let annotation = "name: limit-catalog\n  annotations: {policy.argosy.io/fail-open: \"true\"}";
    let mut open = texts.clone();
    open[0] = open[0].replace("name: limit-catalog", annotation);
    let (closed, open) = (mixer(&texts).await, mixer(&open).await);
    assert!(ask(&closed, "jason").await && ask(&open, "jason").await);
    redis.kill();
    // No 429: the proxy asks again, and says 503 in the end.
    let refused = closed.limit("catalog", "jason").await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    let message = refused.message();
    assert!(
        message.starts_with("UNAVAILABLE:Quota cannot be asked: catalogquota"),
        "{message}"
    );
    for _ in 0..10 {
        assert!(ask(&open, "jason").await);
    }
    // Until it is known to be away: then it is said for good, at once and by the next that tries it.
    for _ in 0..2 {
        let _ = closed.limit("catalog", "jason").await.unwrap_err();
    }
    for rest in [0, 1_000_000_000, 0] {
        closed.now.fetch_add(rest, std::sync::atomic::Ordering::SeqCst);
        let refused = closed.limit("catalog", "jason").await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
        assert!(
            refused.message().contains("Quota cannot be asked: catalogquota"),
            "{refused}"
        );
    }
    redis.restart().await.unwrap();
    // The Mixer's clock stands still in these tests: what rests would rest for ever.
    closed
        .now
        .fetch_add(1_000_000_000, std::sync::atomic::Ordering::SeqCst);
    let start = Instant::now();
    while !ask(&closed, "jason").await {
        assert!(start.elapsed() < BOUND, "Redis' return is not noticed");
        closed
            .now
            .fetch_add(1_000_000_000, std::sync::atomic::Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// All connections have ended then, and none knows before it is used.
#[tokio::test]
async fn a_redis_that_was_restarted_is_asked_at_once() {
    let mut redis = Redis::start().await.unwrap();
    let server = mixer_with(&sample(&redis, 1000, "1h", ""), Duration::from_secs(1)).await;
    for _ in 0..20 {
        assert!(ask(&server, "jason").await);
    }
    redis.kill();
    redis.restart().await.unwrap();
    for turn in 0..20 {
        assert!(ask(&server, "jason").await, "charge {turn} after the restart");
    }
}

#[tokio::test]
async fn a_redis_that_hangs_holds_nobody_up() {
    let redis = Redis::start().await.unwrap();
    let server = mixer_with(&sample(&redis, 1000, "1h", ""), Duration::from_millis(500)).await;
    assert!(ask(&server, "jason").await);
    redis.pause(Duration::from_secs(60)).await.unwrap();
    // Far less than the pause: each call has a deadline, and after a few nobody waits at all.
    let start = Instant::now();
    for _ in 0..20 {
        assert!(!ask(&server, "jason").await);
    }
    assert!(start.elapsed() < Duration::from_secs(30));
}

/// Calls that wait together fail together, and that counts once.
#[tokio::test]
async fn one_pause_is_no_reason_to_leave_redis_alone() {
    let redis = Redis::start().await.unwrap();
    let deadline = Duration::from_secs(1);
    let server = mixer_with(&sample(&redis, 1_000_000, "1h", ""), deadline).await;
    let client = RateLimitServiceClient::new(server.proxy("catalog"));
    let asks = |count: usize| {
        let calls = (0..count).map(|_| {
            let mut client = client.clone();
            async move { client.should_rate_limit(descriptor("jason")).await.is_ok() }
        });
        futures::future::join_all(calls)
    };
    // The connection is there when the pause begins, so that all of them come within it.
    assert_eq!(asks(1).await, [true]);
    let (pause, start) = (deadline * 8, Instant::now());
    redis.pause(pause).await.unwrap();
    let late = asks(50).await.iter().filter(|decided| !**decided).count();
    assert!(late >= 40, "{late} of 50 waited for the pause");
    tokio::time::sleep(pause.saturating_sub(start.elapsed()) + Duration::from_millis(100)).await;
    // Mixer's clock stands still here: what is left alone would be for ever.
    assert!(ask(&server, "jason").await, "Redis is left alone");
}

/// Asks until the quota is decided again, with time passing for Mixer, whose clock stands still in these tests.
async fn decided_again(server: &Server) {
    let start = Instant::now();
    loop {
        server
            .now
            .fetch_add(1_000_000_000, std::sync::atomic::Ordering::SeqCst);
        if ask(server, "anna").await {
            return;
        }
        assert!(start.elapsed() < 3 * BOUND, "the new master is not asked");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_cluster_counts_and_survives_a_master() {
    let mut cluster = Cluster::start().await.unwrap();
    let nodes = cluster.addresses();
    let nodes: Vec<String> = nodes.iter().map(ToString::to_string).collect();
    let url = format!("redis+cluster://{}", nodes.join(","));
    let server = mixer_with(&sample_at(&url, 2, "1h", ""), Duration::from_secs(2)).await;
    decided_again(&server).await;
    assert!(ask(&server, "anna").await);
    assert!(!ask(&server, "anna").await, "two units and no more");
    cluster.kill_a_master_with_keys().await.unwrap();
    // Whichever master a key belongs to: after the failover each is decided, and what was counted still counts.
    for user in ["jason", "mallory", "nobody", "frontend"] {
        let start = Instant::now();
        while !ask(&server, user).await {
            server
                .now
                .fetch_add(1_000_000_000, std::sync::atomic::Ordering::SeqCst);
            assert!(start.elapsed() < 3 * BOUND, "the replica did not take over");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    let start = Instant::now();
    loop {
        if let Ok(answer) = server.limit("catalog", "anna").await {
            assert!(!granted(&answer), "what was counted is forgotten");
            break;
        }
        server
            .now
            .fetch_add(1_000_000_000, std::sync::atomic::Ordering::SeqCst);
        assert!(start.elapsed() < BOUND, "the quota is not decided");
    }
}

#[tokio::test]
async fn sentinels_lead_to_the_new_master() {
    let mut watched = Watched::start().await.unwrap();
    let url = format!("redis+sentinel://{}/{}", watched.sentinel(), Watched::NAME);
    let server = mixer_with(&sample_at(&url, 1000, "1h", ""), Duration::from_secs(2)).await;
    decided_again(&server).await;
    watched.kill_master();
    let refused = server.limit("catalog", "anna").await.unwrap_err();
    assert_eq!(
        refused.code(),
        Code::Unavailable,
        "nobody counts while there is no master"
    );
    decided_again(&server).await;
}
