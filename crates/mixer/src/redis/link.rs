//! Connections to one server, to a cluster, or to the master that sentinels name. They are made off the requests' path: a
//! request waits for its deadline at most, and finds the connection there later.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ::redis::aio::{ConnectionLike, ConnectionManager, ConnectionManagerConfig, MultiplexedConnection};
use ::redis::cluster::ClusterClient;
use ::redis::cluster_async::ClusterConnection;
use ::redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use ::redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, IntoConnectionInfo, Pipeline, RedisError,
    RedisFuture, TlsMode, Value,
};
use parking_lot::Mutex;
use policy::{RedisPlace, RedisServer};
use tokio::sync::OnceCell;

use super::tls::Certificates;

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(1);

/// How a Redis is reached.
pub(super) enum Link {
    /// Connections that mend themselves, taken in turn.
    Server {
        connections: Vec<ConnectionManager>,
        turn: AtomicUsize,
    },
    /// One that is made when it is first needed, and anew after a failure.
    Made {
        maker: Arc<Maker>,
        made: Mutex<Arc<OnceCell<Connection>>>,
    },
}

/// What makes a connection that somebody else points to.
pub(super) enum Maker {
    /// Follows the cluster's own failovers.
    Cluster(Box<ClusterClient>),
    /// Finds the master.
    Sentinel(Box<tokio::sync::Mutex<SentinelClient>>, AsyncConnectionConfig),
}

/// A connection. Copies share it.
#[derive(Clone)]
pub(super) enum Connection {
    Server(ConnectionManager),
    Cluster(ClusterConnection),
    Master(MultiplexedConnection),
}

fn url(address: &str, secure: bool) -> String {
    let scheme = if secure { "rediss" } else { "redis" };
    format!("{scheme}://{address}/")
}

/// A client of one server.
fn client(address: &str, certificates: Option<&Certificates>) -> Result<Client, RedisError> {
    let url = url(address, certificates.is_some());
    match certificates {
        None => Client::open(url),
        Some(certificates) => Client::build_with_tls(url, certificates.client()),
    }
}

/// Sentinels, and what they call the master.
fn sentinel(
    sentinels: &[String],
    master: &str,
    certificates: Option<&Certificates>,
) -> Result<SentinelClient, RedisError> {
    let place = |address: &String| {
        let info = url(address, certificates.is_some()).into_connection_info()?;
        Ok(info.addr().clone())
    };
    let places: Vec<ConnectionAddr> = sentinels.iter().map(place).collect::<Result<_, RedisError>>()?;
    let mut builder = SentinelClientBuilder::new(places, master, SentinelServerType::Master)?;
    if let Some(certificates) = certificates {
        builder = builder
            .set_client_to_redis_tls_mode(TlsMode::Secure)
            .set_client_to_redis_certificates(certificates.client())
            .set_client_to_sentinel_tls_mode(TlsMode::Secure)
            .set_client_to_sentinel_certificates(certificates.client());
    }
    builder.build()
}

impl Link {
    /// A link without connections; `deadline` is how long an answer may take.
    pub(super) fn new(
        server: &RedisServer,
        deadline: Duration,
        certificates: Option<&Certificates>,
    ) -> Result<Self, RedisError> {
        let made = |maker| Self::Made {
            maker: Arc::new(maker),
            made: Mutex::default(),
        };
        Ok(match &server.place {
            RedisPlace::Server(address) => {
                let config = ConnectionManagerConfig::new()
                    .set_connection_timeout(Some(CONNECT))
                    .set_response_timeout(Some(deadline))
                    .set_number_of_retries(1);
                let client = client(address, certificates)?;
                let connect = |_| ConnectionManager::new_lazy_with_config(client.clone(), config.clone());
                Self::Server {
                    connections: (0..server.connections).map(connect).collect::<Result<_, _>>()?,
                    turn: AtomicUsize::new(0),
                }
            }
            RedisPlace::Cluster(nodes) => {
                let secure = certificates.is_some();
                let mut builder = ClusterClient::builder(nodes.iter().map(|node| url(node, secure)))
                    .connection_timeout(CONNECT)
                    .response_timeout(deadline)
                    .retries(1);
                if let Some(certificates) = certificates {
                    builder = builder.certs(certificates.client());
                }
                made(Maker::Cluster(Box::new(builder.build()?)))
            }
            RedisPlace::Sentinel { master, sentinels } => {
                let config = AsyncConnectionConfig::new()
                    .set_connection_timeout(Some(CONNECT))
                    .set_response_timeout(Some(deadline));
                let client = sentinel(sentinels, master, certificates)?;
                made(Maker::Sentinel(Box::new(client.into()), config))
            }
        })
    }

    /// A connection. Who gives up waiting leaves its making under way.
    pub(super) async fn connection(&self) -> Result<Connection, RedisError> {
        match self {
            Self::Server { connections, turn } => {
                let turn = turn.fetch_add(1, Ordering::Relaxed);
                let connection = connections.get(turn % connections.len().max(1)).cloned();
                connection.map(Connection::Server).ok_or_else(|| {
                    RedisError::from((::redis::ErrorKind::InvalidClientConfig, "no connections"))
                })
            }
            Self::Made { maker, made } => {
                let cell = made.lock().clone();
                if let Some(connection) = cell.get() {
                    return Ok(connection.clone());
                }
                let (maker, own) = (maker.clone(), cell);
                let making = tokio::spawn(async move {
                    // Whoever else waits for the same cell waits for this attempt.
                    let connection = own.get_or_try_init(|| maker.connect()).await?;
                    Ok(connection.clone())
                });
                making.await.unwrap_or_else(|_| {
                    Err(RedisError::from((
                        ::redis::ErrorKind::Io,
                        "the connection was given up",
                    )))
                })
            }
        }
    }

    /// All of its connections.
    pub(super) async fn all(&self) -> Result<Vec<Connection>, RedisError> {
        match self {
            Self::Server { connections, .. } => {
                Ok(connections.iter().cloned().map(Connection::Server).collect())
            }
            Self::Made { .. } => Ok(vec![self.connection().await?]),
        }
    }

    /// Says that a charge failed: the master may be another one by now, and what broke one connection has broken the others,
    /// which learn of it by being used.
    pub(super) fn failed(&self) {
        let (maker, made) = match self {
            Self::Made { maker, made } => (maker, made),
            Self::Server { connections, .. } => {
                for mut connection in connections.iter().cloned() {
                    tokio::spawn(async move {
                        let _: Result<(), RedisError> =
                            ::redis::cmd("PING").query_async(&mut connection).await;
                    });
                }
                return;
            }
        };
        // A cluster's connection follows its failovers by itself.
        if matches!(**maker, Maker::Sentinel(..)) {
            let mut made = made.lock();
            if made.initialized() {
                *made = Arc::default();
            }
        }
    }
}

impl Maker {
    async fn connect(&self) -> Result<Connection, RedisError> {
        match self {
            Self::Cluster(client) => client.get_async_connection().await.map(Connection::Cluster),
            Self::Sentinel(sentinels, config) => {
                let client = sentinels.lock().await.async_get_client().await?;
                let connection = client.get_multiplexed_async_connection_with_config(config).await;
                connection.map(Connection::Master)
            }
        }
    }
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::Server(connection) => connection.req_packed_command(cmd),
            Self::Cluster(connection) => connection.req_packed_command(cmd),
            Self::Master(connection) => connection.req_packed_command(cmd),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::Server(connection) => connection.req_packed_commands(pipeline, offset, count),
            Self::Cluster(connection) => connection.req_packed_commands(pipeline, offset, count),
            Self::Master(connection) => connection.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::Server(connection) => connection.get_db(),
            Self::Cluster(connection) => connection.get_db(),
            Self::Master(connection) => connection.get_db(),
        }
    }
}
