//! A connector for tonic: TCP, then a TLS handshake, each bounded in time.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::explain::explain;

/// How long a TCP connection or a TLS handshake may take.
const LIMIT: Duration = Duration::from_secs(5);

/// A connection could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The URI lacks a host or a port.
    #[error("{0} is not an address; write HOST:PORT")]
    Address(Uri),
    /// TCP failed.
    #[error("cannot connect to {address}: {source}")]
    Tcp {
        /// HOST:PORT.
        address: String,
        /// The system's error.
        source: std::io::Error,
    },
    /// The handshake failed: the peer is not who it should be, or does not accept us.
    #[error("TLS handshake with {address}: {reason}")]
    Tls {
        /// HOST:PORT.
        address: String,
        /// What went wrong.
        reason: String,
    },
    /// No answer in time.
    #[error("no answer from {0} within {secs} s", secs = LIMIT.as_secs())]
    Timeout(String),
}

/// A tower service from URI to TLS connection, for `Endpoint::connect_with_connector`.
#[derive(Debug, Clone)]
pub struct Connector(Arc<ClientConfig>);

impl Connector {
    /// A connector with this configuration.
    #[must_use]
    pub fn new(config: Arc<ClientConfig>) -> Self {
        Self(config)
    }

    /// Connects to `host:port` and shakes hands.
    ///
    /// # Errors
    /// When TCP or TLS fail or take longer than 5 s each.
    pub async fn connect(&self, host: &str, port: u16) -> Result<TlsStream<TcpStream>, ConnectError> {
        let address = format!("{host}:{port}");
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let late = || ConnectError::Timeout(address.clone());
        let tcp = tokio::time::timeout(LIMIT, TcpStream::connect((host, port)))
            .await
            .map_err(|_| late())?;
        let tcp = tcp.map_err(|source| ConnectError::Tcp {
            address: address.clone(),
            source,
        })?;
        // Small messages must not wait for the peer's ACK; failure to set this only costs latency.
        let _ = tcp.set_nodelay(true);
        // The name is not verified (the SPIFFE id is), so any well-formed one will do.
        let any = ServerName::try_from("argosy.invalid");
        let any = any.map_err(|e| ConnectError::Tls {
            address: address.clone(),
            reason: e.to_string(),
        })?;
        let handshake = TlsConnector::from(self.0.clone()).connect(any, tcp);
        let tls = tokio::time::timeout(LIMIT, handshake).await.map_err(|_| late())?;
        tls.map_err(|e| ConnectError::Tls {
            address,
            reason: explain(&e),
        })
    }
}

impl tower::Service<Uri> for Connector {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move {
            let (Some(host), Some(port)) = (uri.host(), uri.port_u16()) else {
                return Err(ConnectError::Address(uri));
            };
            connector.connect(host, port).await.map(TokioIo::new)
        })
    }
}
