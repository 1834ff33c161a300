//! `bench ads`: simulated proxies against an ADS server, and against the floor with the same bytes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::board::Board;
use crate::folder::{Change, Folder, World, mark};
use crate::process::{Cpu, Memory, megabytes, milliseconds, quantile};
use crate::proxy::drive;
use crate::server::{self, Server};

/// What is visible to a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Visible {
    /// All services.
    All,
    /// Those of its own namespace.
    Namespace,
}

/// Measures an ADS server with simulated proxies
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// Proxies, at most 5000
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=5_000))]
    pub(crate) proxies: u32,
    /// Services, at most 20000
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub(crate) services: u32,
    /// Endpoints of each service, at most 64
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) endpoints: u32,
    /// Namespaces that services and proxies are spread over
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) namespaces: u32,
    /// Which services a proxy sees
    #[arg(long, value_enum, default_value_t = Visible::All)]
    pub(crate) scope: Visible,
    /// Changes of each kind that are measured
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(0..=1_000))]
    pub(crate) changes: u32,
    /// Measure this server instead of starting `argosy run`; its folder is not known, so nothing is changed
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) address: Option<String>,
    /// Process whose processor time and memory are the server's, with --address
    #[arg(long, requires = "address")]
    pub(crate) pid: Option<u32>,
    /// The argosy binary; the one beside this unless given
    #[arg(long, value_name = "FILE")]
    pub(crate) argosy: Option<PathBuf>,
    /// Longest time for one step
    #[arg(long, default_value_t = 120, value_name = "SECONDS")]
    pub(crate) limit: u64,
    /// Folder for configuration and logs; a temporary one unless given
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
}

/// From nothing to configured.
#[derive(Debug, Clone, Default)]
pub(crate) struct Start {
    pub(crate) ready: Duration,
    pub(crate) cpu_per_proxy: Duration,
    pub(crate) idle: Memory,
    pub(crate) memory: Memory,
    pub(crate) bytes_per_proxy: u64,
    pub(crate) resources_per_proxy: u64,
}

/// Changes of one kind.
#[derive(Debug, Clone, Default)]
pub(crate) struct Changes {
    pub(crate) kind: &'static str,
    /// From the file's change to the last proxy, in order.
    pub(crate) last: Vec<Duration>,
    /// Of the server, for each change.
    pub(crate) cpu: Duration,
    /// Responses to all proxies for each change.
    pub(crate) responses: f64,
    /// Bytes to all proxies for each change.
    pub(crate) bytes: f64,
}

impl Changes {
    pub(crate) fn quantile(&self, share: f64) -> Duration {
        quantile(&self.last, share)
    }
}

/// All figures of one run.
#[derive(Debug, Clone, Default)]
pub(crate) struct Figures {
    pub(crate) server: Start,
    pub(crate) floor: Start,
    pub(crate) changes: Vec<Changes>,
    /// Share of a core that the idle server takes.
    pub(crate) idle_cpu: f64,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let figures = measure(&args).await?;
    print(&args, &figures);
    Ok(())
}

/// Measures as the flags say.
pub(crate) async fn measure(args: &Args) -> anyhow::Result<Figures> {
    let temporary = tempfile::tempdir()?;
    let root = args.dir.clone().unwrap_or_else(|| temporary.path().to_owned());
    match &args.address {
        Some(address) => {
            let load = Load::new(args, address.clone(), args.pid);
            let (server, recorded) = load.start().await?;
            let floor = floor(args, &root, &recorded).await?;
            Ok(Figures {
                server,
                floor,
                ..Figures::default()
            })
        }
        None => own(args, &root).await,
    }
}

async fn own(args: &Args, root: &Path) -> anyhow::Result<Figures> {
    let config = root.join("config");
    let world = World {
        services: args.services,
        endpoints: args.endpoints,
        namespaces: args.namespaces,
        private: args.scope == Visible::Namespace,
    };
    let folder = Folder::create(&config, world)?;
    let binary = server::argosy_binary(args.argosy.clone())?;
    let argosy = Server::argosy(&binary, &config)?;
    let load = Load::new(args, argosy.address.to_string(), Some(argosy.pid()));
    let (server, recorded) = load.start().await?;
    sleep(Duration::from_secs(1)).await;
    let before = Cpu::of(argosy.pid())?;
    sleep(Duration::from_secs(2)).await;
    let idle_cpu = Cpu::of(argosy.pid())?.since(&before).as_secs_f64() / 2.0;
    let changes = load.changes(&folder, argosy.pid()).await?;
    load.stop();
    drop(argosy);
    let floor = floor(args, root, &recorded).await?;
    Ok(Figures {
        server,
        floor,
        changes,
        idle_cpu,
    })
}

async fn floor(args: &Args, root: &Path, recorded: &[Bytes]) -> anyhow::Result<Start> {
    let file = root.join("recorded");
    crate::floor::save(&file, recorded)?;
    let path = file.to_str().context("the folder's name is not UTF-8")?;
    let arguments = ["floor-server", "--recorded", path, "--listen", "{}"];
    let floor = Server::own(&arguments, &root.join("floor.log"))?;
    let load = Load::new(args, floor.address.to_string(), Some(floor.pid()));
    let (start, _) = load.start().await?;
    load.stop();
    Ok(start)
}

/// Proxies against one server.
struct Load {
    args: Args,
    address: String,
    pid: Option<u32>,
    board: Arc<Board>,
}

impl Load {
    fn new(args: &Args, address: String, pid: Option<u32>) -> Self {
        Self {
            args: args.clone(),
            address,
            pid,
            board: Arc::new(Board::new(false)),
        }
    }

    fn stop(&self) {
        self.board.stop();
    }

    fn node(&self, number: u32) -> String {
        let namespace = format!("ns-{:02}", number % self.args.namespaces);
        let [_, high, middle, low] = number.to_be_bytes();
        format!(
            "sidecar~10.{}.{middle}.{low}~proxy-{number}.{namespace}~{namespace}.svc.cluster.local",
            200 + high % 50
        )
    }

    /// Connects one proxy to record what it gets and warm the server up, then all, and waits until they have everything.
    async fn start(&self) -> anyhow::Result<(Start, Vec<Bytes>)> {
        let recorded = self.record().await?;
        let idle = self.memory()?;
        let before = self.cpu()?;
        let began = Instant::now();
        self.connect(0..self.args.proxies, &self.board);
        let (last, tallies) = self
            .limited(self.board.all_ready(self.args.proxies as usize))
            .await?;
        let ready = last - began;
        // The last acknowledgements are the server's work too.
        sleep(Duration::from_millis(200)).await;
        let spent = self
            .cpu()?
            .zip(before)
            .map(|(after, before)| after.since(&before));
        let count = u64::from(self.args.proxies);
        let start = Start {
            ready,
            cpu_per_proxy: spent.unwrap_or_default() / self.args.proxies,
            idle,
            memory: self.memory()?,
            bytes_per_proxy: tallies.iter().map(|tally| tally.bytes).sum::<u64>() / count,
            resources_per_proxy: tallies.iter().map(|tally| tally.resources).sum::<u64>() / count,
        };
        Ok((start, recorded))
    }

    async fn record(&self) -> anyhow::Result<Vec<Bytes>> {
        let board = Arc::new(Board::new(true));
        self.connect(0..1, &board);
        self.limited(board.all_ready(1)).await?;
        board.stop();
        Ok(board.recorded())
    }

    fn connect(&self, numbers: std::ops::Range<u32>, board: &Arc<Board>) {
        let mut proxies = JoinSet::new();
        for number in numbers {
            let (address, node, board) = (self.address.clone(), self.node(number), board.clone());
            proxies.spawn(async move {
                let run = async { drive::run(drive::connect(&address).await?, node, board.clone()).await };
                if let Err(error) = run.await {
                    board.fail(format!("{error:#}"));
                }
            });
        }
        proxies.detach_all();
    }

    async fn changes(&self, folder: &Folder, server: u32) -> anyhow::Result<Vec<Changes>> {
        if self.args.changes == 0 {
            return Ok(Vec::new());
        }
        let seers = |service: u32| match self.args.scope {
            Visible::All => self.args.proxies,
            Visible::Namespace => {
                let namespace = service % self.args.namespaces;
                (0..self.args.proxies)
                    .filter(|number| number % self.args.namespaces == namespace)
                    .count() as u32
            }
        };
        let mut all = Vec::new();
        for (at, kind) in (0..).zip(["endpoint", "host", "annotation"]) {
            let mut changes = Changes {
                kind,
                ..Changes::default()
            };
            let before = Cpu::of(server)?;
            let (responses, bytes) = self.board.received();
            for number in 0..self.args.changes {
                // Another service for each kind: what one left behind is not the next one's change.
                let service = (number * 7 + at) % folder.world.services;
                let (change, marker) = match kind {
                    "endpoint" => (Change::Endpoint(mark(number)), format!("{}", mark(number))),
                    "host" => (Change::Host(number), format!("other-{number}.svc")),
                    _ => (Change::Annotation(number), String::new()),
                };
                if marker.is_empty() {
                    folder.change(service, change)?;
                } else {
                    self.board.expect_mark(&marker);
                    let began = Instant::now();
                    folder.change(service, change)?;
                    let seen = self.limited(self.board.all_seen(seers(service) as usize)).await?;
                    changes.last.extend(seen.last().map(|last| *last - began));
                }
                sleep(Duration::from_millis(150)).await;
            }
            sleep(Duration::from_millis(500)).await;
            changes.last.sort();
            let count = f64::from(self.args.changes);
            changes.cpu = Cpu::of(server)?.since(&before) / self.args.changes;
            let (more, most) = self.board.received();
            changes.responses = (more - responses) as f64 / count;
            changes.bytes = (most - bytes) as f64 / count;
            all.push(changes);
        }
        Ok(all)
    }

    fn cpu(&self) -> anyhow::Result<Option<Cpu>> {
        self.pid.map(Cpu::of).transpose()
    }

    fn memory(&self) -> anyhow::Result<Memory> {
        Ok(self.pid.map(Memory::of).transpose()?.unwrap_or_default())
    }

    async fn limited<T>(&self, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
        let limit = Duration::from_secs(self.args.limit);
        timeout(limit, work)
            .await
            .with_context(|| format!("not done after {limit:?}"))?
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The figures of one run, for people.
pub(crate) fn print(args: &Args, figures: &Figures) {
    let (server, floor) = (&figures.server, &figures.floor);
    println!(
        "{} proxies, {} services of {} endpoints, scope {:?}",
        args.proxies, args.services, args.endpoints, args.scope
    );
    println!("{:34} {:>10} {:>10} {:>7}", "", "server", "floor", "ratio");
    let row = |name: &str, one: f64, other: f64| {
        println!(
            "{name:34} {one:10.2} {other:10.2} {:7.2}",
            one / other.max(f64::MIN_POSITIVE)
        );
    };
    row(
        "all ready, ms",
        milliseconds(server.ready),
        milliseconds(floor.ready),
    );
    row(
        "CPU per proxy, ms",
        milliseconds(server.cpu_per_proxy),
        milliseconds(floor.cpu_per_proxy),
    );
    row(
        "memory before, MB",
        megabytes(server.idle.resident),
        megabytes(floor.idle.resident),
    );
    row(
        "memory after, MB",
        megabytes(server.memory.resident),
        megabytes(floor.memory.resident),
    );
    row(
        "peak memory, MB",
        megabytes(server.memory.peak),
        megabytes(floor.memory.peak),
    );
    row(
        "configuration per proxy, MB",
        megabytes(server.bytes_per_proxy),
        megabytes(floor.bytes_per_proxy),
    );
    println!(
        "resources per proxy {}; idle CPU {:.2} % of a core",
        server.resources_per_proxy,
        figures.idle_cpu * 100.0
    );
    for changes in &figures.changes {
        println!(
            "{} change at the last proxy: p50 {:.1} ms, p99 {:.1} ms; CPU {:.2} ms, {:.1} responses, {:.1} kB per change",
            changes.kind,
            milliseconds(changes.quantile(0.5)),
            milliseconds(changes.quantile(0.99)),
            milliseconds(changes.cpu),
            changes.responses,
            changes.bytes / 1e3,
        );
    }
}
