//! One accepted connection, as tonic takes it, and what its client may not do: open it and say nothing, or ask and read nothing.
//!
//! HTTP/2's keep-alive does not see either: it begins when the client's preface (RFC 9113, section 3.4) is there, and its last
//! frame waits with the others while the client reads nothing.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::FutureExt;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

use super::accept::Slot;
use super::{ConnectInfo, Limits};

/// Bytes of a client's connection preface of HTTP/2 (RFC 9113, section 3.4), without its SETTINGS.
const PREFACE: usize = 24;

pub(super) enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// How long a client may leave the server waiting.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// For its first bytes.
    opening: Duration,
    /// For room to write more.
    blocked: Duration,
}

impl From<&Limits> for Patience {
    fn from(limits: &Limits) -> Self {
        Self {
            opening: limits.handshake,
            blocked: limits.blocked,
        }
    }
}

/// Why a connection is broken from here.
#[derive(Clone, Copy, Debug)]
enum Cut {
    Stopped,
    Silent,
    Blocked,
    Stuck,
}

impl Cut {
    /// The label in metrics, and what the log says; none for what is not the client's doing.
    fn of_client(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Stopped => None,
            Self::Silent => Some(("silent", "it sent no preface of HTTP/2 in time")),
            Self::Blocked => Some(("blocked", "it does not read what it is sent")),
            Self::Stuck => Some((
                "stuck",
                "it asked for responses and gives HTTP/2 no window for them",
            )),
        }
    }
}

/// A connection with what is known of its other end. It breaks when its server cuts connections.
pub struct Io {
    transport: Transport,
    info: ConnectInfo,
    patience: Patience,
    /// Bytes of the preface that have not come, and how long they may take.
    opening: Option<(usize, Pin<Box<Sleep>>)>,
    /// How long what waits to be written may still do so.
    blocked: Option<Pin<Box<Sleep>>>,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    is_cut: bool,
    /// Whether it has been said why this connection breaks.
    told: bool,
    /// All connections of the server.
    server: CancellationToken,
    /// Gives its place back when the connection ends.
    slot: Slot,
}

impl std::fmt::Debug for Io {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Io")
            .field("info", &self.info)
            .finish_non_exhaustive()
    }
}

impl Io {
    /// `server` cuts all connections of the server; `info.cut` is a child of it.
    pub(super) fn new(
        transport: Transport,
        info: ConnectInfo,
        patience: Patience,
        server: CancellationToken,
        slot: Slot,
    ) -> Self {
        Self {
            transport,
            cut: Box::pin(info.cut.clone().cancelled_owned()),
            info,
            patience,
            opening: Some((PREFACE, Box::pin(sleep(patience.opening)))),
            blocked: None,
            is_cut: false,
            told: false,
            server,
            slot,
        }
    }

    /// Whether both ends agreed on HTTP/2 in the handshake (ALPN).
    pub(crate) fn is_http2(&self) -> bool {
        match &self.transport {
            Transport::Plain(_) => false,
            Transport::Tls(stream) => stream.get_ref().1.alpn_protocol() == Some(b"h2"),
        }
    }

    fn poll_cut(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.is_cut = self.is_cut || self.cut.poll_unpin(cx).is_ready();
        match (self.is_cut, self.server.is_cancelled()) {
            (false, _) => Ok(()),
            (true, true) => Err(self.broken(Cut::Stopped)),
            (true, false) => Err(self.broken(Cut::Stuck)),
        }
    }

    fn poll_opening(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let late = |(_, deadline): &mut (usize, Pin<Box<Sleep>>)| deadline.as_mut().poll(cx).is_ready();
        if self.opening.as_mut().is_some_and(late) {
            return Err(self.broken(Cut::Silent));
        }
        Ok(())
    }

    fn opened(&mut self, read: usize) {
        self.opening = self.opening.take().and_then(|(missing, deadline)| {
            Some((missing.checked_sub(read).filter(|left| *left > 0)?, deadline))
        });
    }

    /// What was tried to be written: when it waits, it does not do so for ever.
    fn poll_written<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.blocked = None;
            return written;
        }
        let patience = self.patience.blocked;
        let deadline = self.blocked.get_or_insert_with(|| Box::pin(sleep(patience)));
        ready!(deadline.as_mut().poll(cx));
        Poll::Ready(Err(self.broken(Cut::Blocked)))
    }

    fn broken(&mut self, cut: Cut) -> io::Error {
        let Some((label, reason)) = cut.of_client() else {
            return io::Error::new(io::ErrorKind::ConnectionAborted, "the server has stopped");
        };
        if !std::mem::replace(&mut self.told, true) {
            self.slot.count_cut(label);
            let peer = self.info.peer.as_ref().map(|peer| peer.spiffe_id.to_string());
            tracing::warn!(remote = ?self.info.remote, peer, "a client's connection is cut: {reason}");
        }
        io::Error::new(io::ErrorKind::TimedOut, reason)
    }
}

impl Connected for Io {
    type ConnectInfo = ConnectInfo;
    fn connect_info(&self) -> ConnectInfo {
        self.info.clone()
    }
}

macro_rules! forward {
    ($self:ident, $io:ident => $call:expr) => {
        match &mut $self.transport {
            Transport::Plain($io) => {
                let $io = Pin::new($io);
                $call
            }
            Transport::Tls($io) => {
                let $io = Pin::new(&mut **$io);
                $call
            }
        }
    };
}

impl AsyncRead for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_cut(cx)?;
        self.poll_opening(cx)?;
        let before = buf.filled().len();
        ready!(forward!(self, io => io.poll_read(cx, buf)))?;
        self.opened(buf.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Io {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_cut(cx)?;
        let written = forward!(self, io => io.poll_write(cx, buf));
        self.poll_written(cx, written)
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_cut(cx)?;
        let written = forward!(self, io => io.poll_write_vectored(cx, bufs));
        self.poll_written(cx, written)
    }
    fn is_write_vectored(&self) -> bool {
        match &self.transport {
            Transport::Plain(io) => io.is_write_vectored(),
            Transport::Tls(io) => io.is_write_vectored(),
        }
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_cut(cx)?;
        let flushed = forward!(self, io => io.poll_flush(cx));
        self.poll_written(cx, flushed)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = forward!(self, io => io.poll_shutdown(cx));
        self.poll_written(cx, shut)
    }
}
