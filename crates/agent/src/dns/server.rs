//! The server's sockets, and the servers beyond: bounded in number, size and time.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use runtime::Metrics;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use super::answer::{Answer, Way, answer, failure};
use super::names::Names;

/// Most requests at once; more get no answer, and clients ask again.
const AT_ONCE: usize = 1024;
/// How long one server beyond may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a connection may be silent.
const SILENCE: Duration = Duration::from_secs(20);
/// Largest message over UDP.
const MAX_MESSAGE: usize = 4096;
/// Port of DNS.
const DNS: u16 = 53;

/// Answers DNS. Clones share it.
#[derive(Debug, Clone)]
pub struct Server {
    names: watch::Receiver<Arc<Names>>,
    beyond: Arc<[SocketAddr]>,
    room: Arc<Semaphore>,
    answered: Counter,
    passed_on: Counter,
    failed: Counter,
}

impl Server {
    /// A server of these names; `beyond` are the machine's own servers.
    #[must_use]
    pub fn new(names: watch::Receiver<Arc<Names>>, beyond: &[IpAddr], metrics: &Metrics) -> Self {
        Self::with(
            names,
            beyond.iter().map(|ip| SocketAddr::new(*ip, DNS)).collect(),
            metrics,
        )
    }

    fn with(names: watch::Receiver<Arc<Names>>, beyond: Arc<[SocketAddr]>, metrics: &Metrics) -> Self {
        Self {
            names,
            beyond,
            room: Arc::new(Semaphore::new(AT_ONCE)),
            answered: metrics.counter(
                "argosy_agent_dns_answers_total",
                "DNS requests that were answered by the mesh's names",
            ),
            passed_on: metrics.counter(
                "argosy_agent_dns_upstream_requests_total",
                "DNS requests that were passed on to the machine's own servers",
            ),
            failed: metrics.counter(
                "argosy_agent_dns_failures_total",
                "DNS requests that no server answered",
            ),
        }
    }

    /// Serves packets and connections until `end`.
    pub async fn serve(self, udp: UdpSocket, tcp: TcpListener, end: CancellationToken) {
        let both = async { tokio::join!(self.packets(udp), self.connections(tcp)) };
        end.run_until_cancelled(both).await;
    }

    async fn packets(&self, socket: UdpSocket) {
        let socket = Arc::new(socket);
        let mut buffer = [0; MAX_MESSAGE];
        loop {
            // An error is the last answer's, to a client that has gone.
            let Ok((length, from)) = socket.recv_from(&mut buffer).await else {
                continue;
            };
            let Ok(permit) = self.room.clone().try_acquire_owned() else {
                continue;
            };
            let message = buffer.get(..length).unwrap_or_default().to_vec();
            let (server, socket) = (self.clone(), socket.clone());
            tokio::spawn(async move {
                if let Some(reply) = server.reply(&message, Way::Udp).await {
                    _ = socket.send_to(&reply, from).await;
                }
                drop(permit);
            });
        }
    }

    async fn connections(&self, listener: TcpListener) {
        loop {
            let accepted = listener.accept().await;
            let (Ok((stream, _)), Ok(permit)) = (accepted, self.room.clone().try_acquire_owned()) else {
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            };
            let server = self.clone();
            tokio::spawn(async move {
                _ = server.connection(stream).await;
                drop(permit);
            });
        }
    }

    async fn connection(&self, mut stream: TcpStream) -> io::Result<()> {
        loop {
            let message = tokio::time::timeout(SILENCE, read(&mut stream)).await??;
            let Some(reply) = self.reply(&message, Way::Tcp).await else {
                return Ok(());
            };
            write(&mut stream, &reply).await?;
        }
    }

    async fn reply(&self, message: &[u8], way: Way) -> Option<Vec<u8>> {
        let names = self.names.borrow().clone();
        match answer(message, &names, way) {
            Answer::Nothing => None,
            Answer::Here(reply) => {
                self.answered.inc();
                Some(reply)
            }
            Answer::Beyond => {
                self.passed_on.inc();
                let reply = self.ask_beyond(message, way).await;
                if reply.is_none() {
                    self.failed.inc();
                }
                reply.or_else(|| failure(message))
            }
        }
    }

    /// The first answer of the machine's own servers, asked one after the other.
    async fn ask_beyond(&self, message: &[u8], way: Way) -> Option<Vec<u8>> {
        for server in self.beyond.iter() {
            let asked = async {
                match way {
                    Way::Udp => over_udp(*server, message).await,
                    Way::Tcp => over_tcp(*server, message).await,
                }
            };
            match tokio::time::timeout(PATIENCE, asked).await {
                Ok(Ok(reply)) => return Some(reply),
                Ok(Err(error)) => tracing::debug!(%server, %error, "a DNS server cannot be asked"),
                Err(_) => tracing::debug!(%server, "a DNS server does not answer"),
            }
        }
        None
    }
}

/// From a port of its own each time, and the answer must be to this very message: others could guess.
async fn over_udp(server: SocketAddr, message: &[u8]) -> io::Result<Vec<u8>> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(message).await?;
    let mut buffer = vec![0; usize::from(u16::MAX)];
    loop {
        let length = socket.recv(&mut buffer).await?;
        let reply = buffer.get(..length).unwrap_or_default();
        if reply.get(..2) == message.get(..2) {
            return Ok(reply.to_vec());
        }
    }
}

async fn over_tcp(server: SocketAddr, message: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    write(&mut stream, message).await?;
    read(&mut stream).await
}

/// Over TCP a message has its length in front (RFC 1035, 4.2.2).
async fn read(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let length = stream.read_u16().await?;
    let mut message = vec![0; usize::from(length)];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

async fn write(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), message].concat()).await
}

#[cfg(test)]
mod tests {
    use simple_dns::{CLASS, Name, Packet, QCLASS, QTYPE, Question, RCODE, TYPE};

    use super::super::names::tests::names;
    use super::*;

    async fn start(names: Names, beyond: Vec<SocketAddr>) -> SocketAddr {
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = udp.local_addr().unwrap();
        let tcp = TcpListener::bind(address).await.unwrap();
        let names = watch::Sender::new(Arc::new(names)).subscribe();
        let server = Server::with(names, beyond.into(), &Metrics::new());
        tokio::spawn(server.serve(udp, tcp, CancellationToken::new()));
        address
    }

    fn question(name: &str) -> Vec<u8> {
        let mut packet = Packet::new_query(9);
        let name = Name::new(name).unwrap().into_owned();
        let question = Question::new(name, QTYPE::TYPE(TYPE::A), QCLASS::CLASS(CLASS::IN), false);
        packet.questions.push(question);
        packet.build_bytes_vec().unwrap()
    }

    /// How many answers there are, or why there is none, by packet and by connection.
    async fn asks(server: SocketAddr, name: &str) -> [(usize, RCODE); 2] {
        let message = question(name);
        let replies = [
            over_udp(server, &message).await.unwrap(),
            over_tcp(server, &message).await.unwrap(),
        ];
        replies.map(|reply| {
            let reply = Packet::parse(&reply).unwrap();
            assert_eq!(reply.id(), 9);
            (reply.answers.len(), reply.rcode())
        })
    }

    #[tokio::test]
    async fn the_meshs_names_are_answered_and_others_by_the_servers_beyond() {
        let known = start(names(), Vec::new()).await;
        assert_eq!(asks(known, "web").await, [(1, RCODE::NoError); 2]);
        assert_eq!(asks(known, "other.example").await, [(0, RCODE::ServerFailure); 2]);
        // The first server beyond is away; the second is the one that knows.
        let closed: SocketAddr = "127.0.0.1:9".parse().unwrap();
        let passing = start(Names::default(), vec![closed, known]).await;
        assert_eq!(asks(passing, "web").await, [(1, RCODE::NoError); 2]);
    }
}
