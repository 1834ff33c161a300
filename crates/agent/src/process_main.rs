//! The agent's process: logs, signals, the optional admin server, and an exit status.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use runtime::{
    Context,
    context::{describe, drain_on_shutdown},
    listen, logging, shutdown,
};

use crate::{Args, run};

/// How long what is left may take to end after Envoy has ended.
const REST: Duration = Duration::from_secs(1);

/// The whole life of an `argosy-agent` process; `own` as in [`run`]. Prints one line when it fails.
pub fn main(args: &Args, own: Option<PathBuf>) -> ExitCode {
    let result = tokio::runtime::Runtime::new()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| {
            // On this thread, which lives as long as the process: Envoy is started on it (see `envoy::guard`).
            let result = runtime.block_on(life(args, own));
            runtime.shutdown_timeout(REST);
            result
        });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("argosy-agent: {}", describe(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

async fn life(args: &Args, own: Option<PathBuf>) -> anyhow::Result<()> {
    let context = Context::new(
        "agent",
        logging::init(&args.common.log)?,
        args.common.shutdown_grace,
    );
    let readiness = context.readiness.clone();
    shutdown::on_signal(readiness, context.shutdown.clone(), args.common.shutdown_delay)?;
    // The same pages are on the status port; an address of their own is for what must watch the start.
    if let Some(address) = args.common.admin_address {
        let listener = listen::bind("--admin-address", address).await?;
        tokio::spawn(context.admin.clone().serve(listener, context.shutdown.clone()));
    }
    let draining = drain_on_shutdown(&context);
    let result = run(args, &context, own).await;
    draining.abort();
    result
}
