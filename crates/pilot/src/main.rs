//! The binary `pilot`.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;

use clap::Parser;
use runtime::args::{Common, IdentityArgs};
use runtime::{Identity, service_main};

/// Pilot turns the mesh's configuration into Envoy's and serves it over xDS
#[derive(Parser)]
#[command(name = "pilot", version, about)]
struct Cli {
    #[command(flatten)]
    pilot: pilot::Args,
    #[command(flatten)]
    identity: IdentityArgs,
    #[command(flatten)]
    common: Common,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let admin = SocketAddr::from((Ipv4Addr::LOCALHOST, 15014));
    service_main("pilot", &cli.common, admin, async |context| {
        let identity = Identity::from_citadel(&cli.identity, &context).await?;
        pilot::run(cli.pilot, identity, context).await?;
        Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    })
}
