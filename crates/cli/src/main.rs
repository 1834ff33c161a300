//! `argosy`: the operator's and the newcomer's command. Each subcommand has a module.

mod analyze;
mod bootstrap;
mod ca;
mod check;
mod crds;
mod eval;
mod explain;
mod explain_rule;
mod given;
mod init;
mod inject;
mod offline;
mod output;
mod proxy_config;
mod proxy_status;
mod reach;
mod run;
mod show;
mod simulate;
mod validate;
mod version;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

/// Argosy, a service mesh for Envoy
#[derive(Parser)]
#[command(name = "argosy", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Say what objects do to one another: of files, of a cluster, or of both together
    Analyze(Box<analyze::Args>),
    /// Print a bootstrap for an Envoy that connects to Pilot itself
    Bootstrap(Box<bootstrap::Args>),
    /// Tell the authority's state, or have its root replaced
    Ca(ca::Args),
    /// Say whether a cluster's control plane is whole and ready, and what is missing
    Check(check::Args),
    /// Print the CustomResourceDefinitions of all kinds, for kubectl apply
    Crds(crds::Args),
    /// Try one of Mixer's expressions on attributes
    Eval(eval::Args),
    /// Say which objects a proxy's configuration comes from
    Explain(explain::Args),
    /// Make a sample folder: configuration, a root certificate, a token issuer and tokens
    Init(init::Args),
    /// Give the pods of manifests their proxy, without a webhook
    Inject(inject::Args),
    /// Print what a proxy's Envoy has: clusters, listeners, routes, endpoints, secrets, bootstrap
    #[command(visible_alias = "pc")]
    ProxyConfig(Box<proxy_config::Args>),
    /// Print how far each proxy has come, or what one has other than Pilot wants it to
    #[command(visible_alias = "ps")]
    ProxyStatus(Box<proxy_status::Args>),
    /// Run Galley, Pilot, Citadel and Mixer in this process
    Run(Box<run::Args>),
    /// Walk a request through what a proxy would have, and say what it meets
    Simulate(Box<simulate::Args>),
    /// Say what is wrong with configuration, without applying it
    Validate(validate::Args),
    /// Print the version of this command, and with --cluster of a cluster's services and proxies
    Version(Box<version::Args>),
}

fn main() -> ExitCode {
    match parse().command {
        Command::Analyze(args) => analyze::run(&args),
        Command::Bootstrap(args) => bootstrap::run(&args),
        Command::Ca(args) => ca::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Crds(args) => report(crds::run(&args)),
        Command::Eval(args) => eval::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Init(args) => report(init::run(&args)),
        Command::Inject(args) => report(inject::run(&args)),
        Command::ProxyConfig(args) => report(proxy_config::run(&args)),
        Command::ProxyStatus(args) => proxy_status::run(&args),
        Command::Run(args) => run::run(*args),
        Command::Simulate(args) => simulate::run(&args),
        Command::Validate(args) => validate::run(&args),
        Command::Version(args) => report(version::run(&args)),
    }
}

/// `run --help` shows the admin server's default too, which the services' flags leave to each binary.
fn parse() -> Cli {
    // clap keeps texts for as long as the process lives.
    let admin: &'static str = run::ADMIN.to_string().leak();
    let mut command = Cli::command().mut_subcommand("run", |run| {
        run.mut_arg("admin_address", |arg| arg.default_value(admin))
    });
    let matches = command.clone().get_matches();
    Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.format(&mut command).exit())
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
