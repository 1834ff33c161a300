//! Keeps Envoy running: starts it, starts it again when it dies, drains and ends it at shutdown.

use std::{io, net::SocketAddr, path::PathBuf, time::Duration};

use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    admin::AdminClient,
    diagnose::{Diagnosis, diagnose},
    process::{Launcher, Running, StartError},
    restarts::{ATTEMPTS, Next, Restarts},
};

/// How long Envoy may take to end after it was asked to.
const TERMINATION: Duration = Duration::from_secs(5);
/// How often open connections are counted while draining.
const COUNT_EVERY: Duration = Duration::from_millis(100);

/// How long Envoy takes leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leave {
    /// So long it serves in any case, for callers that have not heard yet that it goes.
    pub least: Duration,
    /// So long it may take until the last connection has ended; nothing is drained when this is zero.
    pub most: Duration,
}

impl From<Duration> for Leave {
    /// At most so long, and no longer than there are connections.
    fn from(most: Duration) -> Self {
        Self {
            least: Duration::ZERO,
            most,
        }
    }
}

/// What Envoy is doing, as far as its agent knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Not started yet.
    NotStarted,
    /// A process runs.
    Running {
        /// Its process id.
        pid: u32,
    },
    /// It died and will be started again.
    Waiting {
        /// Why it died.
        why: String,
    },
    /// It is finishing what it has begun.
    Draining,
    /// It has ended for good.
    Ended,
}

/// Envoy cannot be kept running.
#[derive(Debug, thiserror::Error)]
pub enum SuperviseError {
    /// It cannot be started at all.
    #[error(transparent)]
    Start(#[from] StartError),
    /// It ended early each time.
    #[error("{program} was started {ATTEMPTS} times (--envoy) and never kept running. {why}")]
    NeverRan {
        /// The program.
        program: PathBuf,
        /// What it said last.
        why: Diagnosis,
    },
    /// The system cannot tell how it ended.
    #[error("cannot wait for Envoy: {0}")]
    Wait(#[from] io::Error),
}

/// Keeps one Envoy running.
#[derive(Debug)]
pub struct Supervisor {
    launcher: Launcher,
    admin: SocketAddr,
    health_port: u16,
    leave: Leave,
    state: watch::Sender<State>,
    restarts: prometheus_client::metrics::counter::Counter,
}

impl Supervisor {
    /// Will run what `launcher` starts, whose admin interface is at `admin`. At shutdown connections have as long as `leave`
    /// says to end. `restarts` counts starts after the first.
    pub fn new(
        launcher: Launcher,
        admin: SocketAddr,
        health_port: u16,
        leave: impl Into<Leave>,
        restarts: prometheus_client::metrics::counter::Counter,
    ) -> Self {
        Self {
            launcher,
            admin,
            health_port,
            leave: leave.into(),
            state: watch::Sender::new(State::NotStarted),
            restarts,
        }
    }

    /// Follows Envoy's state.
    pub fn state(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// Runs Envoy until `shutdown`, then drains and ends it. When the returned future is dropped, Envoy is killed.
    ///
    /// # Errors
    /// When Envoy cannot be started, or ended early each time; the message says what Envoy said and what to do.
    pub async fn run(&self, shutdown: &CancellationToken) -> Result<(), SuperviseError> {
        let result = self.keep_running(shutdown).await;
        self.state.send_replace(State::Ended);
        result
    }

    async fn keep_running(&self, shutdown: &CancellationToken) -> Result<(), SuperviseError> {
        let mut history = Restarts::default();
        loop {
            let mut running = self.launcher.start().await?;
            let pid = running.id().unwrap_or_default();
            tracing::info!(pid, program = %self.launcher.options.program.display(), "Envoy started");
            self.state.send_replace(State::Running { pid });
            let ended = tokio::select! {
                ended = running.wait() => ended?,
                () = shutdown.cancelled() => {
                    self.end(running).await;
                    return Ok(());
                }
            };
            let mut tail = ended.tail;
            let why = diagnose(ended.status, &mut tail, self.admin);
            let Next::StartAfter(wait) = history.ended(ended.ran) else {
                return Err(SuperviseError::NeverRan {
                    program: self.launcher.options.program.clone(),
                    why,
                });
            };
            tracing::error!(pid, ran = ?ended.ran, again_in = ?wait, "{why}");
            self.state.send_replace(State::Waiting { why: why.to_string() });
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = shutdown.cancelled() => return Ok(()),
            }
            self.restarts.inc();
        }
    }

    /// Drains, then ends, one that runs.
    async fn end(&self, mut running: Running) {
        self.state.send_replace(State::Draining);
        tokio::select! {
            () = self.drain() => {}
            _ = running.wait() => return,
        }
        running.stop(TERMINATION).await;
        tracing::info!("Envoy ended");
    }

    /// Drains until no connection is left, at most for the time given. An Envoy that does not answer is not waited
    /// for.
    async fn drain(&self) {
        if self.leave.most.is_zero() {
            return;
        }
        let admin = AdminClient::new(self.admin);
        if let Err(error) = admin.drain().await {
            tracing::warn!(%error, "cannot drain Envoy; ending it");
            return;
        }
        let Leave { least, most } = self.leave;
        let begun = Instant::now();
        loop {
            match admin.active_connections(self.health_port).await {
                Ok(0) if begun.elapsed() >= least => return tracing::info!("Envoy is drained"),
                Ok(open) if begun.elapsed() >= most => {
                    return tracing::info!(open, after = ?most, "connections are still open; ending Envoy");
                }
                Ok(_) => tokio::time::sleep(COUNT_EVERY).await,
                Err(error) => return tracing::warn!(%error, "cannot count Envoy's connections; ending it"),
            }
        }
    }
}
