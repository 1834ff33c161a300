//! A Redis that is slow: its answers come late, through a proxy between it and Mixer.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use testkit::redis::Redis;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

use super::{BOUND, ask, decided_again, mixer_with, sample_at};

/// Between Redis and its clients.
struct Slow {
    address: SocketAddr,
    milliseconds: Arc<AtomicU64>,
}

impl Slow {
    async fn before(redis: &Redis) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let slow = Self {
            address: listener.local_addr().unwrap(),
            milliseconds: Arc::default(),
        };
        let (to, late) = (redis.address(), slow.milliseconds.clone());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(to).await.unwrap();
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                tokio::spawn(pass(from_client, to_server, Arc::default()));
                tokio::spawn(pass(from_server, to_client, late.clone()));
            }
        });
        slow
    }

    fn by(&self, time: Duration) {
        let milliseconds = u64::try_from(time.as_millis()).unwrap();
        self.milliseconds.store(milliseconds, Ordering::SeqCst);
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, late: Arc<AtomicU64>) {
    let mut bytes = vec![0; 16 << 10];
    while let Ok(read) = from.read(&mut bytes).await {
        if read == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(late.load(Ordering::SeqCst))).await;
        if to.write_all(&bytes[..read]).await.is_err() {
            return;
        }
    }
}

/// No request waits longer for a quota than 15 ms unless told so, however late Redis answers.
#[tokio::test]
async fn nobody_waits_for_a_slow_redis_longer_than_the_deadline() {
    let deadline = mixer::Args::default().redis_deadline;
    assert!(deadline <= Duration::from_millis(15), "{deadline:?}");
    let redis = Redis::start().await.unwrap();
    let slow = Slow::before(&redis).await;
    let texts = sample_at(&slow.address.to_string(), 1000, "1h", "");
    let server = mixer_with(&texts, deadline).await;
    // A machine that is busy may be late by itself.
    decided_again(&server).await;
    let late = Duration::from_secs(60);
    slow.by(late);
    let start = Instant::now();
    let refused = server.limit("catalog", "jason").await.unwrap_err();
    assert!(
        start.elapsed() < late,
        "Redis' answer was waited for: {:?}",
        start.elapsed()
    );
    // Whichever of the client library and Mixer notices first.
    let said = refused.message();
    assert!(
        said.contains("no answer from Redis within") || said.contains("timed out"),
        "{refused}"
    );
    slow.by(Duration::ZERO);
    decided_again(&server).await;
}

/// A Redis that answers late and in time decides as a fast one.
#[tokio::test]
async fn a_slow_redis_that_is_in_time_grants_what_it_has() {
    let redis = Redis::start().await.unwrap();
    let slow = Slow::before(&redis).await;
    let server = mixer_with(&sample_at(&slow.address.to_string(), 3, "1h", ""), BOUND).await;
    slow.by(Duration::from_millis(10));
    let start = Instant::now();
    for turn in 0..5 {
        assert_eq!(ask(&server, "jason").await, turn < 3, "charge {turn}");
    }
    assert!(
        start.elapsed() >= Duration::from_millis(50),
        "it was asked each time"
    );
}
