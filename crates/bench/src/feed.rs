//! `bench feed`: what Galley costs, from a folder to a subscriber of its feed. Galley is a process of its own and serves over
//! mutual TLS; a subscriber in this process takes what a Pilot takes.

use std::time::{Duration, Instant};

use config::Kind;
use tokio::sync::mpsc;
use xds::client::Notice;

use crate::folder::{Change, Folder, World, mark};
use crate::galley::Galley;
use crate::process::{milliseconds, quantile};
use crate::sight::Sight;

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long Galley is left alone before its memory is looked at: analysis runs beside the feed.
const SETTLE: Duration = Duration::from_secs(3);
/// The kind that folders of measurements hold.
const KIND: Kind = Kind::ServiceEntry;

/// Measures Galley from a folder to a subscriber of its feed
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Objects, at most 20000
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    objects: u32,
    /// Endpoints of each, at most 64
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    endpoints: u32,
    /// Changes of one object that are measured
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    changes: u32,
    /// Milliseconds between two changes
    #[arg(long, default_value_t = 20)]
    pause: u64,
    /// Seconds without a change in which Galley's processor time is counted
    #[arg(long, default_value_t = 10)]
    idle: u64,
}

pub(crate) async fn run(args: &Args) -> anyhow::Result<()> {
    let empty = one_object(args).await?;
    let root = tempfile::tempdir()?;
    let folder = Folder::create(root.path(), world(args, args.objects))?;
    let galley = Galley::start(root.path(), None)?;
    let mut subscriber = galley.subscribe(&[KIND])?;
    let told = complete(&mut subscriber, args.objects as usize).await?;
    tokio::time::sleep(SETTLE).await;
    let held = galley.memory()?;
    println!(
        "{} objects from the start of the process to a complete feed at its subscriber: {:.0} ms",
        args.objects,
        milliseconds(told - galley.started)
    );
    println!(
        "memory of a held object, all of Galley: {:.2} kB ({:.1} MB, {:.1} MB with one object; peak {:.1} MB)",
        (held.resident.saturating_sub(empty)) as f64 / 1e3 / f64::from(args.objects),
        held.resident as f64 / 1e6,
        empty as f64 / 1e6,
        held.peak as f64 / 1e6
    );
    idle(&galley, args.idle).await?;
    // One that connects and never reads must not be waited for, nor cost memory with each change.
    let silent = galley.subscribe(&[KIND])?;
    let sight = Sight::of(root.path())?;
    changes(args, &galley, &folder, &sight, &mut subscriber).await?;
    let after = galley.memory()?.resident;
    println!(
        "memory after the changes, with a second subscriber that reads nothing: {:.1} MB, {:+.1} MB",
        after as f64 / 1e6,
        (after as f64 - held.resident as f64) / 1e6
    );
    drop(silent);
    Ok(())
}

fn world(args: &Args, services: u32) -> World {
    World {
        services,
        endpoints: args.endpoints,
        namespaces: 20,
        private: false,
    }
}

/// Memory of a Galley that holds one object.
async fn one_object(args: &Args) -> anyhow::Result<u64> {
    let root = tempfile::tempdir()?;
    Folder::create(root.path(), world(args, 1))?;
    let galley = Galley::start(root.path(), None)?;
    complete(&mut galley.subscribe(&[KIND])?, 1).await?;
    tokio::time::sleep(SETTLE).await;
    Ok(galley.memory()?.resident)
}

/// Waits for a complete first state of so many objects; when it was there.
async fn complete(subscriber: &mut mpsc::Receiver<Notice>, objects: usize) -> anyhow::Result<Instant> {
    let mut seen = 0;
    let receiving = async {
        while let Some(notice) = subscriber.recv().await {
            let Notice::Update(update) = notice else { continue };
            seen += update.upserts.len();
            if update.complete {
                anyhow::ensure!(seen == objects, "{seen} objects came, {objects} were written");
                return Ok(Instant::now());
            }
        }
        anyhow::bail!("the subscriber ended")
    };
    tokio::time::timeout(PATIENCE, receiving).await?
}

async fn idle(galley: &Galley, seconds: u64) -> anyhow::Result<()> {
    let (before, start) = (galley.cpu()?, Instant::now());
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let spent = galley.cpu()?.since(&before).as_secs_f64();
    println!(
        "idle: {:.2} % of a processor",
        spent / start.elapsed().as_secs_f64() * 100.0
    );
    Ok(())
}

/// Changes one object after the other, and takes the time from the renaming of its file to its arrival, and from the moment at
/// which a watcher of the folder has seen that.
async fn changes(
    args: &Args,
    galley: &Galley,
    folder: &Folder,
    sight: &Sight,
    subscriber: &mut mpsc::Receiver<Notice>,
) -> anyhow::Result<()> {
    let (mut whole, mut own) = (Vec::new(), Vec::new());
    let before = galley.cpu()?;
    for number in 0..args.changes {
        tokio::time::sleep(Duration::from_millis(args.pause)).await;
        let address = mark(number);
        let began = Instant::now();
        folder.change(number * 7 % args.objects, Change::Endpoint(address))?;
        arrival(subscriber, &address.to_string()).await?;
        let end = Instant::now();
        whole.push(end - began);
        // The feed may be faster than this process' own watcher.
        own.push(
            sight
                .take()
                .map_or(Duration::ZERO, |seen| end.saturating_duration_since(seen)),
        );
    }
    let spent = galley.cpu()?.since(&before);
    println!(
        "one object's change, from its file to the subscriber: {}; processor time {:.2} ms a change",
        quantiles(whole),
        milliseconds(spent) / f64::from(args.changes)
    );
    println!("one object's change, after the source saw it: {}", quantiles(own));
    Ok(())
}

fn quantiles(mut times: Vec<Duration>) -> String {
    times.sort();
    let quantile = |share| milliseconds(quantile(&times, share));
    format!(
        "p50 {:.2} ms, p99 {:.2} ms, longest {:.2} ms",
        quantile(0.5),
        quantile(0.99),
        quantile(1.0)
    )
}

/// Waits for an object that contains a text.
async fn arrival(subscriber: &mut mpsc::Receiver<Notice>, text: &str) -> anyhow::Result<()> {
    let has = |bytes: &[u8]| bytes.windows(text.len()).any(|part| part == text.as_bytes());
    let receiving = async {
        while let Some(notice) = subscriber.recv().await {
            if let Notice::Update(update) = notice
                && update.upserts.iter().any(|each| has(&each.bytes))
            {
                return Ok(());
            }
        }
        anyhow::bail!("the subscriber ended")
    };
    tokio::time::timeout(PATIENCE, receiving).await?
}
