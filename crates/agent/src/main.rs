//! `argosy-agent`: the agent of one proxy.

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;

/// Runs Envoy for one workload of an Argosy mesh: gets its certificate, serves it to Envoy, carries Envoy's
/// configuration from Pilot, and keeps Envoy running.
#[derive(Debug, Parser)]
#[command(name = "argosy-agent", version)]
struct Cli {
    #[command(flatten)]
    args: agent::Args,
}

fn main() -> ExitCode {
    if let Some(code) = agent::envoy::guard::become_envoy(std::env::args_os()) {
        return code;
    }
    let Cli { args } = Cli::parse();
    agent::main(&args, Some(PathBuf::from("/proc/self/exe")))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn flags_are_consistent() {
        super::Cli::command().debug_assert();
    }
}
