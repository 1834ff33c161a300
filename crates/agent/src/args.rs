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
    /// What a Kubernetes pod tells its agent.
    #[command(flatten)]
    pub pod: PodArgs,
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
    /// Envoy's worker threads; ProxyConfig's concurrency, the pod's limit or 2 unless given
    #[arg(long, env = "ARGOSY_ENVOY_CONCURRENCY", value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub envoy_concurrency: Option<u32>,
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
    /// How long Envoy drains a listener that is removed; ProxyConfig's drainDuration or 45s unless given
    #[arg(long, env = "ARGOSY_DRAIN_DURATION", value_name = "DURATION", value_parser = duration)]
    pub drain_duration: Option<Duration>,
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

/// What the injector and the kubelet tell the agent of its pod, under the names of Istio's agent.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub struct PodArgs {
    /// Folder with the downward API's files labels and annotations: the workload is the pod at --address, and nothing is asked
    /// of Pilot before Envoy starts. Ports are served on all addresses
    #[arg(long, env = "ARGOSY_POD_INFO", value_name = "DIR")]
    pub pod_info: Option<PathBuf>,
    /// The pod's service account
    #[arg(long, env = "SERVICE_ACCOUNT", value_name = "NAME", default_value = "default")]
    pub service_account: String,
    /// ProxyConfig, JSON
    #[arg(
        long,
        env = "PROXY_CONFIG",
        value_name = "JSON",
        default_value = "",
        hide_env_values = true
    )]
    pub proxy_config: String,
    /// The pod's processors
    #[arg(long, env = "ISTIO_CPU_LIMIT", value_name = "N")]
    pub cpu_limit: Option<u32>,
    /// The pod's memory in bytes; Envoy sheds load before it has taken all of it
    #[arg(long, env = "ARGOSY_MEMORY_LIMIT", value_name = "BYTES")]
    pub memory_limit: Option<u64>,
    /// What to ask of the application for the kubelet, JSON
    #[arg(
        long,
        env = "ISTIO_KUBE_APP_PROBERS",
        value_name = "JSON",
        default_value = "",
        hide_env_values = true
    )]
    pub app_probers: String,
    /// What to scrape of the application for Prometheus, JSON
    #[arg(
        long,
        env = "ISTIO_PROMETHEUS_ANNOTATIONS",
        value_name = "JSON",
        default_value = "",
        hide_env_values = true
    )]
    pub prometheus_annotations: String,
    /// At the end wait until Envoy has no connection any more, however long that takes
    #[arg(long, env = "EXIT_ON_ZERO_ACTIVE_CONNECTIONS", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "true", default_value = "false", action = clap::ArgAction::Set)]
    #[arg(value_parser = clap::builder::BoolishValueParser::new())]
    pub exit_on_zero_active_connections: bool,
    /// How long to wait in any case then, for callers that have not heard yet
    #[arg(long, env = "MINIMUM_DRAIN_DURATION", value_name = "DURATION", default_value = "5s", value_parser = duration)]
    pub minimum_drain_duration: Duration,
}
