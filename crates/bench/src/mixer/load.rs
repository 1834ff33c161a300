//! Requests at a fixed rate over connections that stay; each one's time counts from the moment at which it was to be sent.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::task::JoinSet;

use super::rules::{FRONTEND, USERS};
use crate::process::milliseconds;

/// Connections that share the load.
const CONNECTIONS: u32 = 16;

/// What requests took, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) count: usize,
    pub(super) average: f64,
    pub(super) median: f64,
    pub(super) p99: f64,
}

/// Sends `rate` requests a second for so many seconds.
pub(super) async fn measure(to: SocketAddr, rate: u32, seconds: u64) -> anyhow::Result<Seen> {
    let pace = Duration::from_secs(1) * CONNECTIONS / rate;
    let start = Instant::now() + Duration::from_millis(100);
    let end = start + Duration::from_secs(seconds);
    let mut drivers = JoinSet::new();
    for number in 0..CONNECTIONS {
        drivers.spawn(drive(
            number as usize,
            to,
            pace,
            start + pace * number / CONNECTIONS,
            end,
        ));
    }
    let mut times = Vec::new();
    for driven in drivers.join_all().await {
        times.extend(driven?);
    }
    times.sort_unstable();
    let at = |share: usize| milliseconds(times.get(times.len() * share / 100).copied().unwrap_or_default());
    Ok(Seen {
        count: times.len(),
        average: milliseconds(times.iter().sum::<Duration>()) / times.len().max(1) as f64,
        median: at(50),
        p99: at(99),
    })
}

/// One connection of the frontend's at a steady pace, for one user after the other.
async fn drive(
    mut user: usize,
    to: SocketAddr,
    pace: Duration,
    start: Instant,
    end: Instant,
) -> anyhow::Result<Vec<Duration>> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((FRONTEND.parse::<Ipv4Addr>()?, 0).into())?;
    let mut stream = socket.connect(to).await?;
    stream.set_nodelay(true)?;
    let (mut due, mut times, mut answer) = (start, Vec::new(), Vec::with_capacity(4096));
    while due < end {
        user = (user + CONNECTIONS as usize) % USERS;
        let request = format!("GET /items HTTP/1.1\r\nhost: catalog\r\nx-user: user-{user}\r\n\r\n");
        tokio::time::sleep_until(due.into()).await;
        stream.write_all(request.as_bytes()).await?;
        answer.clear();
        while !answer.ends_with(b"\r\n\r\nok") {
            anyhow::ensure!(
                stream.read_buf(&mut answer).await? > 0,
                "the proxy closed the connection"
            );
            let refused = answer.starts_with(b"HTTP/1.1 4") || answer.starts_with(b"HTTP/1.1 5");
            anyhow::ensure!(!refused, "{}", String::from_utf8_lossy(&answer));
        }
        times.push(due.elapsed());
        due += pace;
    }
    Ok(times)
}
