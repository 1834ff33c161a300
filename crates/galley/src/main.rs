//! The binary `galley`.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;

use clap::Parser;
use runtime::args::{Common, IdentityArgs};
use runtime::{Identity, service_main};

/// Galley reads the mesh's configuration, checks it and distributes it
#[derive(Parser)]
#[command(name = "galley", version, about)]
struct Cli {
    #[command(flatten)]
    galley: galley::Args,
    #[command(flatten)]
    identity: IdentityArgs,
    #[command(flatten)]
    common: Common,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let admin = SocketAddr::from((Ipv4Addr::LOCALHOST, 15014));
    service_main("galley", &cli.common, admin, async |context| {
        let identity = Identity::from_citadel(&cli.identity, &context).await?;
        galley::run(cli.galley, identity, context).await?;
        Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    })
}
