//! `argosy ca`: what state the authority is in, and how to have its root replaced. It asks Citadel's admin server, which
//! answers callers on its own machine.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

use crate::run;

/// Largest answer that is read, in bytes.
const MAX_ANSWER: usize = 1 << 20;
const DEADLINE: Duration = Duration::from_secs(10);

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
    /// Citadel's admin server; where all services share a process, that process's
    #[arg(long, global = true, env = "ARGOSY_ADMIN_ADDRESS", value_name = "ADDR", default_value_t = run::ADMIN)]
    admin_address: SocketAddr,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Print the roots that the mesh trusts, and where a rotation stands (JSON)
    Status,
    /// Begin to replace the root: distribute a new one, let it sign, retire the old one
    Rotate {
        /// The key was exposed: do not wait until certificates have ended, have them renewed at once
        #[arg(long)]
        emergency: bool,
    },
}

pub(crate) fn run(args: &Args) -> ExitCode {
    let (method, path) = match args.command {
        Command::Status => ("GET", "/ca/status".to_owned()),
        Command::Rotate { emergency } => ("PUT", format!("/ca/rotate?emergency={emergency}")),
    };
    let answered = tokio::runtime::Runtime::new()
        .context("cannot start")
        .and_then(|runtime| runtime.block_on(ask(args.admin_address, method, &path)));
    match answered {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("argosy: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn ask(admin: SocketAddr, method: &str, path: &str) -> anyhow::Result<String> {
    let request = hyper::Request::builder()
        .method(method)
        .uri(format!("http://{admin}{path}"))
        .body(Empty::<Bytes>::new())?;
    let client = Client::builder(TokioExecutor::new()).build_http();
    let answer = tokio::time::timeout(DEADLINE, client.request(request))
        .await
        .with_context(|| format!("{admin} does not answer"))?
        .with_context(|| {
            format!("no answer from {admin}: --admin-address is Citadel's admin server, on this machine")
        })?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
    let body = body
        .map_err(|error| anyhow::anyhow!("{admin}: {error}"))?
        .to_bytes();
    let text = String::from_utf8_lossy(&body);
    anyhow::ensure!(
        status.is_success(),
        "Citadel refuses ({status}): {}",
        text.trim_end()
    );
    let value: serde_json::Value = serde_json::from_str(&text).context("the answer is not JSON")?;
    Ok(format!("{value:#}\n"))
}
