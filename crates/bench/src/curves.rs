//! `bench curves`: how time, processor time and memory grow, as pictures and as rows of a table.

use std::path::{Path, PathBuf};

use crate::ads::{self, Figures};
use crate::process::{megabytes, milliseconds};
use crate::svg::{Chart, Line};

/// Which figure a line shows.
type Pick = fn(&Figures) -> f64;

/// Draws growth curves: by proxies at 1000 services, and by services at few proxies
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// Folder for the pictures
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Numbers of proxies
    #[arg(long, value_delimiter = ',', default_values_t = [10, 50, 100, 200, 500])]
    proxies: Vec<u32>,
    /// Numbers of services
    #[arg(long, value_delimiter = ',', default_values_t = [100, 300, 1_000, 3_000, 10_000])]
    services: Vec<u32>,
    /// Changes of each kind in each run
    #[arg(long, default_value_t = 10)]
    changes: u32,
    /// The argosy binary; the one beside this unless given
    #[arg(long, value_name = "FILE")]
    argosy: Option<PathBuf>,
}

impl Args {
    fn of(&self, proxies: u32, services: u32) -> ads::Args {
        ads::Args {
            proxies,
            services,
            endpoints: 2,
            namespaces: 10,
            scope: ads::Visible::All,
            changes: self.changes,
            address: None,
            pid: None,
            argosy: self.argosy.clone(),
            limit: 300,
            dir: None,
        }
    }
}

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    std::fs::create_dir_all(&args.out)?;
    let by_proxies = measure(
        args.proxies
            .iter()
            .map(|proxies| (*proxies, args.of(*proxies, 1_000))),
    )
    .await?;
    let by_services = measure(
        args.services
            .iter()
            .map(|services| (*services, args.of(10, *services))),
    )
    .await?;
    let proxies = "proxies (1000 services of two endpoints, all visible)";
    let services = "services of two endpoints (10 proxies, all visible)";
    let lines = |points: &[(f64, Figures)], pick: &[(&'static str, Pick)]| {
        let line = |(name, of): &(&'static str, Pick)| Line {
            name,
            points: points.iter().map(|(x, figures)| (*x, of(figures))).collect(),
        };
        pick.iter().map(line).collect::<Vec<_>>()
    };
    let pictures = [
        (
            "ready",
            "Time until all proxies are ready",
            proxies,
            "ms",
            lines(&by_proxies, &[("Argosy", ready), ("floor", floor_ready)]),
        ),
        (
            "memory",
            "Peak memory of the whole control plane",
            proxies,
            "MB",
            lines(&by_proxies, &[("Argosy", peak), ("floor", floor_peak)]),
        ),
        (
            "cpu",
            "Processor time per proxy to its first configuration",
            proxies,
            "ms",
            lines(&by_proxies, &[("Argosy", cpu), ("floor", floor_cpu)]),
        ),
        (
            "change",
            "An endpoint's change at the last proxy",
            proxies,
            "ms",
            lines(&by_proxies, &[("time", change), ("CPU", change_cpu)]),
        ),
        (
            "services",
            "An endpoint's change at the last proxy",
            services,
            "ms",
            lines(&by_services, &[("time", change), ("CPU", change_cpu)]),
        ),
    ];
    for (file, title, across, up, lines) in pictures {
        let chart = Chart {
            title,
            across,
            up,
            lines,
        };
        write(&args.out, file, &chart)?;
    }
    Ok(())
}

async fn measure(runs: impl Iterator<Item = (u32, ads::Args)>) -> anyhow::Result<Vec<(f64, Figures)>> {
    let mut all = Vec::new();
    for (x, run) in runs {
        let figures = ads::measure(&run).await?;
        ads::print(&run, &figures);
        all.push((f64::from(x), figures));
    }
    Ok(all)
}

fn write(folder: &Path, file: &str, chart: &Chart) -> std::io::Result<()> {
    std::fs::write(folder.join(format!("{file}.svg")), chart.svg())
}

fn ready(figures: &Figures) -> f64 {
    milliseconds(figures.server.ready)
}

fn floor_ready(figures: &Figures) -> f64 {
    milliseconds(figures.floor.ready)
}

fn peak(figures: &Figures) -> f64 {
    megabytes(figures.server.memory.peak)
}

fn floor_peak(figures: &Figures) -> f64 {
    megabytes(figures.floor.memory.peak)
}

fn cpu(figures: &Figures) -> f64 {
    milliseconds(figures.server.cpu_per_proxy)
}

fn floor_cpu(figures: &Figures) -> f64 {
    milliseconds(figures.floor.cpu_per_proxy)
}

fn change(figures: &Figures) -> f64 {
    figures
        .changes
        .first()
        .map_or(0.0, |changes| milliseconds(changes.quantile(0.5)))
}

fn change_cpu(figures: &Figures) -> f64 {
    figures
        .changes
        .first()
        .map_or(0.0, |changes| milliseconds(changes.cpu))
}
