//! `argosy-agent`: the agent of one proxy.

use std::{path::PathBuf, process::ExitCode};

use agent::pod::wait::{self, DrainArgs, WaitArgs};
use clap::{Parser, Subcommand};

/// What runs beside an agent, in the same pod.
#[derive(Debug, Parser)]
#[command(name = "argosy-agent", version)]
struct Beside {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(alias = "iptables")]
    IstioIptables(agent::redirect::Args),
    Wait(WaitArgs),
    Drain(DrainArgs),
}

/// First arguments that mean one of them. All else is the agent itself, whose flags may all come by environment.
const COMMANDS: [&str; 4] = ["istio-iptables", "iptables", "wait", "drain"];

fn beside() -> ExitCode {
    match Beside::parse().command {
        Command::IstioIptables(args) => agent::redirect::apply::main(&args),
        Command::Wait(args) => wait::main("wait", wait::wait(&args)),
        Command::Drain(args) => wait::main("drain", wait::drain(&args)),
    }
}

/// Runs Envoy for one workload of an Argosy mesh: gets its certificate, serves it to Envoy, carries Envoy's
/// configuration from Pilot, and keeps Envoy running.
#[derive(Debug, Parser)]
#[command(name = "argosy-agent", version)]
#[command(after_help = "Commands in a pod (each has --help): istio-iptables, wait, drain")]
struct Cli {
    #[command(flatten)]
    args: agent::Args,
}

fn main() -> ExitCode {
    if let Some(code) = agent::envoy::guard::become_envoy(std::env::args_os()) {
        return code;
    }
    let first = std::env::args().nth(1);
    if first.is_some_and(|first| COMMANDS.contains(&&*first)) {
        return beside();
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
        super::Beside::command().debug_assert();
        let known = super::Beside::command();
        for command in super::COMMANDS {
            assert!(known.find_subcommand(command).is_some(), "{command}");
        }
    }
}
