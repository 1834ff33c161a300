//! The flags of one instance.

use std::net::SocketAddr;
use std::time::Duration;

use http::Uri;

use crate::behaviour::parse_delay;

/// A sample application: HTTP and gRPC echo servers that misbehave on request and call other services.
#[derive(Debug, Clone, clap::Parser)]
#[command(name = "sample", disable_version_flag = true)]
pub struct Args {
    /// Name of the service, as it appears in answers.
    #[arg(long, env = "SAMPLE_NAME", default_value = "sample")]
    pub name: String,

    /// Version of the service, as it appears in answers.
    #[arg(long, env = "SAMPLE_VERSION", default_value = "v1")]
    pub version: String,

    /// Name of this instance; NAME-VERSION when not given.
    #[arg(long, env = "SAMPLE_INSTANCE")]
    pub instance: Option<String>,

    /// Address to serve HTTP on.
    #[arg(
        long,
        env = "SAMPLE_HTTP",
        value_name = "ADDR",
        default_value = "127.0.0.1:18080"
    )]
    pub http: SocketAddr,

    /// Address to serve gRPC on; no gRPC when not given.
    #[arg(long, env = "SAMPLE_GRPC", value_name = "ADDR")]
    pub grpc: Option<SocketAddr>,

    /// Where calls to other services' HTTP go: the egress listener of the sidecar, e.g. http://127.1.0.10:7080. Without it a call
    /// goes to the host that it names.
    #[arg(long, env = "SAMPLE_DIAL", value_name = "BASE")]
    pub dial: Option<Uri>,

    /// Where calls to other services' gRPC go, e.g. http://127.1.0.10:7090.
    #[arg(long, env = "SAMPLE_DIAL_GRPC", value_name = "BASE")]
    pub dial_grpc: Option<Uri>,

    /// How long to go on answering after SIGTERM, until nobody sends requests here any more; 60 s at most.
    #[arg(long, env = "SAMPLE_SHUTDOWN_DELAY", value_name = "DURATION", value_parser = parse_delay, default_value = "0ms")]
    pub shutdown_delay: Duration,
}
