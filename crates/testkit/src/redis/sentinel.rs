//! A master and a replica that a sentinel watches.

use std::net::SocketAddr;
use std::time::Duration;

use super::{Redis, ask, binary, port};
use crate::{Process, Rundir, Spec, wait};

/// How long they may take to know each other.
const BOUND: Duration = Duration::from_secs(60);

/// A master, its replica and the sentinel. Dropped, they end.
#[derive(Debug)]
pub struct Watched {
    master: Redis,
    _replica: Redis,
    _sentinel: Process,
    address: SocketAddr,
    _dir: Rundir,
}

impl Watched {
    /// What the sentinel calls the master.
    pub const NAME: &str = "quota";

    /// Starts the three on loopback and waits until the sentinel knows both servers.
    ///
    /// # Errors
    /// As [`Redis::start`], or they do not find each other.
    pub async fn start() -> anyhow::Result<Self> {
        let master = Redis::start().await?;
        let known = master.address();
        Self::watch(master, known).await
    }

    /// The same with a master that the sentinel, its replica and clients know under another address of its.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn watch(master: Redis, known: SocketAddr) -> anyhow::Result<Self> {
        let own = known;
        let (ip, port_of_master) = (own.ip().to_string(), own.port().to_string());
        let replica = Redis::start_with(&["--replicaof", &ip, &port_of_master]).await?;
        let dir = Rundir::new("argosy-sentinel")?;
        let address = SocketAddr::new(own.ip(), port()?);
        let name = Self::NAME;
        let config = dir.path().join("sentinel.conf");
        let text = format!(
            "bind {ip}\nport {port}\ndir {dir}\nsentinel monitor {name} {ip} {master} 1\n\
             sentinel down-after-milliseconds {name} 500\nsentinel failover-timeout {name} 2000\n",
            ip = own.ip(),
            port = address.port(),
            dir = dir.path().display(),
            master = own.port(),
        );
        std::fs::write(&config, text)?;
        let spec = Spec::new("sentinel", binary()?, dir.path())
            .arg(config)
            .arg("--sentinel");
        let sentinel = spec.start()?;
        let watched = Self {
            master,
            _replica: replica,
            _sentinel: sentinel,
            address,
            _dir: dir,
        };
        let knows = || async {
            let info = ask(address, "INFO sentinel\r\n").await?;
            anyhow::ensure!(info.contains("status=ok") && info.contains("slaves=1"), "{info}");
            anyhow::Ok(())
        };
        wait::until("the sentinel to know master and replica", BOUND, knows).await?;
        Ok(watched)
    }

    /// The sentinel's address.
    pub fn sentinel(&self) -> SocketAddr {
        self.address
    }

    /// Kills the master: the sentinel makes the replica the new one.
    pub fn kill_master(&mut self) {
        self.master.kill();
    }
}
