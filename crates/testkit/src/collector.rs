//! A real OpenTelemetry Collector: takes telemetry by several protocols, and shows what it received.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use crate::{Process, Rundir, Spec, fetch, net};

/// How long it may take to serve.
const BOUND: Duration = Duration::from_secs(60);

/// A running collector. Dropped, it ends.
#[derive(Debug)]
pub struct Collector {
    process: Process,
    spec: Spec,
    dir: Rundir,
    /// OTLP over gRPC.
    pub otlp: SocketAddr,
    /// Zipkin's API, over HTTP.
    pub zipkin: SocketAddr,
    /// statsd, over UDP.
    pub statsd: SocketAddr,
    /// Fluentd's forward protocol, over TCP.
    pub fluent: SocketAddr,
}

/// What a collector receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Values over time.
    Metrics,
    /// Log records.
    Logs,
    /// Spans.
    Traces,
}

impl Signal {
    const ALL: [Self; 3] = [Self::Metrics, Self::Logs, Self::Traces];

    const fn name(self) -> &'static str {
        match self {
            Self::Metrics => "metrics",
            Self::Logs => "logs",
            Self::Traces => "traces",
        }
    }
}

/// The binary to run, as `scripts/fetch-collector` finds or builds it.
///
/// # Errors
/// What the script says.
pub fn binary() -> anyhow::Result<PathBuf> {
    fetch::path("collector", "OpenTelemetry Collector")
}

impl Collector {
    /// Starts one on loopback ports and waits until it serves.
    ///
    /// # Errors
    /// No binary, or it does not serve; with the end of its log.
    pub async fn start() -> anyhow::Result<Self> {
        // A first run builds.
        let binary = tokio::task::spawn_blocking(binary).await??;
        let dir = Rundir::new("argosy-collector")?;
        let local = || {
            net::free_port(Ipv4Addr::LOCALHOST)
                .map(|port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port))
        };
        let (otlp, zipkin, statsd, fluent) = (local()?, local()?, local()?, local()?);
        let receivers = json!({
            "otlp": {"protocols": {"grpc": {"endpoint": otlp}}},
            "zipkin": {"endpoint": zipkin},
            "statsd": {"endpoint": statsd, "aggregation_interval": "1s", "enable_metric_type": true},
            "fluentforward": {"endpoint": fluent},
        });
        let exporters = Signal::ALL.map(|signal| {
            let path = dir.path().join(format!("{}.json", signal.name()));
            let exporter = json!({"path": path, "flush_interval": "50ms"});
            (format!("file/{}", signal.name()), exporter)
        });
        let exporters: serde_json::Map<String, Value> = exporters.into_iter().collect();
        let pipeline = |receivers: &[&str], signal: Signal| json!({"receivers": receivers, "exporters": [format!("file/{}", signal.name())]});
        let config = json!({
            "receivers": receivers,
            "exporters": exporters,
            "service": {
                "telemetry": {"metrics": {"level": "none"}},
                "pipelines": {
                    "metrics": pipeline(&["otlp", "statsd"], Signal::Metrics),
                    "logs": pipeline(&["otlp", "fluentforward"], Signal::Logs),
                    "traces": pipeline(&["otlp", "zipkin"], Signal::Traces),
                },
            },
        });
        let path = dir.path().join("collector.yaml");
        std::fs::write(&path, config.to_string())?;
        let spec = Spec::new("collector", binary, dir.path()).arg(format!("--config={}", path.display()));
        let process = spec.start()?;
        let mut collector = Self {
            process,
            spec,
            dir,
            otlp,
            zipkin,
            statsd,
            fluent,
        };
        collector.ready().await?;
        Ok(collector)
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again at the same addresses; what it received before stays.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.process.kill();
        self.process = self.spec.start()?;
        self.ready().await
    }

    /// What came in so far, one message an element, in OTLP's JSON form whatever the protocol was.
    pub fn received(&self, signal: Signal) -> Vec<Value> {
        let path = self.dir.path().join(format!("{}.json", signal.name()));
        let text = std::fs::read_to_string(path).unwrap_or_default();
        // The last line may still be being written.
        text.lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    async fn ready(&mut self) -> anyhow::Result<()> {
        let addresses = [self.otlp, self.zipkin, self.fluent];
        let serves = || async move {
            for address in addresses {
                tokio::net::TcpStream::connect(address).await?;
            }
            anyhow::Ok(())
        };
        self.process.until("the collector to serve", BOUND, serves).await
    }
}
