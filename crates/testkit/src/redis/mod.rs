//! A real Redis, alone, as a cluster, or watched by a sentinel.

mod cluster;
mod sentinel;

pub use cluster::Cluster;
pub use sentinel::Watched;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::{Process, Rundir, Spec, fetch, net};

/// How long it may take to serve.
const BOUND: Duration = Duration::from_secs(30);

/// A running Redis that keeps nothing on disk. Dropped, it ends.
#[derive(Debug)]
pub struct Redis {
    process: Process,
    spec: Spec,
    address: SocketAddr,
    _dir: Rundir,
}

/// The binary to run: `REDIS_BIN`, else the pinned version from the tool cache, fetched into it when missing.
///
/// # Errors
/// What `scripts/fetch-redis` says: no Python, no pip, no network.
pub fn binary() -> anyhow::Result<PathBuf> {
    fetch::path("redis", "Redis")
}

impl Redis {
    /// Starts one on a loopback port and waits until it answers.
    ///
    /// # Errors
    /// No binary, or no answer; with the end of its log.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_with(&[]).await
    }

    /// Starts one with these further arguments.
    async fn start_with(arguments: &[&str]) -> anyhow::Result<Self> {
        // A first run fetches.
        let binary = tokio::task::spawn_blocking(binary).await??;
        let dir = Rundir::new("argosy-redis")?;
        let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port()?);
        let mut spec = Spec::new("redis", binary, dir.path())
            .flag("--bind", address.ip())
            .flag("--port", address.port())
            .flag("--dir", dir.path().display())
            .flag("--save", "")
            .flag("--appendonly", "no");
        for argument in arguments {
            spec = spec.arg(*argument);
        }
        let process = spec.start()?;
        let mut redis = Self {
            process,
            spec,
            address,
            _dir: dir,
        };
        redis.ready().await?;
        Ok(redis)
    }

    /// `HOST:PORT`.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends it at once; its data is gone.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again at the same address, without data.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.process.kill();
        self.process = self.spec.start()?;
        self.ready().await
    }

    /// The same with one more argument.
    async fn restart_with(&mut self, name: &str, value: impl std::fmt::Display) -> anyhow::Result<()> {
        self.spec = self.spec.clone().flag(name, value);
        self.restart().await
    }

    /// Makes it answer nobody for this long, connections held: `CLIENT PAUSE`.
    ///
    /// # Errors
    /// No answer.
    pub async fn pause(&self, time: Duration) -> anyhow::Result<()> {
        let answer = ask(self.address, &format!("CLIENT PAUSE {}\r\n", time.as_millis())).await?;
        anyhow::ensure!(answer.starts_with("+OK"), "{answer}");
        Ok(())
    }

    async fn ready(&mut self) -> anyhow::Result<()> {
        let address = self.address;
        let pong = || async move {
            let answer = ask(address, "PING\r\n").await?;
            anyhow::ensure!(answer.starts_with("+PONG"), "{answer}");
            Ok(())
        };
        self.process.until("Redis to answer", BOUND, pong).await
    }
}

/// A free port that leaves room for a cluster's second one, 10,000 above.
fn port() -> anyhow::Result<u16> {
    for _ in 0..100 {
        let port = net::free_port(Ipv4Addr::LOCALHOST)?;
        if port < u16::MAX - 10_000 {
            return Ok(port);
        }
    }
    anyhow::bail!("no free port below 55535")
}

/// The first answer to an inline command.
async fn ask(address: SocketAddr, command: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(command.as_bytes()).await?;
    let mut answer = [0; 4096];
    let read = stream.read(&mut answer).await?;
    let bytes = answer.get(..read).unwrap_or_default();
    Ok(String::from_utf8_lossy(bytes).into_owned())
}
