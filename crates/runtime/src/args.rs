//! Flags that several services share; each has an environment variable `ARGOSY_…` beside it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, CommandFactory, FromArgMatches};

use crate::logging::LogArgs;
use crate::spiffe::TrustDomain;

/// Flags of every service.
#[derive(Debug, Clone, Args)]
pub struct Common {
    /// Address of the admin server: health, metrics, log level, debug pages; its page / lists them
    #[arg(long, env = "ARGOSY_ADMIN_ADDRESS", value_name = "ADDR")]
    pub admin_address: Option<SocketAddr>,
    /// How long to go on serving, unready, after SIGTERM: until nobody is sent here any more
    #[arg(long, env = "ARGOSY_SHUTDOWN_DELAY", value_name = "DURATION", value_parser = duration, default_value = "0s")]
    pub shutdown_delay: Duration,
    /// How long requests and streams may take to end after that
    #[arg(long, env = "ARGOSY_SHUTDOWN_GRACE", value_name = "DURATION", value_parser = duration, default_value = "5s")]
    pub shutdown_grace: Duration,
    /// Flags for logs.
    #[command(flatten)]
    pub log: LogArgs,
}

impl Default for Common {
    fn default() -> Self {
        Self {
            admin_address: None,
            shutdown_delay: Duration::ZERO,
            shutdown_grace: Duration::from_secs(5),
            log: LogArgs::default(),
        }
    }
}

/// Flags of a service that gets its identity from Citadel.
#[derive(Debug, Clone, Args)]
pub struct IdentityArgs {
    /// Citadel's address, HOST:PORT
    #[arg(
        long,
        env = "ARGOSY_CITADEL_ADDRESS",
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:8060"
    )]
    pub citadel_address: String,
    /// PEM file with the mesh's root certificates; Citadel is trusted by them
    #[arg(long, env = "ARGOSY_CA_ROOT", value_name = "FILE")]
    pub ca_root: PathBuf,
    /// File with the token (JWT) that says who this is; read again for each request
    #[arg(long, env = "ARGOSY_TOKEN", value_name = "FILE")]
    pub token: PathBuf,
    /// Trust domain of the mesh
    #[arg(
        long,
        env = "ARGOSY_TRUST_DOMAIN",
        value_name = "NAME",
        default_value = "cluster.local"
    )]
    pub trust_domain: TrustDomain,
}

/// Parses the process's flags; ends the process with a message when they are wrong. `admin_default` becomes the default
/// of `--admin-address`, and `--help` shows it.
#[must_use]
pub fn parse<T: CommandFactory + FromArgMatches>(admin_default: SocketAddr) -> T {
    parse_as(T::command(), admin_default)
}

/// As [`parse`], by a command that was made of `T`'s.
pub(crate) fn parse_as<T: FromArgMatches>(command: clap::Command, admin_default: SocketAddr) -> T {
    // clap keeps texts for as long as the process lives.
    let default: &'static str = admin_default.to_string().leak();
    let mut command = command.mut_arg("admin_address", |arg| arg.default_value(default));
    let matches = command.clone().get_matches();
    T::from_arg_matches(&matches).unwrap_or_else(|error| error.format(&mut command).exit())
}

/// Parses a duration as Go writes it: `1h30m`, `10s`, `1.5s`, `250ms`.
///
/// # Errors
/// When the text has another form or is more than 10 years.
pub fn duration(text: &str) -> Result<Duration, String> {
    const MAX: f64 = 10.0 * 365.0 * 86_400.0;
    let wrong = || format!("{text:?} is not a duration; write it like 10s, 250ms or 1h30m");
    let mut rest = text;
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let (number, tail) = rest.split_at(
            rest.find(|c: char| !c.is_ascii_digit() && c != '.')
                .ok_or_else(wrong)?,
        );
        let (unit, tail) = tail.split_at(tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len()));
        let scale = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" => 1e-6,
            _ => return Err(wrong()),
        };
        seconds += number.parse::<f64>().map_err(|_| wrong())? * scale;
        rest = tail;
    }
    match () {
        () if text.is_empty() => Err(wrong()),
        () if seconds > MAX => Err(format!("{text} is too long: ten years (87600h) at most")),
        () => Ok(Duration::from_secs_f64(seconds)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_writes_them() {
        for (text, millis) in [
            ("10s", 10_000),
            ("1h30m", 5_400_000),
            ("250ms", 250),
            ("1.5s", 1500),
            ("0s", 0),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for bad in ["", "10", "s", "-1s", "1d", "1..2s", "1 s", "99999999h"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
