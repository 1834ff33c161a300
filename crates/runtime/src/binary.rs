//! The binary of a service that gets its identity from Citadel: flags, identity, and the service's own life. Written
//! once for Galley, Pilot and Mixer.

use std::error::Error;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;

use clap::{Command, CommandFactory, Parser};

use crate::args::{Common, IdentityArgs, parse_as};
use crate::context::{Context, service_main};
use crate::identity::Identity;

#[derive(Debug, Parser)]
#[command(version)]
struct Cli<A: clap::Args> {
    #[command(flatten)]
    service: A,
    #[command(flatten)]
    identity: IdentityArgs,
    #[command(flatten)]
    common: Common,
}

/// Parses the flags `A`, gets the identity, and runs the service until it ends. The help text starts with the
/// documentation of `A`. The admin server listens on loopback and `admin_port` unless told otherwise; each service has
/// a port of its own, so that all can run on one machine.
pub fn identified_main<A, F, Fut, E>(service: &'static str, admin_port: u16, run: F) -> ExitCode
where
    A: clap::Args,
    F: FnOnce(A, Identity, Context) -> Fut,
    Fut: Future<Output = Result<(), E>>,
    E: Error + Send + Sync + 'static,
{
    let nothing = async |_: &A, _: &Context| Ok::<(), E>(());
    prepared_main(service, admin_port, nothing, |args, (), identity, context| {
        run(args, identity, context)
    })
}

/// As [`identified_main`], with a part of the service that starts before there is an identity: `run` gets what `prepare`
/// gave.
pub fn prepared_main<A, P, T, F, Fut, E>(
    service: &'static str,
    admin_port: u16,
    prepare: P,
    run: F,
) -> ExitCode
where
    A: clap::Args,
    P: AsyncFnOnce(&A, &Context) -> Result<T, E>,
    F: FnOnce(A, T, Identity, Context) -> Fut,
    Fut: Future<Output = Result<(), E>>,
    E: Error + Send + Sync + 'static,
{
    let admin = SocketAddr::from((Ipv4Addr::LOCALHOST, admin_port));
    let cli: Cli<A> = parse_as(command::<A>(service), admin);
    service_main(service, &cli.common, admin, async |context| {
        let prepared = prepare(&cli.service, &context).await?;
        let identity = Identity::from_citadel(&cli.identity, &context).await?;
        run(cli.service, prepared, identity, context).await?;
        Ok::<(), Box<dyn Error + Send + Sync>>(())
    })
}

fn command<A: clap::Args>(service: &'static str) -> Command {
    let about = A::augment_args(Command::new(service))
        .get_about()
        .cloned()
        .unwrap_or_default();
    Cli::<A>::command().name(service).about(about).long_about(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tries whether the help says this
    #[derive(Debug, clap::Args)]
    struct Flags {
        #[arg(long)]
        own: bool,
    }

    #[test]
    fn help_is_the_services_own() {
        let help = command::<Flags>("trier").render_help().to_string();
        assert!(help.starts_with("Tries whether the help says this"), "{help}");
        for flag in ["Usage: trier", "--own", "--citadel-address", "--admin-address"] {
            assert!(help.contains(flag), "{flag} is not in {help}");
        }
    }
}
