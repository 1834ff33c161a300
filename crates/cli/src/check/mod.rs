//! `argosy check`: whether a cluster's control plane is installed whole and ready, and if not, what is missing. With `--ready`
//! it asks single services instead, without any rights in the cluster, as `helm test` does; with `--before-install`, whether the
//! charts can be installed at all.

mod before;
mod cluster;
mod judge;
mod ready;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::ValueEnum;
use serde_json::json;

use judge::{Row, State};

/// Flags of `argosy check`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Ask this page, http://HOST:PORT/readyz, until the service says that it is ready; may be repeated
    #[arg(long = "ready", value_name = "URL")]
    ready: Vec<http::Uri>,
    /// Look, once, whether the charts can be installed: version, rights, what is in the way
    #[arg(long, conflicts_with = "ready")]
    before_install: bool,
    /// How long to wait until all is well
    #[arg(long, value_name = "DURATION", value_parser = runtime::args::duration, default_value = "60s")]
    timeout: Duration,
    /// The control plane's namespace
    #[arg(long, value_name = "NAME", default_value = "argosy-system")]
    istio_namespace: String,
    /// Kubeconfig file; unless given, that of $KUBECONFIG or ~/.kube/config, or the pod's own account
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig; unless given, its current one
    #[arg(long)]
    context: Option<String>,
    /// Form of the output
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Clone, Copy, ValueEnum)]
enum Output {
    Table,
    Json,
}

/// How long between two looks.
const PAUSE: Duration = Duration::from_secs(1);

/// Looks until nothing is wrong, or time is up; prints what was seen last.
pub(crate) fn run(args: &Args) -> ExitCode {
    let looked = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start")
        .and_then(|runtime| runtime.block_on(watch(args)));
    let rows = match looked {
        Ok(rows) => rows,
        Err(error) => {
            eprintln!("argosy: {error:#}");
            return ExitCode::from(2);
        }
    };
    if let Err(error) = crate::output::print(&text(args.output, &rows)) {
        eprintln!("argosy: {error:#}");
    }
    match is_well(&rows) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

fn is_well(rows: &[Row]) -> bool {
    rows.iter().all(|row| row.state != State::Wrong)
}

async fn watch(args: &Args) -> anyhow::Result<Vec<Row>> {
    let end = tokio::time::Instant::now() + args.timeout;
    loop {
        let (kubeconfig, context) = (args.kubeconfig.as_deref(), args.context.as_deref());
        let namespace = &args.istio_namespace;
        let rows = if args.before_install {
            let facts = cluster::before(kubeconfig, context, namespace);
            before::judge(&facts.await?, namespace)
        } else if args.ready.is_empty() {
            let facts = cluster::read(kubeconfig, context, namespace);
            judge::judge(&facts.await?, namespace)
        } else {
            ready::ask(&args.ready).await
        };
        if args.before_install || is_well(&rows) || tokio::time::Instant::now() + PAUSE > end {
            return Ok(rows);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn text(output: Output, rows: &[Row]) -> String {
    match output {
        Output::Table => rows.iter().map(|row| format!("{row}\n")).collect(),
        Output::Json => {
            let rows: Vec<_> = rows
                .iter()
                .map(|row| json!({"object": row.object, "state": row.state.name(), "message": row.message}))
                .collect();
            format!("{:#}\n", json!(rows))
        }
    }
}
