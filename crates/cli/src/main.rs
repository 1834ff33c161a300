//! `argosy`: the operator's and the newcomer's command. Each subcommand has a module.

mod init;
mod run;
mod validate;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Argosy, a service mesh for Envoy
#[derive(Parser)]
#[command(name = "argosy", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a sample folder: configuration, a root certificate, a token issuer and tokens
    Init(init::Args),
    /// Run Galley, Pilot, Citadel and Mixer in this process
    Run(Box<run::Args>),
    /// Say what is wrong with configuration, without applying it
    Validate(validate::Args),
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Init(args) => report(init::run(&args)),
        Command::Run(args) => run::run(*args),
        Command::Validate(args) => validate::run(&args),
    }
}

fn report(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("argosy: {error:#}");
            ExitCode::FAILURE
        }
    }
}
