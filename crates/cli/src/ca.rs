//! `argosy ca`: what state the authority is in, how to have its root replaced, and how to revoke what it signed. It asks
//! Citadel's admin server, which answers callers on its own machine.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

use runtime::SpiffeId;

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
    /// Trust a root no more: all certificates are issued again at once, then the root is dropped
    Taint {
        /// SHA-256 of the root's certificate, as status prints it; of a plugged-in authority's intermediate when that has
        /// been replaced
        fingerprint: String,
    },
    /// Revoke certificates: proxies and services refuse them within seconds
    #[command(group = clap::ArgGroup::new("which").required(true))]
    Revoke {
        /// The certificate's serial number, hexadecimal, as the audit log and openssl print it
        #[arg(group = "which")]
        serial: Option<String>,
        /// All certificates of this SPIFFE id
        #[arg(long, group = "which", value_name = "SPIFFE-ID")]
        identity: Option<SpiffeId>,
        /// Also a serial number that is not in Citadel's journal: another Citadel has issued it
        #[arg(long, conflicts_with = "identity")]
        force: bool,
    },
}

impl Command {
    /// Method and path at the admin server.
    fn request(&self) -> (&'static str, String) {
        match self {
            Self::Status => ("GET", "/ca/status".to_owned()),
            Self::Rotate { emergency } => ("PUT", format!("/ca/rotate?emergency={emergency}")),
            Self::Taint { fingerprint } => ("PUT", format!("/ca/taint?fingerprint={}", plain(fingerprint))),
            Self::Revoke {
                serial,
                identity,
                force,
            } => {
                let serial = serial.as_ref().map(|serial| format!("serial={}", plain(serial)));
                // A SPIFFE id has no character that a query may not have.
                let identity = identity.as_ref().map(|id| format!("identity={id}"));
                let force = if *force { "&force=true" } else { "" };
                let which = serial.or(identity).unwrap_or_default();
                ("PUT", format!("/ca/revoke?{which}{force}"))
            }
        }
    }
}

/// What may stand in a query: other characters are none of a number's, and Citadel says so of the rest.
fn plain(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || c == ':' {
                c
            } else {
                '_'
            }
        })
        .collect()
}

pub(crate) fn run(args: &Args) -> ExitCode {
    let (method, path) = args.command.request();
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
    if let Some(warning) = value.get("warning").and_then(serde_json::Value::as_str) {
        eprintln!("argosy: warning: {warning}");
    }
    Ok(format!("{value:#}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn check(line: &str, expected: Option<(&str, &str)>) {
        let parsed = Cli::try_parse_from(line.split(' ')).ok();
        let seen = parsed.map(|cli| cli.args.command.request());
        let seen = seen.as_ref().map(|(method, path)| (*method, path.as_str()));
        assert_eq!(seen, expected, "{line}");
    }

    #[test]
    fn each_command_is_one_request() {
        check("ca status", Some(("GET", "/ca/status")));
        check(
            "ca rotate --emergency",
            Some(("PUT", "/ca/rotate?emergency=true")),
        );
        check("ca taint AB:01", Some(("PUT", "/ca/taint?fingerprint=AB:01")));
        check("ca revoke 0a:ff", Some(("PUT", "/ca/revoke?serial=0a:ff")));
        check(
            "ca revoke 0a --force",
            Some(("PUT", "/ca/revoke?serial=0a&force=true")),
        );
        check("ca revoke --force", None);
        check("ca revoke a&b=c", Some(("PUT", "/ca/revoke?serial=a_b_c")));
        check(
            "ca revoke --identity spiffe://td/ns/a/sa/b",
            Some(("PUT", "/ca/revoke?identity=spiffe://td/ns/a/sa/b")),
        );
        check("ca revoke --identity spiffe://td/a?x=y", None);
        check("ca revoke", None);
        check("ca revoke 0a --identity spiffe://td/a", None);
    }
}
