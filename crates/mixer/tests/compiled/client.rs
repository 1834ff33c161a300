//! Who calls: over plaintext or over mutual TLS.

use std::io::{BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use runtime::tls::{self, Expected};
use rustls::{ClientConnection, StreamOwned};

use crate::mesh::Sent;
use crate::pair::{HTTP, Pair};

/// A caller.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Caller {
    /// Without identity.
    Plain,
    /// With that of this namespace and account.
    Mesh(&'static str, &'static str),
}

impl Caller {
    pub(crate) const ALL: [Caller; 3] = [
        Caller::Plain,
        Caller::Mesh("shop", "web"),
        Caller::Mesh("other", "job"),
    ];
}

/// A connection's bytes.
pub(crate) trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

/// A connection to a proxy.
pub(crate) fn connect(pair: &Pair, to: SocketAddr, caller: Caller) -> Box<dyn Stream> {
    let tcp = TcpStream::connect(to).unwrap();
    // Only a failing test waits that long.
    tcp.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    tcp.set_nodelay(true).unwrap();
    match caller {
        Caller::Plain => Box::new(tcp),
        Caller::Mesh(namespace, account) => {
            let identity = pair.place.identity(namespace, account);
            let config = tls::client(Arc::new(identity), Expected::Any).unwrap();
            let mut config = (*config).clone();
            // What sidecars say to each other.
            config.alpn_protocols = vec![b"istio".to_vec()];
            let name = rustls::pki_types::ServerName::from(IpAddr::from([127, 0, 0, 1]));
            let client = ClientConnection::new(Arc::new(config), name).unwrap();
            Box::new(StreamOwned::new(client, tcp))
        }
    }
}

/// A connection over HTTP.
pub(crate) struct Http<'a> {
    pair: &'a Pair,
    proxy: u8,
    caller: Caller,
    stream: BufReader<Box<dyn Stream>>,
}

/// What a client sees of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Headers in order, but for those that differ by the time or the connection.
    head: Vec<String>,
    /// A refusal's; the application's shows the request, which has a number of its own.
    body: Option<String>,
}

impl<'a> Http<'a> {
    pub(crate) fn connect(pair: &'a Pair, proxy: u8, caller: Caller) -> Self {
        let stream = connect(pair, pair.place.block.addr(proxy, HTTP), caller);
        Self {
            pair,
            proxy,
            caller,
            stream: BufReader::new(stream),
        }
    }

    pub(crate) fn send(&mut self, sent: &Sent, case: usize) -> Answer {
        let (status, head, body) = sent.send(&mut self.stream, case);
        // Envoy closes a connection after an answer 400 of ext_authz.
        if head.contains("connection: close\r\n") {
            *self = Self::connect(self.pair, self.proxy, self.caller);
        }
        let others = [
            "date:",
            "x-envoy-upstream-service-time:",
            "content-length:",
            "connection:",
        ];
        let kept = |line: &&str| !others.iter().any(|name| line.starts_with(name));
        let mut head: Vec<String> = head.lines().filter(kept).map(str::to_owned).collect();
        head.sort_unstable();
        let body = (status != 200).then_some(body);
        Answer { status, head, body }
    }
}
