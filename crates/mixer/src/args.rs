//! Mixer's flags.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// Mixer decides policy and quota for Argosy's proxies, and hears of their requests
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Address of the gRPC services for proxies (mutual TLS)
    #[arg(long, env = "ARGOSY_LISTEN", value_name = "ADDR", default_value_t = Args::default().listen)]
    pub listen: SocketAddr,
    /// Address of the Prometheus adapter's /metrics
    #[arg(
        long,
        env = "ARGOSY_PROMETHEUS_ADDRESS",
        value_name = "ADDR",
        default_value_t = Args::default().prometheus_address
    )]
    pub prometheus_address: SocketAddr,
    /// Galley's address, HOST:PORT
    #[arg(
        long,
        env = "ARGOSY_GALLEY_ADDRESS",
        value_name = "HOST:PORT",
        default_value_t = Args::default().galley_address
    )]
    pub galley_address: String,
    /// Most series of one metric of the Prometheus adapter; further ones are dropped and counted
    #[arg(
        long,
        env = "ARGOSY_PROMETHEUS_SERIES",
        value_name = "COUNT",
        default_value_t = Args::default().prometheus_series
    )]
    pub prometheus_series: usize,
    /// How long a request waits for a quota's Redis, at most 1s
    #[arg(
        long,
        env = "ARGOSY_REDIS_DEADLINE",
        value_name = "DURATION",
        value_parser = redis_deadline,
        default_value = "15ms"
    )]
    pub redis_deadline: Duration,
    /// How long a check waits for a handler that asks an engine or a list (opa, listchecker with a URL)
    #[arg(
        long,
        env = "ARGOSY_ADAPTER_DEADLINE",
        value_name = "DURATION",
        value_parser = runtime::args::duration,
        default_value = "100ms"
    )]
    pub adapter_deadline: Duration,
    /// Folder of the files that stdio handlers write; without it such handlers are refused
    #[arg(long, env = "ARGOSY_HANDLER_FILES", value_name = "FOLDER")]
    pub handler_files: Option<PathBuf>,
    /// Folder of the authorities, certificates and keys (PEM) that handlers name for TLS to their backends
    #[arg(long, env = "ARGOSY_HANDLER_CERTIFICATES", value_name = "FOLDER")]
    pub handler_certificates: Option<PathBuf>,
}

/// A request may be charged several quotas, one after the other, and its proxy waits 5 s for all.
fn redis_deadline(text: &str) -> Result<Duration, String> {
    let deadline = runtime::args::duration(text)?;
    match deadline {
        Duration::ZERO => Err("must be longer than 0s".to_owned()),
        long if long > Duration::from_secs(1) => Err(format!("{text} is longer than 1s")),
        deadline => Ok(deadline),
    }
}

impl Default for Args {
    fn default() -> Self {
        let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Self {
            listen: local(15004),
            prometheus_address: local(42422),
            galley_address: local(15019).to_string(),
            prometheus_series: 10_000,
            redis_deadline: Duration::from_millis(15),
            adapter_deadline: Duration::from_millis(100),
            handler_files: None,
            handler_certificates: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_request_waits_long_for_redis() {
        assert_eq!(redis_deadline("15ms"), Ok(Duration::from_millis(15)));
        assert_eq!(redis_deadline("1s"), Ok(Duration::from_secs(1)));
        for wrong in ["0s", "1001ms", "1h", "x"] {
            assert!(redis_deadline(wrong).is_err(), "{wrong}");
        }
    }
}
