//! A small application to put into a mesh: it answers with what it saw of a request, misbehaves on request, and
//! calls other services through its sidecar. It speaks HTTP and gRPC.
//!
//! It knows nothing of Argosy: an address to serve on and an address to dial is all that it is given.

mod args;
mod behaviour;
mod call;
mod echo;
mod grpc;
mod http_server;
mod instance;
mod seen;

use std::sync::Arc;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use args::Args;

/// Serves until `stop` is cancelled.
///
/// # Errors
/// An address that cannot be bound (in use, or not an address of this machine), or a server that ends with an error.
pub async fn run(args: Args, stop: CancellationToken) -> anyhow::Result<()> {
    let http = TcpListener::bind(args.http)
        .await
        .with_context(|| format!("cannot serve HTTP on {}", args.http))?;
    let grpc = match args.grpc {
        Some(addr) => Some(
            TcpListener::bind(addr)
                .await
                .with_context(|| format!("cannot serve gRPC on {addr}"))?,
        ),
        None => None,
    };
    let instance = Arc::new(instance::Instance::new(args)?);
    tracing::info!(service = %instance.args.name, version = %instance.args.version, http = %instance.args.http, "serving");
    let grpc_server = async {
        match grpc {
            Some(listener) => grpc::serve(listener, instance.clone(), stop.clone()).await,
            None => Ok(()),
        }
    };
    let http_server = http_server::serve(http, instance.clone(), stop.clone());
    tokio::try_join!(http_server, grpc_server)?;
    Ok(())
}

/// Ends when the process is asked to stop (SIGINT or SIGTERM).
pub async fn signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        // Without handlers the default action of the signals ends the process.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
