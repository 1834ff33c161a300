//! `citadel`: Argosy's certificate authority as a process of its own.

use std::process::ExitCode;

use clap::Parser;
use runtime::args::Common;

/// Argosy's certificate authority
#[derive(Parser)]
#[command(name = "citadel", version)]
struct Cli {
    #[command(flatten)]
    citadel: citadel::Args,
    #[command(flatten)]
    common: Common,
}

fn main() -> ExitCode {
    let cli: Cli = runtime::args::parse(citadel::DEFAULT_ADMIN);
    runtime::service_main("citadel", &cli.common, citadel::DEFAULT_ADMIN, |context| {
        citadel::run(cli.citadel, context)
    })
}
