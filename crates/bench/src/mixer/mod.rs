//! `bench mixer`: what a request costs through a real Envoy: alone, with a rule that the proxy decides, with an ext_authz server
//! that always says yes, and with Mixer; and what reports cost Mixer. All share this machine, so the ratios count.

mod envoy;
mod load;
mod reports;
mod rules;
pub(crate) mod server;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use runtime::tls::{self, Expected};
use runtime::{Identity, grpc};

use self::envoy::{Envoy, Variant, asks, compiled};
use self::load::Seen;
use crate::galley::Authority;
use crate::process::megabytes;
use crate::server::{Server, free_port};

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
    let objects = folder.path().join("objects.yaml");
    std::fs::write(&objects, rules::yaml(args.rules))?;
    let mixer = start(folder.path(), Some(&objects))?;
    let yes = start(folder.path(), None)?;
    let catalog = authority.workload("shop", rules::CATALOG.0)?;

    let variants = [
        variant("Envoy alone", Vec::new())?,
        variant("a compiled rule", compiled())?,
        variant("a server that says yes", asks("yes"))?,
        variant("Mixer", asks("mixer"))?,
    ];
    let clusters = [("mixer", mixer.address), ("yes", yes.address)];
    let proxy = Envoy::start(&args.envoy, folder.path(), &catalog, clusters, &variants)?;
    let seen = rounds(args, &variants).await?;
    println!(
        "{} requests a second, {} rules; the median of {} rounds of {} s (with their range)",
        args.rate, args.rules, args.rounds, args.seconds
    );
    let medians: Vec<Seen> = seen.iter().map(|rounds| median(rounds)).collect();
    for ((variant, rounds), own) in variants.iter().zip(&seen).zip(&medians) {
        show(variant.name, rounds, own, &medians);
    }
    let calls = |cluster: &str| proxy.counter(&format!("cluster.{cluster}.upstream_rq_total"));
    let sent = |index: usize| {
        seen.get(index)
            .map_or(0, |rounds| rounds.iter().map(|seen| seen.count).sum())
    };
    let (asked, requests): (u64, usize) = (calls("mixer")? + calls("yes")?, sent(2) + sent(3));
    println!(
        "calls: {asked} for {requests} measured requests (and those of a round before) of the two variants that ask, none for {} of the others",
        sent(0) + sent(1)
    );
    cost(args, &mixer, Identity::fixed(catalog)).await
}

fn variant(name: &'static str, filters: Vec<serde_json::Value>) -> anyhow::Result<Variant> {
    let at = free_port()?;
    Ok(Variant { name, at, filters })
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
async fn rounds(args: &Args, variants: &[Variant]) -> anyhow::Result<Vec<Vec<Seen>>> {
    let mut seen: Vec<Vec<Seen>> = vec![Vec::new(); variants.len()];
    for variant in variants {
        load::measure(variant.at, args.rate, 1).await?;
    }
    for _ in 0..args.rounds {
        for (variant, seen) in variants.iter().zip(&mut seen) {
            seen.push(load::measure(variant.at, args.rate, args.seconds).await?);
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

/// One variant, beside Envoy alone and the server that says yes.
fn show(name: &str, rounds: &[Seen], own: &Seen, all: &[Seen]) {
    let least = rounds
        .iter()
        .map(|seen| seen.average)
        .fold(f64::INFINITY, f64::min);
    let most = rounds.iter().map(|seen| seen.average).fold(0.0, f64::max);
    let ratio = |index: usize| {
        let base = all.get(index).copied().unwrap_or(*own);
        format!("{:.2} / {:.2}", own.average / base.average, own.p99 / base.p99)
    };
    println!(
        "{name:24} average {:.3} ms ({least:.3} to {most:.3}), median {:.3} ms, p99 {:.3} ms; average / p99 of Envoy alone {}, of yes {}",
        own.average,
        own.median,
        own.p99,
        ratio(0),
        ratio(2)
    );
}

async fn cost(args: &Args, mixer: &Server, catalog: Identity) -> anyhow::Result<()> {
    let connector = tls::connector(&catalog, Expected::Any)?;
    for round in ["first", "again"] {
        let channel = grpc::channel(&SocketAddr::to_string(&mixer.address), Some(connector.clone()))?;
        let time = Duration::from_secs(args.seconds);
        let cost = reports::measure(channel, mixer.pid(), args.reports, time).await?;
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
