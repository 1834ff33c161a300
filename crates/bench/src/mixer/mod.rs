//! `bench mixer`: what a request costs through a real Envoy as Pilot configures it: alone, with a rule that the proxy decides, with
//! checks and quotas of a server that always says yes, and with Mixer's; and what reports cost Mixer. All share this machine, so
//! the ratios count. Each request of a variant that asks is one call and each of another none, by Envoy's counters, or it fails.

mod application;
mod envoy;
mod generated;
mod load;
mod record;
mod reports;
mod rules;
pub(crate) mod server;
mod variant;

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use envoy_types::pb::envoy::service::accesslog::v3::StreamAccessLogsMessage;
use runtime::tls::{self, Expected};
use runtime::{Identity, grpc};

use self::envoy::Envoy;
use self::load::Seen;
use self::record::Recorder;
use self::variant::{Places, Variant};
use crate::galley::Authority;
use crate::process::megabytes;
use crate::server::Server;

/// Requests a second of which reports are recorded.
const RECORDED: u32 = 2_000;

/// Measures Mixer beside an Envoy
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Requests a second
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(16..=50_000))]
    rate: u32,
    /// Seconds of load for each variant and round
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Rounds, in each of which the variants take turns
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Rules that Mixer decides by
    #[arg(long, default_value_t = 20)]
    rules: usize,
    /// Reports a second
    #[arg(long, default_value_t = 10_000)]
    reports: usize,
    /// Envoy
    #[arg(long, env = "ENVOY_BIN", value_name = "FILE")]
    envoy: PathBuf,
}

pub(crate) async fn run(args: &Args) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let authority = Authority::new()?;
    authority.save("mixer", &[], folder.path())?;
    let ports = ports()?;
    let application = application::start().await?;
    let objects = folder.path().join("objects.yaml");
    std::fs::write(&objects, everything(args, &ports, application))?;
    let mixer = start(folder.path(), Some(&objects))?;
    let yes = start(folder.path(), None)?;
    let (recorder, recording, context) = Recorder::serve(authority.svid("mixer", &[])?).await?;
    let places = Places {
        ports: &ports,
        application,
        mixer: mixer.address,
        yes: yes.address,
        recorder: recording,
        folder: folder.path(),
    };
    let (mut variants, listeners) = variant::all(&places, args.rules)?;
    let catalog = authority.workload("shop", rules::CATALOG.0)?;
    let proxy = Envoy::start(&args.envoy, folder.path(), &catalog, listeners)?;

    let told = variants.pop().context("no variant reports")?;
    let seen = rounds(args, &proxy, &variants).await?;
    println!(
        "{} requests a second, {} rules; the median of {} rounds of {} s (with their range)",
        args.rate, args.rules, args.rounds, args.seconds
    );
    let medians: Vec<Seen> = seen.iter().map(|rounds| median(rounds)).collect();
    for ((variant, rounds), own) in variants.iter().zip(&seen).zip(&medians) {
        show(variant, rounds, own, &medians);
    }
    let messages = record(&told, &recorder).await?;
    context.shutdown.cancel();
    drop(proxy);
    cost(args, &mixer, Identity::fixed(catalog), &messages).await
}

/// Ports of the proxy's listeners.
fn ports() -> anyhow::Result<Vec<u16>> {
    // Held together, so that they are different ones.
    let held: Result<Vec<_>, _> = (0..variant::PORTS)
        .map(|_| TcpListener::bind((rules::CATALOG.1, 0)))
        .collect();
    let ports: Result<Vec<u16>, _> = held?
        .iter()
        .map(|held| held.local_addr().map(|a| a.port()))
        .collect();
    Ok(ports?)
}

/// What Mixer has in force: all that any variant asks about.
fn everything(args: &Args, ports: &[u16], application: SocketAddr) -> String {
    let mesh = rules::mesh(ports, application.port());
    [
        mesh.as_str(),
        &rules::checks(args.rules),
        rules::QUOTA,
        rules::METRIC,
    ]
    .concat()
}

/// Reports as Envoy sends them, of each user at least once.
async fn record(told: &Variant, recorder: &Recorder) -> anyhow::Result<Vec<StreamAccessLogsMessage>> {
    // As many a second as fill batches before Envoy sends them all the same.
    let seen = load::measure(told.at, RECORDED, 4).await?;
    anyhow::ensure!(
        seen.count >= rules::USERS,
        "only {} requests for the reports",
        seen.count
    );
    let end = Instant::now() + Duration::from_secs(30);
    while recorder.count() < seen.count {
        anyhow::ensure!(
            Instant::now() < end,
            "Envoy reports {} of {} requests",
            recorder.count(),
            seen.count
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(recorder.take())
}

fn start(folder: &Path, objects: Option<&Path>) -> anyhow::Result<Server> {
    let text = |path: &Path| path.to_str().map(str::to_owned).context("a path that is no text");
    let identity = text(folder)?;
    let mut arguments = vec!["mixer-server", "--listen", "{}", "--identity", &identity];
    let objects = objects.map(text).transpose()?;
    if let Some(objects) = &objects {
        arguments.extend(["--config", objects]);
    }
    let log = if objects.is_some() { "mixer.log" } else { "yes.log" };
    Server::own(&arguments, &folder.join(log))
}

/// The rounds of each variant, after one that does not count.
async fn rounds(args: &Args, proxy: &Envoy, variants: &[Variant]) -> anyhow::Result<Vec<Vec<Seen>>> {
    let mut seen: Vec<Vec<Seen>> = vec![Vec::new(); variants.len()];
    for variant in variants {
        variant.measure(proxy, args.rate, 1).await?;
    }
    for _ in 0..args.rounds {
        for (variant, seen) in variants.iter().zip(&mut seen) {
            seen.push(variant.measure(proxy, args.rate, args.seconds).await?);
        }
    }
    Ok(seen)
}

/// Each figure's median over the rounds.
fn median(rounds: &[Seen]) -> Seen {
    let of = |figure: fn(&Seen) -> f64| {
        let mut all: Vec<f64> = rounds.iter().map(figure).collect();
        all.sort_by(f64::total_cmp);
        all.get(all.len() / 2).copied().unwrap_or_default()
    };
    Seen {
        count: rounds.iter().map(|seen| seen.count).sum(),
        average: of(|seen| seen.average),
        median: of(|seen| seen.median),
        p99: of(|seen| seen.p99),
    }
}

/// One variant, beside Envoy alone and beside its floor.
fn show(variant: &Variant, rounds: &[Seen], own: &Seen, all: &[Seen]) {
    let least = rounds
        .iter()
        .map(|seen| seen.average)
        .fold(f64::INFINITY, f64::min);
    let most = rounds.iter().map(|seen| seen.average).fold(0.0, f64::max);
    let ratio = |index: usize| {
        let base = all.get(index).copied().unwrap_or(*own);
        format!("{:.2} / {:.2}", own.average / base.average, own.p99 / base.p99)
    };
    let calls = if variant.asks() { own.count } else { 0 };
    println!(
        "{:20} average {:.3} ms ({least:.3} to {most:.3}), median {:.3} ms, p99 {:.3} ms; average / p99 of Envoy alone {}, of its floor {}; {calls} calls for {} requests",
        variant.name,
        own.average,
        own.median,
        own.p99,
        ratio(0),
        ratio(variant.floor),
        own.count
    );
}

/// What Mixer needs for reports.
async fn cost(
    args: &Args,
    mixer: &Server,
    catalog: Identity,
    messages: &[StreamAccessLogsMessage],
) -> anyhow::Result<()> {
    let all: usize = messages.iter().map(reports::entries).sum();
    println!("reports: {all} of a real Envoy, in {} messages", messages.len());
    let connector = tls::connector(&catalog, Expected::Any)?;
    for round in ["first", "again"] {
        let channel = grpc::channel(&SocketAddr::to_string(&mixer.address), Some(connector.clone()))?;
        let time = Duration::from_secs(args.seconds);
        let cost = reports::measure(channel, mixer.pid(), messages.to_vec(), args.reports, time).await?;
        println!(
            "reports ({round}): {:.0} a second take Mixer {:.2} of a processor; its memory {:.1} MB before, {:.1} MB after ({} series)",
            cost.rate,
            cost.share,
            megabytes(cost.memory.0),
            megabytes(cost.memory.1),
            rules::USERS,
        );
    }
    Ok(())
}
