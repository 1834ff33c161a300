//! The binary `mixer`.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;

use clap::Parser;
use runtime::args::{Common, IdentityArgs};
use runtime::{Context, Identity, service_main};

/// Mixer: decides policy and quota for Argosy's proxies, and hears of their requests
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    identity: IdentityArgs,
    #[command(flatten)]
    args: mixer::Args,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let admin = SocketAddr::from((Ipv4Addr::LOCALHOST, 15014));
    service_main("mixer", &cli.common, admin, |context: Context| async move {
        let identity = Identity::from_citadel(&cli.identity, &context).await?;
        mixer::run(cli.args, identity, context).await?;
        Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    })
}
