//! `statsd` and `dogstatsd`: metrics in UDP datagrams. What a datagram loses is lost: the protocol has no answers.

mod lines;

use std::time::Duration;

use policy::{Dogstatsd, InstanceValue, Statsd};
use tokio::net::{UdpSocket, lookup_host};

use super::{Batching, Fault};
pub(super) use lines::Dialect;

/// How long a value waits for others of a dogstatsd datagram (Istio's adapter).
const LINGER: Duration = Duration::from_millis(100);
/// Largest dogstatsd datagram in bytes: what the agent reads by default.
const DATAGRAM: usize = 8192;

/// The adapter.
pub(super) struct Adapter {
    dialect: Dialect,
    address: String,
    linger: Duration,
    /// Largest datagram in bytes, and most values in one.
    datagram: usize,
    values: usize,
}

impl Adapter {
    /// Of a statsd handler.
    pub(super) fn statsd(statsd: &Statsd) -> Self {
        Self {
            address: statsd.address.clone(),
            linger: Duration::from_nanos(statsd.flush.unsigned_abs()),
            datagram: statsd.datagram,
            values: usize::MAX,
            dialect: Dialect::Statsd(statsd.clone()),
        }
    }

    /// Of a dogstatsd handler.
    pub(super) fn dogstatsd(dogstatsd: &Dogstatsd) -> Self {
        Self {
            address: dogstatsd.address.clone(),
            linger: LINGER,
            datagram: DATAGRAM,
            values: dogstatsd.buffer,
            dialect: Dialect::Dogstatsd(dogstatsd.clone()),
        }
    }
}

#[tonic::async_trait]
impl super::Adapter for Adapter {
    fn batching(&self) -> Batching {
        Batching {
            linger: self.linger,
            ..Batching::default()
        }
    }

    async fn report(&self, batch: &[InstanceValue]) -> Result<(), Fault> {
        let lines: Vec<String> = batch
            .iter()
            .filter_map(|instance| self.dialect.lines(instance, rand::random::<f64>()))
            .collect();
        let away = |error: std::io::Error| Fault::Away(format!("{}: {error}", self.address));
        // Looked up for each batch: the name may come to mean another address.
        let found = lookup_host(&self.address).await.map_err(away)?.next();
        let address = found.ok_or_else(|| Fault::Away(format!("{}: no such host", self.address)))?;
        let own = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(own).await.map_err(away)?;
        socket.connect(address).await.map_err(away)?;
        for datagram in lines::datagrams(&lines, self.datagram, self.values) {
            socket.send(datagram.as_bytes()).await.map_err(away)?;
        }
        Ok(())
    }
}
