//! A client of Envoy's administration interface, and what its answers mean (pure).

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};

/// Longest wait for an answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Largest answer that is read, in bytes: the metrics of some hundred thousand series.
const LARGEST: usize = 64 << 20;
/// The statistics that readiness needs.
const READY_FILTER: &str = "^(server.state|listener_manager.workers_started|\
                            (cluster_manager.cds|listener_manager.lds).update_(success|rejected))$";

/// Asks one Envoy. Clones share connections.
#[derive(Debug, Clone)]
pub struct AdminClient {
    address: SocketAddr,
    client: Client<HttpConnector, Empty<Bytes>>,
}

/// Envoy's administration interface did not answer as it should.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// No connection, or it broke.
    #[error("Envoy's admin interface at {0} does not answer")]
    NoAnswer(SocketAddr),
    /// No answer within five seconds.
    #[error("Envoy's admin interface at {0} did not answer within {TIMEOUT:?}")]
    Timeout(SocketAddr),
    /// Another status than 200.
    #[error("Envoy's admin interface at {0} answered {1} to {2}")]
    Status(SocketAddr, StatusCode, String),
    /// The body broke off, is not text or is larger than 64 MiB.
    #[error("Envoy's admin interface at {0}: its answer to {1} cannot be read")]
    Body(SocketAddr, String),
}

impl AdminClient {
    /// A client for the Envoy whose admin interface is at `address`.
    pub fn new(address: SocketAddr) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(TIMEOUT));
        Self {
            address,
            client: Client::builder(TokioExecutor::new()).build(connector),
        }
    }

    /// Envoy's metrics in Prometheus' text form.
    ///
    /// # Errors
    /// When Envoy does not answer as it should.
    pub async fn prometheus(&self) -> Result<String, AdminError> {
        self.call(Method::GET, "/stats/prometheus").await
    }

    /// Whether Envoy serves: `Err` holds the reason why not.
    ///
    /// # Errors
    /// When Envoy does not answer as it should.
    pub async fn serving(&self) -> Result<Result<(), String>, AdminError> {
        let filter = READY_FILTER.replace('^', "%5E").replace('|', "%7C");
        let stats = self.call(Method::GET, &format!("/stats?filter={filter}")).await?;
        Ok(serving(&stats))
    }

    /// Begins to drain all listeners.
    ///
    /// # Errors
    /// When Envoy does not answer as it should.
    pub async fn drain(&self) -> Result<(), AdminError> {
        self.call(Method::POST, "/drain_listeners?graceful")
            .await
            .map(drop)
    }

    /// Begins to drain the listeners for incoming traffic; Envoy goes on when they are closed.
    ///
    /// # Errors
    /// When Envoy does not answer as it should.
    pub async fn drain_inbound(&self) -> Result<(), AdminError> {
        self.call(Method::POST, "/drain_listeners?inboundonly&graceful&skip_exit")
            .await
            .map(drop)
    }

    /// Downstream connections that Envoy serves, its admin and health ports aside.
    ///
    /// # Errors
    /// When Envoy does not answer as it should.
    pub async fn active_connections(&self, health_port: u16) -> Result<u64, AdminError> {
        let stats = self
            .call(Method::GET, "/stats?filter=downstream_cx_active$")
            .await?;
        Ok(active_connections(&stats, health_port))
    }

    async fn call(&self, method: Method, path: &str) -> Result<String, AdminError> {
        tokio::time::timeout(TIMEOUT, self.exchange(method, path))
            .await
            .unwrap_or(Err(AdminError::Timeout(self.address)))
    }

    async fn exchange(&self, method: Method, path: &str) -> Result<String, AdminError> {
        let unreadable = || AdminError::Body(self.address, path.to_owned());
        let request = Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.address));
        let request = request.body(Empty::new()).map_err(|_| unreadable())?;
        let response = self
            .client
            .request(request)
            .await
            .map_err(|_| AdminError::NoAnswer(self.address))?;
        if response.status() != StatusCode::OK {
            return Err(AdminError::Status(
                self.address,
                response.status(),
                path.to_owned(),
            ));
        }
        let body = Limited::new(response.into_body(), LARGEST)
            .collect()
            .await
            .map_err(|_| unreadable())?;
        String::from_utf8(body.to_bytes().into()).map_err(|_| unreadable())
    }
}

/// Reads `NAME: NUMBER` lines.
fn numbers(stats: &str) -> impl Iterator<Item = (&str, u64)> {
    stats.lines().filter_map(|line| {
        let (name, value) = line.split_once(": ")?;
        Some((name, value.trim().parse().ok()?))
    })
}

/// As in Istio, an Envoy serves when it has accepted clusters and listeners, its workers run and it is LIVE.
fn serving(stats: &str) -> Result<(), String> {
    let number = |wanted: &str| {
        numbers(stats)
            .find(|(name, _)| *name == wanted)
            .map(|(_, value)| value)
    };
    for (what, prefix) in [
        ("clusters", "cluster_manager.cds"),
        ("listeners", "listener_manager.lds"),
    ] {
        let count = |kind: &str| number(&format!("{prefix}.update_{kind}")).unwrap_or(0);
        match (count("success"), count("rejected")) {
            (0, 0) => return Err(format!("Envoy has no {what} from Pilot yet")),
            (0, rejected) => {
                return Err(format!(
                    "Envoy rejected the {what} that Pilot sent ({rejected} times)"
                ));
            }
            _ => {}
        }
    }
    match number("server.state") {
        Some(0) => {}
        Some(1) => return Err("Envoy is draining".to_owned()),
        _ => return Err("Envoy is initializing: it waits for clusters, endpoints or secrets".to_owned()),
    }
    match number("listener_manager.workers_started") {
        Some(1..) => Ok(()),
        _ => Err("Envoy's workers have not started".to_owned()),
    }
}

/// Sums `listener.ADDRESS_PORT.downstream_cx_active`; the numbers of single workers have a longer name.
fn active_connections(stats: &str, health_port: u16) -> u64 {
    let health = format!("_{health_port}");
    let counted = numbers(stats).filter_map(|(name, value)| {
        let listener = name
            .strip_prefix("listener.")?
            .strip_suffix(".downstream_cx_active")?;
        let skipped = listener == "admin"
            || listener.starts_with("admin.")
            || listener.contains(".worker_")
            || listener.ends_with(&health);
        (!skipped).then_some(value)
    });
    counted.fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats(cds: (u64, u64), lds: (u64, u64), state: u64, workers: u64) -> String {
        format!(
            "cluster_manager.cds.update_rejected: {}\ncluster_manager.cds.update_success: {}\n\
             listener_manager.lds.update_rejected: {}\nlistener_manager.lds.update_success: {}\n\
             listener_manager.workers_started: {workers}\nserver.state: {state}\n",
            cds.1, cds.0, lds.1, lds.0
        )
    }

    #[test]
    fn serving_says_what_is_missing() {
        let cases = [
            (stats((1, 0), (1, 0), 0, 1), Ok(())),
            (stats((5, 3), (2, 9), 0, 1), Ok(())),
            (
                stats((0, 0), (0, 0), 3, 0),
                Err("Envoy has no clusters from Pilot yet"),
            ),
            (
                stats((1, 0), (0, 0), 3, 0),
                Err("Envoy has no listeners from Pilot yet"),
            ),
            (
                stats((1, 0), (0, 2), 3, 0),
                Err("Envoy rejected the listeners that Pilot sent (2 times)"),
            ),
            (
                stats((1, 0), (1, 0), 3, 0),
                Err("Envoy is initializing: it waits for clusters, endpoints or secrets"),
            ),
            (stats((1, 0), (1, 0), 1, 1), Err("Envoy is draining")),
            (
                stats((1, 0), (1, 0), 0, 0),
                Err("Envoy's workers have not started"),
            ),
            (String::new(), Err("Envoy has no clusters from Pilot yet")),
        ];
        for (stats, expected) in cases {
            assert_eq!(serving(&stats), expected.map_err(str::to_owned), "{stats}");
        }
    }

    #[test]
    fn only_workload_connections_are_counted() {
        let stats = "http.admin.downstream_cx_active: 1\nlistener.127.1.0.21_15021.downstream_cx_active: 1\n\
                     listener.127.1.0.21_8080.downstream_cx_active: 3\n\
                     listener.127.1.0.21_8080.worker_0.downstream_cx_active: 3\n\
                     listener.admin.downstream_cx_active: 1\n\
                     listener.admin.main_thread.downstream_cx_active: 1\nlistener.[__1]_7080.downstream_cx_active: 2\n";
        assert_eq!(active_connections(stats, 15021), 5);
        assert_eq!(active_connections("", 15021), 0);
    }
}
