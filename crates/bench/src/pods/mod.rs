//! `bench pods`: pods that are created in a Kubernetes cluster at once, and what the agent and the Envoy of each would ask of
//! Argosy there: a token of the API server, a certificate of Citadel, configuration of Pilot over mutual TLS.
//!
//! No kubelet runs them: they are objects with an address. It does not install Argosy, and leaves what it made in its
//! namespace.

mod agent;
mod cluster;
mod services;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use futures::{StreamExt, TryStreamExt, stream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use self::agent::Mesh;
use self::cluster::Cluster;
use self::services::Services;
use crate::board::Board;
use crate::process::{milliseconds, quantile};
use crate::proxy::drive;

/// Requests to the API server at once.
const AT_ONCE: usize = 64;
/// Tokens, certificates and connections that are under way at once, of pods that start at the same time.
const STARTING: usize = 250;
/// Between two connections, as at first in the bootstrap of our Envoys.
const RECONNECT: Duration = Duration::from_millis(200);

/// Creates pods in a cluster where Argosy runs, and asks for what their proxies would
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// Pods, at most 5000
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=5_000))]
    pods: u32,
    /// Their namespace, which is there; what was made stays in it
    #[arg(long)]
    namespace: String,
    /// Citadel's address
    #[arg(long, value_name = "HOST:PORT")]
    citadel: String,
    /// Pilot's address, for mutual TLS
    #[arg(long, value_name = "HOST:PORT")]
    pilot: String,
    /// Changes of a VirtualService of these pods that are measured
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(0..=1_000))]
    changes: u32,
    /// Longest time for one step, in seconds
    #[arg(long, default_value_t = 300)]
    limit: u64,
}

pub(crate) async fn run(args: &Args) -> anyhow::Result<()> {
    let limit = Duration::from_secs(args.limit);
    let cluster = Cluster::connect(&args.namespace).await?;
    let before = Services::now()?;
    let mesh = cluster.roots();
    let roots = timeout(limit, mesh)
        .await
        .context("no roots in the namespace")??;
    let mesh = Arc::new(Mesh::new(&args.citadel, &args.pilot, &roots)?);
    cluster.service().await?;

    let began = Instant::now();
    let created = stream::iter(0..args.pods)
        .map(|number| cluster.pod(number))
        .buffer_unordered(AT_ONCE)
        .try_collect::<Vec<()>>();
    timeout(limit, created)
        .await
        .context("not all pods were created in time")??;
    println!(
        "{} pods created in {:.1} s",
        args.pods,
        began.elapsed().as_secs_f64()
    );

    let board = Arc::new(Board::new(false));
    let (began, mut proxies) = (Instant::now(), JoinSet::new());
    let started = stream::iter(0..args.pods)
        .map(|number| start(&cluster, &mesh, number))
        .buffer_unordered(STARTING)
        .try_for_each(|(agent, node)| {
            proxies.spawn(follow(agent, node, board.clone()));
            std::future::ready(Ok(()))
        });
    timeout(limit, started)
        .await
        .context("not all had a certificate in time")??;
    let certified = began.elapsed();
    let ready = board.all_ready(args.pods as usize);
    let (last, _) = timeout(limit, ready)
        .await
        .context("not all were configured in time")??;
    println!(
        "all have a certificate after {:.1} s, and their configuration after {:.1} s",
        certified.as_secs_f64(),
        last.duration_since(began).as_secs_f64()
    );
    println!("{}", Services::now()?.table(&before));
    changes(args, &cluster, &board, limit).await?;
    board.stop();
    while proxies.join_next().await.is_some() {}
    Ok(())
}

/// What a pod's agent does until its Envoy can be started; with the node's name.
async fn start(cluster: &Cluster, mesh: &Mesh, number: u32) -> anyhow::Result<(agent::Agent, String)> {
    let token = cluster.token(number).await?;
    let agent = mesh.agent(number, &token).await?;
    Ok((agent, cluster.node(number)))
}

/// What a pod's Envoy does: it connects again while Pilot does not know the pod yet.
async fn follow(agent: agent::Agent, node: String, board: Arc<Board>) {
    let run = async || drive::run(agent.channel()?, node.clone(), board.clone()).await;
    while let Err(error) = run().await {
        eprintln!("connecting again: {error:#}");
        sleep(RECONNECT).await;
    }
}

/// How long a change takes from the request to the API server to each proxy.
async fn changes(args: &Args, cluster: &Cluster, board: &Board, limit: Duration) -> anyhow::Result<()> {
    let (mut each, mut last) = (Vec::new(), Vec::new());
    for number in 0..args.changes {
        let mark = format!("change-{number}-of-{}", args.changes);
        board.expect_mark(&mark);
        let began = Instant::now();
        cluster.route(&mark).await?;
        let seen = timeout(limit, board.all_seen(args.pods as usize)).await;
        let seen = seen.context("not all proxies saw a change in time")??;
        each.extend(seen.iter().map(|at| at.duration_since(began)));
        last.extend(seen.last().map(|at| at.duration_since(began)));
    }
    if args.changes > 0 {
        println!(
            "a change, from the request to the API server to a proxy: {}; to the last of them: {}",
            quantiles(&mut each),
            quantiles(&mut last)
        );
    }
    Ok(())
}

fn quantiles(times: &mut [Duration]) -> String {
    times.sort();
    let of = |share| milliseconds(quantile(times, share));
    format!("p50 {:.0} ms, p99 {:.0} ms", of(0.5), of(0.99))
}
