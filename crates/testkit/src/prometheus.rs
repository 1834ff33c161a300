//! A real Prometheus that scrapes one page.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use crate::{Process, Rundir, Spec, fetch, http, net};

/// How long it may take to serve.
const BOUND: Duration = Duration::from_secs(60);

/// A running Prometheus. Dropped, it ends.
#[derive(Debug)]
pub struct Prometheus {
    _process: Process,
    address: SocketAddr,
    _dir: Rundir,
}

/// The binary to run, as `scripts/fetch-prometheus` finds or fetches it.
///
/// # Errors
/// What the script says.
pub fn binary() -> anyhow::Result<PathBuf> {
    fetch::path("prometheus", "Prometheus")
}

impl Prometheus {
    /// Starts one on a loopback port that scrapes `http://TARGET/metrics` every 200 ms, and waits until it serves.
    ///
    /// # Errors
    /// No binary, or it does not serve; with the end of its log.
    pub async fn scraping(target: SocketAddr) -> anyhow::Result<Self> {
        // A first run fetches.
        let binary = tokio::task::spawn_blocking(binary).await??;
        let dir = Rundir::new("argosy-prometheus")?;
        let address = SocketAddr::new(
            IpAddr::V4(Ipv4Addr::LOCALHOST),
            net::free_port(Ipv4Addr::LOCALHOST)?,
        );
        let config = dir.path().join("prometheus.yaml");
        let text = format!(
            "global: {{scrape_interval: 200ms, scrape_timeout: 200ms}}\n\
             scrape_configs: [{{job_name: test, static_configs: [{{targets: [\"{target}\"]}}]}}]\n"
        );
        std::fs::write(&config, text)?;
        let spec = Spec::new("prometheus", binary, dir.path())
            .arg(format!("--config.file={}", config.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                dir.path().join("data").display()
            ))
            .arg(format!("--web.listen-address={address}"));
        let mut process = spec.start()?;
        let ready = || async move {
            let client = http::Client::default();
            let answer = client.get(format!("http://{address}/-/ready")).send().await?;
            answer.expect_status(200).map(drop)
        };
        process.until("Prometheus to be ready", BOUND, ready).await?;
        Ok(Self {
            _process: process,
            address,
            _dir: dir,
        })
    }

    /// The result of an instant query (PromQL): its `data.result`.
    ///
    /// # Errors
    /// No answer, or one that says the query is wrong.
    pub async fn query(&self, promql: &str) -> anyhow::Result<Vec<Value>> {
        let query = http::query(&[("query", promql)]);
        let url = format!("http://{}/api/v1/query?{query}", self.address);
        let answer = http::Client::default()
            .get(url)
            .send()
            .await?
            .expect_status(200)?;
        let mut json = answer.json()?;
        let result = json.pointer_mut("/data/result").map(Value::take);
        match result {
            Some(Value::Array(result)) => Ok(result),
            _ => anyhow::bail!("no result in {json}"),
        }
    }
}
