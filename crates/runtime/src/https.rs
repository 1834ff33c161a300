//! HTTPS for callers that are no gRPC clients, such as Kubernetes' API server calling webhooks: HTTP/1.1 and HTTP/2 over
//! the same bounded accept loop as gRPC.
//!
//! It knows nothing of what the routes do.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Version, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
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
use crate::readiness::Readiness;
use crate::shutdown::bounded;

/// How long a client may take to send a request's headers.
const HEADERS: Duration = Duration::from_secs(10);
/// How long what is under way at the shutdown may take to come: the end of a handshake, the first request after it.
const UNDER_WAY: Duration = Duration::from_secs(1);

/// Serves `routes` until the context's shutdown: then no more connections, and requests under way end within its grace or
/// are cut. Connections of HTTP/1.1 end with the first response after the process began to shut down: a client whose idle
/// connection is closed just when it sends a request cannot tell whether that was served, and Kubernetes' API server, which
/// calls webhooks by HTTP/1.1, does not repeat it. `name` distinguishes the listener in metrics; `tls` comes from [`crate::tls::https`].
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
    let stop = context.shutdown.clone();
    let (incoming, accepting) = accept::incoming(listener, Some(tls), limits, meters, stop, cut);
    let mut incoming = Box::pin(incoming);
    // Not found out by the first bytes: a connection that has sent none yet would be closed at the shutdown.
    let [http1, http2] = [server(limits).http1_only(), server(limits).http2_only()].map(Arc::new);
    let routes = routes.layer(from_fn_with_state(context.readiness.clone(), last_when_draining));
    let graceful = GracefulShutdown::new();
    let serving = async {
        while let Some(accepted) = incoming.next().await {
            let Ok(io) = accepted else { continue };
            let server = if io.is_http2() { &http2 } else { &http1 }.clone();
            let (watcher, service) = (graceful.watcher(), TowerToHyperService::new(routes.clone()));
            tokio::spawn(async move {
                let connection = server.serve_connection(TokioIo::new(io), service);
                if let Err(error) = watcher.watch(connection.into_owned()).await {
                    tracing::debug!(name, %error, "an HTTPS connection broke");
                }
            });
        }
    };
    // Those whose handshake was under way are served too.
    bounded(serving, &context.shutdown, UNDER_WAY).await;
    // The port must be free when this returns.
    drop(incoming);
    let _ = accepting.await;
    if graceful.count() > 0 {
        tokio::time::sleep(UNDER_WAY).await;
    }
    if tokio::time::timeout(context.grace, graceful.shutdown())
        .await
        .is_err()
    {
        tracing::warn!(service = context.service, name, grace = ?context.grace, "requests did not end in time and are cut");
    }
    Ok(())
}

/// Has HTTP/1.x clients open their next connection elsewhere, once the process drains.
async fn last_when_draining(State(readiness): State<Readiness>, request: Request, next: Next) -> Response {
    let is_http1 = request.version() <= Version::HTTP_11;
    let mut response = next.run(request).await;
    if is_http1 && readiness.is_draining() {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
    response
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

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use axum::routing::get;
    use rcgen::{CertifiedKey, generate_simple_self_signed};
    use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
    use rustls::{ClientConfig, RootCertStore};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;
    use tokio_rustls::TlsConnector;
    use tokio_rustls::client::TlsStream;

    use super::*;
    use crate::logging::LogHandle;

    const NAME: &str = "webhook.test";

    fn configs() -> (Arc<ServerConfig>, Arc<ClientConfig>) {
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(vec![NAME.to_owned()]).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
        let mut roots = RootCertStore::empty();
        roots.add(cert.der().clone()).unwrap();
        let provider = crate::tls::provider();
        let server = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .unwrap();
        let client = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        (Arc::new(server), Arc::new(client))
    }

    async fn opened(client: &Arc<ClientConfig>, address: SocketAddr) -> TlsStream<TcpStream> {
        let tcp = TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from(NAME).unwrap();
        let connector = TlsConnector::from(client.clone());
        connector.connect(name, tcp).await.unwrap()
    }

    async fn ask(stream: &mut TlsStream<TcpStream>) -> String {
        stream
            .write_all(b"GET / HTTP/1.1\r\nhost: webhook.test\r\n\r\n")
            .await
            .unwrap();
        let mut read = Vec::new();
        while !read.ends_with(b"served") {
            assert_ne!(stream.read_buf(&mut read).await.unwrap(), 0, "closed unanswered");
        }
        String::from_utf8(read).unwrap()
    }

    #[tokio::test]
    async fn a_connection_of_http1_ends_with_a_response_and_not_between_two() {
        let (server, client) = configs();
        let context = Context::new("test", LogHandle::detached(), Duration::from_secs(5));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let routes = Router::new().route("/", get(|| async { "served" }));
        let serving = context.clone();
        let served = tokio::spawn(async move {
            serve("test", listener, server, routes, &Limits::default(), &serving).await
        });

        let mut stream = opened(&client, address).await;
        for _ in 0..2 {
            assert!(!ask(&mut stream).await.contains("connection: close"));
        }
        context.readiness.drain();
        assert!(ask(&mut stream).await.contains("connection: close"));
        assert_eq!(
            stream.read_u8().await.unwrap_err().kind(),
            std::io::ErrorKind::UnexpectedEof
        );

        let mut late = opened(&client, address).await;
        context.shutdown.cancel();
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
        assert!(ask(&mut late).await.contains("connection: close"));
        served.await.unwrap().unwrap();
    }
}
