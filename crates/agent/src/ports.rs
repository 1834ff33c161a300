//! The agent's own servers on the workload's address: status and metrics.

use std::net::{IpAddr, SocketAddr};

use axum::Router;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    args::PortArgs,
    status::{self, Status},
};

/// Servers that run as long as this lives.
#[derive(Debug)]
pub(crate) struct Ports {
    address: IpAddr,
    _end: DropGuard,
}

impl Ports {
    /// Listens on `listen` (the workload's `address`, or all of a pod's) and serves. No port is shared with another process, so
    /// a second agent on the same address fails here.
    ///
    /// # Errors
    /// When a port is taken or the address is not this machine's.
    pub(crate) async fn open(
        status: &Status,
        address: IpAddr,
        listen: IpAddr,
        ports: &PortArgs,
    ) -> Result<Self, runtime::BindError> {
        let end = CancellationToken::new();
        let status_listener =
            runtime::bind("--status-port", SocketAddr::new(listen, ports.status_port)).await?;
        let metrics_listener = runtime::bind(
            "--prometheus-port",
            SocketAddr::new(listen, ports.prometheus_port),
        )
        .await?;
        tokio::spawn(serve("status", status_listener, status.router(), end.clone()));
        tokio::spawn(serve(
            "metrics",
            metrics_listener,
            status.metrics_router(),
            end.clone(),
        ));
        Ok(Self {
            address,
            _end: end.drop_guard(),
        })
    }

    /// Where they are.
    pub(crate) fn address(&self) -> IpAddr {
        self.address
    }
}

async fn serve(name: &'static str, listener: TcpListener, router: Router, end: CancellationToken) {
    if let Err(error) = status::serve(listener, router, end).await {
        tracing::error!(name, %error, "a server of the agent broke; restart the agent");
    }
}
