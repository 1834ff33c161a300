//! The agent's flags, each with an environment variable.

use std::{ffi::OsString, net::IpAddr, path::PathBuf, time::Duration};

use clap::ValueEnum;
use runtime::args::{Common, IdentityArgs, duration};

use crate::{
    bootstrap::{
        ADMIN_PORT, HEALTH_PORT, MAX_DOWNSTREAM_CONNECTIONS, PROMETHEUS_PORT, ProxyType, STATUS_PORT,
    },
    workload::WorkloadName,
};

/// Where Envoy's log and output go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum EnvoyLog {
    /// The agent's own standard error and output
    #[default]
    Stderr,
    /// The file envoy.log in the state folder
    File,
}

/// Flags of `argosy-agent`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// The WorkloadEntry whose proxy this is
    #[arg(long, env = "ARGOSY_WORKLOAD", value_name = "NAMESPACE/NAME")]
    pub workload: WorkloadName,
    /// A proxy beside an application (sidecar) or a gateway (router)
    #[arg(long, env = "ARGOSY_PROXY_TYPE", value_enum, default_value_t)]
    pub proxy_type: ProxyType,
    /// The workload's own address, when it is known beforehand: then readiness and metrics are served from the
    /// start, and the WorkloadEntry must have it
    #[arg(long, env = "ARGOSY_ADDRESS", value_name = "IP")]
    pub address: Option<IpAddr>,
    /// Pilot's address
    #[arg(
        long,
        env = "ARGOSY_PILOT_ADDRESS",
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:15012"
    )]
    pub pilot_address: String,
    /// The agent's own folder: socket, bootstrap, lock; one for each workload in the user's runtime folder unless given
    #[arg(long, env = "ARGOSY_STATE_DIR", value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// DNS domain of the mesh's services
    #[arg(
        long,
        env = "ARGOSY_DOMAIN",
        value_name = "NAME",
        default_value = "cluster.local"
    )]
    pub domain: String,
    /// Id of the cluster that the workload belongs to
    #[arg(
        long,
        env = "ARGOSY_CLUSTER_ID",
        value_name = "ID",
        default_value = "Kubernetes"
    )]
    pub cluster_id: String,
    /// Flags for Envoy.
    #[command(flatten)]
    pub envoy: EnvoyArgs,
    /// Ports on the workload's address.
    #[command(flatten)]
    pub ports: PortArgs,
    /// Flags for the agent's identity.
    #[command(flatten)]
    pub identity: IdentityArgs,
    /// Flags of every service.
    #[command(flatten)]
    pub common: Common,
}

/// How Envoy is run.
#[derive(Debug, Clone, clap::Args)]
pub struct EnvoyArgs {
    /// Envoy's program: a path, or a name that is looked for on PATH
    #[arg(long, env = "ARGOSY_ENVOY", value_name = "FILE", default_value = "envoy")]
    pub envoy: PathBuf,
    /// Envoy's worker threads
    #[arg(long, env = "ARGOSY_ENVOY_CONCURRENCY", value_name = "N", default_value_t = 2)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub envoy_concurrency: u32,
    /// Envoy's log level: trace, debug, info, warning, error, critical, off
    #[arg(
        long,
        env = "ARGOSY_ENVOY_LOG_LEVEL",
        value_name = "LEVEL",
        default_value = "warning"
    )]
    pub envoy_log_level: String,
    /// Levels of single parts of Envoy, such as upstream:debug,config:trace
    #[arg(
        long,
        env = "ARGOSY_ENVOY_COMPONENT_LOG_LEVEL",
        value_name = "LIST",
        default_value = ""
    )]
    pub envoy_component_log_level: String,
    /// Where Envoy's log and output go
    #[arg(long, env = "ARGOSY_ENVOY_LOG", value_enum, default_value_t)]
    pub envoy_log: EnvoyLog,
    /// A further flag for Envoy, as it is; may be given several times
    #[arg(long, value_name = "FLAG", allow_hyphen_values = true)]
    pub envoy_arg: Vec<OsString>,
    /// How long Envoy drains a listener that is removed
    #[arg(
        long,
        env = "ARGOSY_DRAIN_DURATION",
        value_name = "DURATION",
        default_value = "45s"
    )]
    #[arg(value_parser = duration)]
    pub drain_duration: Duration,
    /// Most connections from downstream that Envoy holds, over all listeners
    #[arg(long, env = "ARGOSY_MAX_DOWNSTREAM_CONNECTIONS", value_name = "N")]
    #[arg(default_value_t = MAX_DOWNSTREAM_CONNECTIONS)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_DOWNSTREAM_CONNECTIONS)))]
    pub max_downstream_connections: u32,
}

/// Ports on the workload's address. (Envoy's admin interface is on 127.0.0.1 when that address is not loopback.)
#[derive(Debug, Clone, clap::Args)]
pub struct PortArgs {
    /// Port of Envoy's admin interface
    #[arg(long, env = "ARGOSY_ENVOY_ADMIN_PORT", value_name = "PORT", default_value_t = ADMIN_PORT)]
    pub envoy_admin_port: u16,
    /// Port of the agent's readiness and merged metrics
    #[arg(long, env = "ARGOSY_STATUS_PORT", value_name = "PORT", default_value_t = STATUS_PORT)]
    pub status_port: u16,
    /// Port of the health check that goes through Envoy
    #[arg(long, env = "ARGOSY_HEALTH_PORT", value_name = "PORT", default_value_t = HEALTH_PORT)]
    pub health_port: u16,
    /// Port of Envoy's metrics alone
    #[arg(long, env = "ARGOSY_PROMETHEUS_PORT", value_name = "PORT", default_value_t = PROMETHEUS_PORT)]
    pub prometheus_port: u16,
}
