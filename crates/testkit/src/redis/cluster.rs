//! A cluster of three masters, each with a replica.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use super::{Redis, ask};
use crate::tls::Authority;
use crate::wait;

/// How long the nodes may take to agree.
const BOUND: Duration = Duration::from_secs(60);
/// Masters.
const MASTERS: usize = 3;
/// Slots of a cluster (redis.io, "Redis cluster specification").
const SLOTS: usize = 16_384;

/// A running cluster. Dropped, its nodes end.
#[derive(Debug)]
pub struct Cluster {
    /// The masters, and then a replica of each.
    nodes: Vec<Redis>,
}

impl Cluster {
    /// Starts the nodes on loopback and waits until they agree.
    ///
    /// # Errors
    /// As [`Redis::start`], or the nodes do not agree.
    pub async fn start() -> anyhow::Result<Self> {
        let cluster = Self::apart().await?;
        cluster.join().await?;
        Ok(cluster)
    }

    /// The same with nodes that each other and clients know by an end of TLS before each, of this authority.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_behind(authority: &Authority) -> anyhow::Result<(Self, Vec<SocketAddr>)> {
        let mut cluster = Self::apart().await?;
        let mut fronts = Vec::new();
        for node in &mut cluster.nodes {
            let front = authority.front(node.address()).await?;
            // A node that runs would go on naming the old port of itself.
            node.restart_with("--cluster-announce-port", front.port()).await?;
            fronts.push(front);
        }
        cluster.join().await?;
        Ok((cluster, fronts))
    }

    /// The nodes, which do not know of each other.
    async fn apart() -> anyhow::Result<Self> {
        let arguments = [
            "--cluster-enabled",
            "yes",
            "--cluster-node-timeout",
            "1000",
            "--cluster-require-full-coverage",
            "no",
        ];
        let mut nodes = Vec::new();
        for _ in 0..2 * MASTERS {
            nodes.push(Redis::start_with(&arguments).await?);
        }
        Ok(Self { nodes })
    }

    /// The addresses of all nodes, masters first.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(Redis::address).collect()
    }

    /// Kills the first master that holds a key.
    ///
    /// # Errors
    /// None holds one.
    pub async fn kill_a_master_with_keys(&mut self) -> anyhow::Result<()> {
        for node in self.nodes.iter_mut().take(MASTERS) {
            if !ask(node.address(), "DBSIZE\r\n").await?.starts_with(":0") {
                node.kill();
                return Ok(());
            }
        }
        anyhow::bail!("no master holds a key")
    }

    async fn join(&self) -> anyhow::Result<()> {
        let addresses = self.addresses();
        let (masters, replicas) = addresses.split_at(MASTERS);
        for (i, address) in masters.iter().enumerate() {
            let slots: Vec<usize> = (0..SLOTS).filter(|slot| slot * MASTERS / SLOTS == i).collect();
            told(*address, &add_slots(&slots)).await?;
        }
        let first = addresses.first().copied().into_iter();
        for first in first {
            for other in addresses.iter().skip(1) {
                let meet = format!("CLUSTER MEET {} {}\r\n", other.ip(), other.port());
                told(first, &meet).await?;
            }
        }
        agree(&addresses, &format!("cluster_known_nodes:{}", addresses.len())).await?;
        for (master, replica) in masters.iter().zip(replicas) {
            let id = ask(*master, "CLUSTER MYID\r\n").await?;
            let id = id.lines().nth(1).unwrap_or_default().to_owned();
            told(*replica, &format!("CLUSTER REPLICATE {id}\r\n")).await?;
        }
        agree(&addresses, "cluster_state:ok").await?;
        for replica in replicas {
            let linked = || async {
                let info = ask(*replica, "INFO replication\r\n").await?;
                anyhow::ensure!(info.contains("master_link_status:up"), "{info}");
                anyhow::Ok(())
            };
            wait::until("the replica to follow", BOUND, linked).await?;
        }
        Ok(())
    }
}

/// A command that is too long for a line.
fn add_slots(slots: &[usize]) -> String {
    let mut command = format!("*{}\r\n$7\r\nCLUSTER\r\n$8\r\nADDSLOTS\r\n", slots.len() + 2);
    for slot in slots {
        let slot = slot.to_string();
        // Writing to a String cannot fail.
        let _ = write!(command, "${}\r\n{slot}\r\n", slot.len());
    }
    command
}

async fn told(address: SocketAddr, command: &str) -> anyhow::Result<()> {
    let answer = ask(address, command).await?;
    anyhow::ensure!(answer.starts_with("+OK"), "{answer}");
    Ok(())
}

async fn agree(addresses: &[SocketAddr], line: &str) -> anyhow::Result<()> {
    for address in addresses {
        let agrees = || async {
            let info = ask(*address, "CLUSTER INFO\r\n").await?;
            anyhow::ensure!(info.contains(line), "{info}");
            anyhow::Ok(())
        };
        wait::until("the cluster to agree", BOUND, agrees).await?;
    }
    Ok(())
}
