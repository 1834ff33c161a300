//! The accept loop: handshakes run beside each other, bounded in number and time; a bad one costs nobody else anything.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::Stream;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use rustls::ServerConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use super::io::{Io, Patience, Transport};
use super::{ConnectInfo, Limits};
use crate::context::Context;
use crate::tls::{explain, read_peer, read_serial};

/// Longest wait for a refused peer to read why.
const LINGER: Duration = Duration::from_secs(1);
/// Most bytes that are read of a refused peer.
const LINGER_BYTES: u64 = 64 << 10;

/// What the accept loop yields.
pub type Accepted = io::Result<Io>;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ListenerLabel {
    service: &'static str,
    listener: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusedLabel {
    service: &'static str,
    listener: &'static str,
    reason: &'static str,
}

/// Counts of one listener.
#[derive(Clone)]
pub(crate) struct Meters {
    label: ListenerLabel,
    open: Gauge,
    accepted: Counter,
    refused: Family<RefusedLabel, Counter>,
    cut: Family<RefusedLabel, Counter>,
}

impl Meters {
    pub(crate) fn new(listener: &'static str, context: &Context) -> Self {
        let label = ListenerLabel {
            service: context.service,
            listener,
        };
        let metrics = &context.metrics;
        let open = metrics.family::<ListenerLabel, Gauge>("argosy_grpc_connections", "Open gRPC connections");
        let accepted = metrics.family::<ListenerLabel, Counter>(
            "argosy_grpc_connections_total",
            "gRPC connections that were accepted",
        );
        let refused = metrics.family(
            "argosy_grpc_connections_refused_total",
            "Connections refused before a request: too many, or no valid TLS handshake",
        );
        let cut = metrics.family(
            "argosy_grpc_connections_cut_total",
            "Connections cut for what their clients do: silent, blocked (reads nothing), stuck (no window for responses)",
        );
        Self {
            open: open.get_or_create_owned(&label),
            accepted: accepted.get_or_create_owned(&label),
            refused,
            cut,
            label,
        }
    }

    fn refuse(&self, reason: &'static str) {
        self.refused.get_or_create(&self.reason(reason)).inc();
    }

    fn reason(&self, reason: &'static str) -> RefusedLabel {
        let ListenerLabel { service, listener } = self.label;
        RefusedLabel {
            service,
            listener,
            reason,
        }
    }
}

/// A connection's place among the bounded number of them; given back when dropped.
pub(super) struct Slot {
    taken: Arc<AtomicUsize>,
    meters: Meters,
}

impl Slot {
    fn take(taken: &Arc<AtomicUsize>, bound: usize, meters: &Meters) -> Option<Self> {
        let fits = |n: usize| (n < bound).then_some(n + 1);
        taken
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits)
            .ok()?;
        meters.open.inc();
        Some(Self {
            taken: taken.clone(),
            meters: meters.clone(),
        })
    }

    /// Counts that the connection is cut for that reason.
    pub(super) fn count_cut(&self, reason: &'static str) {
        let label = self.meters.reason(reason);
        self.meters.cut.get_or_create(&label).inc();
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.taken.fetch_sub(1, Ordering::Relaxed);
        self.meters.open.dec();
    }
}

struct Acceptor {
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    handshake: Duration,
    patience: Patience,
    bound: usize,
    taken: Arc<AtomicUsize>,
    meters: Meters,
    /// Nobody is accepted any more.
    stop: CancellationToken,
    cut: CancellationToken,
}

/// Accepts until `stop` or until the stream is dropped; the listener is closed when the task has ended. After `stop` the stream
/// ends once the handshakes that were under way have.
pub(crate) fn incoming(
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    limits: &Limits,
    meters: Meters,
    stop: CancellationToken,
    cut: CancellationToken,
) -> (impl Stream<Item = Accepted> + use<>, JoinHandle<()>) {
    let (ready, accepted) = mpsc::channel(64);
    let acceptor = Acceptor {
        listener,
        tls: tls.map(TlsAcceptor::from),
        handshake: limits.handshake,
        patience: limits.into(),
        bound: limits.connections,
        taken: Arc::default(),
        meters,
        stop,
        cut,
    };
    let task = tokio::spawn(acceptor.run(ready));
    (ReceiverStream::new(accepted), task)
}

impl Acceptor {
    async fn run(self, ready: mpsc::Sender<Accepted>) {
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = ready.closed() => return,
                () = self.stop.cancelled() => return,
            };
            match accepted {
                Ok((tcp, _)) => self.take(tcp, &ready),
                // Out of file descriptors, or a connection that was reset: wait for things to get better.
                Err(error) => {
                    tracing::warn!(listener = self.meters.label.listener, %error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    fn take(&self, tcp: TcpStream, ready: &mpsc::Sender<Accepted>) {
        let Some(slot) = Slot::take(&self.taken, self.bound, &self.meters) else {
            self.meters.refuse("too_many");
            return;
        };
        let _ = tcp.set_nodelay(true);
        let shake = handshake(tcp, self.tls.clone(), slot, self.patience, self.cut.clone());
        let (limit, meters, ready) = (self.handshake, self.meters.clone(), ready.clone());
        tokio::spawn(async move {
            let done = tokio::select! {
                done = tokio::time::timeout(limit, shake) => done,
                () = ready.closed() => return,
            };
            match done {
                Ok(Ok(io)) => {
                    meters.accepted.inc();
                    let _ = ready.send(Ok(io)).await;
                }
                Ok(Err(error)) => {
                    meters.refuse("handshake");
                    tracing::info!(listener = meters.label.listener, %error, "connection refused");
                }
                Err(_) => meters.refuse("handshake_timeout"),
            }
        });
    }
}

#[derive(Debug, thiserror::Error)]
#[error("{remote}: {reason}")]
struct HandshakeError {
    remote: String,
    reason: String,
}

async fn handshake(
    tcp: TcpStream,
    tls: Option<TlsAcceptor>,
    slot: Slot,
    patience: Patience,
    server: CancellationToken,
) -> Result<Io, HandshakeError> {
    let remote = tcp.peer_addr().ok();
    let cut = server.child_token();
    let Some(tls) = tls else {
        let info = ConnectInfo {
            remote,
            peer: None,
            serial: None,
            cut,
        };
        return Ok(Io::new(Transport::Plain(tcp), info, patience, server, slot));
    };
    let failed = |reason: String| HandshakeError {
        remote: remote.map_or_else(|| "?".into(), |a| a.to_string()),
        reason,
    };
    let stream = match tls.accept(tcp).into_fallible().await {
        Ok(stream) => stream,
        Err((error, tcp)) => {
            linger(tcp).await;
            return Err(failed(explain(&error)));
        }
    };
    let leaf = stream
        .get_ref()
        .1
        .peer_certificates()
        .and_then(|chain| chain.first());
    let peer = leaf
        .map(read_peer)
        .transpose()
        .map_err(|e| failed(e.to_string()))?;
    let info = ConnectInfo {
        remote,
        peer: peer.map(Arc::new),
        serial: leaf.and_then(read_serial).map(Into::into),
        cut,
    };
    let transport = Transport::Tls(Box::new(stream));
    Ok(Io::new(transport, info, patience, server, slot))
}

/// Ends a refused connection so that the peer gets the alert: what it has sent already would, if nobody read it, make the kernel
/// reset the connection and throw away what the peer has not read.
async fn linger(mut tcp: TcpStream) {
    let drain = async {
        tcp.shutdown().await?;
        tokio::io::copy(&mut tcp.take(LINGER_BYTES), &mut tokio::io::sink()).await
    };
    _ = tokio::time::timeout(LINGER, drain).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_refused_peer_that_has_sent_something_reads_why() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        peer.write_all(&[0; 50_000]).await.unwrap();
        peer.shutdown().await.unwrap();
        let (mut tcp, _) = listener.accept().await.unwrap();
        tcp.write_all(b"why").await.unwrap();
        linger(tcp).await;
        let mut read = Vec::new();
        peer.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, b"why");
    }
}
