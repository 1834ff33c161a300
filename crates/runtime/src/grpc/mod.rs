//! gRPC over TCP and mutual TLS: a bounded accept loop for servers, channels for clients.
//!
//! It knows nothing of services' messages.

pub(crate) mod accept;
mod io;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Extensions;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::{Channel, Endpoint, Server};

pub use accept::Accepted;
pub use io::Io;

use crate::context::Context;
use crate::shutdown::bounded;
use crate::spiffe::Peer;
use crate::tls::Connector;

/// Largest gRPC message by default, in bytes. Set it on each generated server and client that differs.
pub const MAX_MESSAGE: usize = 4 << 20;

/// Bounds of one gRPC listener.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections at once, handshakes included; one more is closed when accepted.
    pub connections: usize,
    /// Streams at once on a connection.
    pub streams: u32,
    /// How long a TLS handshake may take, and then HTTP/2's preface.
    pub handshake: Duration,
    /// How long a client may read nothing of what is written to it.
    pub blocked: Duration,
    /// Bytes of request headers.
    pub header_list: u32,
    /// A connection is asked to go (and come again, through a new handshake) at this age; `None` for never.
    pub connection_age: Option<Duration>,
    /// Bytes that a stream may have in flight before the receiver reads, in each direction.
    pub stream_window: u32,
    /// Bytes that a connection may have in flight before the receiver reads, in each direction.
    pub connection_window: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            streams: 256,
            handshake: Duration::from_secs(10),
            blocked: Duration::from_secs(60),
            header_list: 16 << 10,
            connection_age: None,
            stream_window: 1 << 20,
            connection_window: 2 << 20,
        }
    }
}

/// What a server knows of a connection; in the extensions of each of its requests.
#[derive(Debug, Clone)]
pub struct ConnectInfo {
    /// The other end's address; `None` when it was gone before it could be asked.
    pub remote: Option<SocketAddr>,
    /// The other end's verified identity; `None` in plaintext, and for a client that showed no certificate.
    pub peer: Option<Arc<Peer>>,
    /// The serial number of the other end's certificate, hexadecimal with colons.
    pub serial: Option<Arc<str>>,
    /// Cuts the connection at once, for a client that holds more than it should.
    pub cut: CancellationToken,
}

/// The verified identity of a request's sender, from the request's extensions.
#[must_use]
pub fn peer(extensions: &Extensions) -> Option<&Peer> {
    extensions.get::<ConnectInfo>()?.peer.as_deref()
}

/// The serial number of the certificate that a request's sender showed, from the request's extensions.
#[must_use]
pub fn serial(extensions: &Extensions) -> Option<&str> {
    extensions.get::<ConnectInfo>()?.serial.as_deref()
}

/// The address of a request's sender, from the request's extensions.
#[must_use]
pub fn remote(extensions: &Extensions) -> Option<SocketAddr> {
    extensions.get::<ConnectInfo>()?.remote
}

/// What cuts the connection of a request's sender, from the request's extensions.
#[must_use]
pub fn cut(extensions: &Extensions) -> Option<CancellationToken> {
    Some(extensions.get::<ConnectInfo>()?.cut.clone())
}

/// A server could not serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Plaintext was asked for on an address that others can reach.
    #[error("refusing to serve gRPC without TLS on {0}: plaintext is for loopback addresses only")]
    Plaintext(SocketAddr),
    /// The listener has no address.
    #[error("the listener is broken: {0}")]
    Listener(#[from] std::io::Error),
    /// tonic gave up.
    #[error("gRPC server: {0}")]
    Server(#[from] tonic::transport::Error),
}

/// tonic's server with these limits, for callers that bring their own connections.
#[must_use]
pub fn server(limits: &Limits) -> Server {
    let server = Server::builder()
        .max_concurrent_streams(limits.streams)
        .initial_stream_window_size(limits.stream_window)
        .initial_connection_window_size(limits.connection_window)
        .http2_max_header_list_size(limits.header_list)
        .http2_max_pending_accept_reset_streams(Some(20))
        .http2_max_local_error_reset_streams(Some(1024))
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .http2_keepalive_timeout(Some(Duration::from_secs(20)));
    match limits.connection_age {
        Some(age) => server
            .max_connection_age(age)
            .max_connection_age_grace(Duration::from_secs(30)),
        None => server,
    }
}

/// Serves until the context's shutdown: then no more connections, and requests under way end within its grace or are cut.
///
/// `name` distinguishes the listener in metrics. `tls` comes from [`crate::tls::server`].
///
/// # Errors
/// When plaintext is asked for on an address that is not loopback, or the server fails.
pub async fn serve(
    name: &'static str,
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    routes: Routes,
    limits: &Limits,
    context: &Context,
) -> Result<(), ServeError> {
    let address = listener.local_addr()?;
    if tls.is_none() && !address.ip().is_loopback() {
        return Err(ServeError::Plaintext(address));
    }
    tracing::info!(service = context.service, name, %address, mtls = tls.is_some(), "gRPC server listens");
    let cut = CancellationToken::new();
    let _cut_on_return = cut.clone().drop_guard();
    let stop = context.shutdown.clone();
    let meters = accept::Meters::new(name, context);
    let (incoming, accepting) = accept::incoming(listener, tls, limits, meters, stop.clone(), cut);
    let serving = server(limits)
        .add_routes(routes)
        .serve_with_incoming_shutdown(incoming, stop.cancelled());
    let served = bounded(serving, &context.shutdown, context.grace).await;
    // The port must be free when this returns.
    let _ = accepting.await;
    match served {
        Some(result) => Ok(result?),
        None => {
            tracing::warn!(service = context.service, name, grace = ?context.grace, "connections did not end in time and are cut");
            Ok(())
        }
    }
}

/// An address cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{address:?} is not an address: {reason}; write HOST:PORT")]
pub struct AddressError {
    address: String,
    reason: String,
}

/// Checks `HOST:PORT` and makes an endpoint of it, with keep-alives that notice a dead peer within half a minute.
///
/// # Errors
/// When it is not `HOST:PORT`.
pub fn endpoint(address: &str) -> Result<Endpoint, AddressError> {
    let wrong = |reason: String| AddressError {
        address: address.to_owned(),
        reason,
    };
    let uri: http::Uri = format!("http://{address}")
        .parse()
        .map_err(|e: http::uri::InvalidUri| wrong(e.to_string()))?;
    if uri.port_u16().is_none() || !matches!(uri.path(), "" | "/") || address.contains('@') {
        return Err(wrong("a port and nothing behind it is needed".into()));
    }
    let endpoint = Endpoint::from(uri)
        .connect_timeout(Duration::from_secs(10))
        .http2_keep_alive_interval(Duration::from_secs(15))
        .keep_alive_timeout(Duration::from_secs(15))
        .keep_alive_while_idle(true)
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(2 << 20)
        .tcp_nodelay(true);
    Ok(endpoint)
}

/// A channel that connects when first used, and again when the connection breaks; `None` means plaintext.
///
/// # Errors
/// When the address is not `HOST:PORT`.
pub fn channel(address: &str, connector: Option<Connector>) -> Result<Channel, AddressError> {
    let endpoint = endpoint(address)?;
    Ok(match connector {
        Some(connector) => endpoint.connect_with_connector_lazy(connector),
        None => endpoint.connect_lazy(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_a_port_and_nothing_else() {
        for good in ["127.0.0.1:80", "[::1]:80", "pilot.argosy-system:15012"] {
            assert!(endpoint(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "pilot",
            "pilot:",
            "pilot:x",
            "http://pilot:80",
            "pilot:80/x",
            "a@pilot:80",
            "pi lot:80",
        ] {
            assert!(endpoint(bad).is_err(), "{bad}");
        }
    }
}
