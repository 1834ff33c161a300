//! HTTPS for callers that are no gRPC clients, such as Kubernetes' API server calling webhooks: HTTP/1.1 and HTTP/2 over
//! the same bounded accept loop as gRPC.
//!
//! It knows nothing of what the routes do.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use futures::StreamExt;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::grpc::{Limits, accept};

/// How long a client may take to send a request's headers.
const HEADERS: Duration = Duration::from_secs(10);

/// Serves `routes` until the context's shutdown: then no more connections, and requests under way end within its grace or
/// are cut. `name` distinguishes the listener in metrics; `tls` comes from [`crate::tls::https`].
///
/// # Errors
/// When the listener has no address.
pub async fn serve(
    name: &'static str,
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    routes: Router,
    limits: &Limits,
    context: &Context,
) -> std::io::Result<()> {
    let address = listener.local_addr()?;
    tracing::info!(service = context.service, name, %address, "HTTPS server listens");
    let cut = CancellationToken::new();
    let _cut_on_return = cut.clone().drop_guard();
    let meters = accept::Meters::new(name, context);
    let (incoming, accepting) = accept::incoming(listener, Some(tls), limits, meters, cut);
    let mut incoming = Box::pin(incoming);
    let server = Arc::new(server(limits));
    let graceful = GracefulShutdown::new();
    while let Some(Some(accepted)) = context.shutdown.run_until_cancelled(incoming.next()).await {
        let Ok(io) = accepted else { continue };
        let (server, watcher) = (server.clone(), graceful.watcher());
        let service = TowerToHyperService::new(routes.clone());
        tokio::spawn(async move {
            let connection = server.serve_connection(TokioIo::new(io), service);
            if let Err(error) = watcher.watch(connection.into_owned()).await {
                tracing::debug!(name, %error, "an HTTPS connection broke");
            }
        });
    }
    // The port must be free when this returns.
    drop(incoming);
    let _ = accepting.await;
    if tokio::time::timeout(context.grace, graceful.shutdown())
        .await
        .is_err()
    {
        tracing::warn!(service = context.service, name, grace = ?context.grace, "requests did not end in time and are cut");
    }
    Ok(())
}

fn server(limits: &Limits) -> auto::Builder<TokioExecutor> {
    let mut server = auto::Builder::new(TokioExecutor::new());
    server
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS)
        .max_buf_size((limits.header_list as usize).max(8 << 10));
    server
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams)
        .max_header_list_size(limits.header_list)
        .max_pending_accept_reset_streams(20)
        .max_local_error_reset_streams(1024)
        .keep_alive_interval(Duration::from_secs(30));
    server
}
