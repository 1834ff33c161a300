//! `bench feed`: what Galley's way from a folder to its feed costs. It runs Galley's own folder, store and tables in this
//! process, without the network: what a change costs until it is at the door.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use galley::folder::Folder as Source;
use galley::store::Store;

use crate::folder::{Change, Folder, World, mark};
use crate::process::{Memory, milliseconds};

/// Measures Galley from a folder to a complete feed
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Objects, at most 20000
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    objects: u32,
    /// Endpoints of each, at most 64
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    endpoints: u32,
    /// Changes of one object that are measured
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    changes: u32,
}

/// Galley's way, as far as it needs no network.
struct Way {
    source: Source,
    store: Store,
    tables: ::feed::Tables,
    table: Arc<xds::Table>,
}

impl Way {
    fn new(root: &Path) -> Self {
        Self {
            source: Source::new(root),
            store: Store::default(),
            tables: ::feed::Tables::default(),
            table: Arc::default(),
        }
    }

    /// From the folder to the table that subscribers are served.
    fn take(&mut self) -> anyhow::Result<bool> {
        let changed = self.store.apply(self.source.scan()?);
        self.table = self.tables.update(&self.store.state().objects);
        Ok(changed)
    }
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let root = tempfile::tempdir()?;
    let world = World {
        services: args.objects,
        endpoints: args.endpoints,
        namespaces: 20,
        private: false,
    };
    let folder = Folder::create(root.path(), world)?;
    let before = Memory::of(std::process::id())?.resident;
    let began = Instant::now();
    let mut way = Way::new(root.path());
    way.take()?;
    let first = began.elapsed();
    let held = Memory::of(std::process::id())?.resident.saturating_sub(before);
    let served: usize = way.table.types().map(|(_, table)| table.len()).sum();
    anyhow::ensure!(
        served == args.objects as usize,
        "{served} objects are served, {} were written",
        args.objects
    );
    let mut times: Vec<Duration> = Vec::new();
    for number in 0..args.changes {
        folder.change(number * 7 % args.objects, Change::Endpoint(mark(number)))?;
        let began = Instant::now();
        anyhow::ensure!(way.take()?, "change {number} was not seen");
        times.push(began.elapsed());
    }
    times.sort();
    let quantile = |share: f64| {
        let at = ((times.len() as f64 * share).ceil() as usize).saturating_sub(1);
        milliseconds(times.get(at).copied().unwrap_or_default())
    };
    println!(
        "{} objects from a folder to a complete feed: {:.0} ms",
        args.objects,
        milliseconds(first)
    );
    println!(
        "memory of each held object (parsed and encoded): {:.2} kB",
        held as f64 / 1e3 / f64::from(args.objects)
    );
    println!(
        "one object's change, the whole folder looked at, to the table: p50 {:.2} ms, p99 {:.2} ms",
        quantile(0.5),
        quantile(0.99)
    );
    Ok(())
}
