//! Tells Galley how far each object has come among this Pilot's proxies, for the status of the objects.
//!
//! Best effort: a Galley that is away, or does not take reports, changes nothing for proxies.

pub mod behind;
pub mod counts;
pub mod delta;

use std::sync::Arc;
use std::time::Duration;

use feed::distribution::{DistributionClient, DistributionReply, DistributionReport};
use runtime::grpc::{self, AddressError};
use runtime::spiffe::SpiffeIdError;
use runtime::tls::{self, ConfigError, Connector, Expected};
use runtime::{Context, Identity, SpiffeId};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use self::delta::Told;
use crate::proxies::Proxies;

/// How often counts are compared with what Galley was told.
const EVERY: Duration = Duration::from_secs(1);
/// First and longest wait before a new attempt.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// Messages that may wait for the network; more hold the report back.
const WAITING: usize = 4;

/// Reports cannot be sent with these settings.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The address is none.
    #[error("--galley-address: {0}")]
    Address(#[from] AddressError),
    /// Galley's identity cannot be written in this trust domain.
    #[error("Galley's identity: {0}")]
    Identity(#[from] SpiffeIdError),
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] ConfigError),
}

/// Why a stream ended.
enum Ended {
    /// Another Galley wants the reports.
    Redirected(String),
    /// It broke, or Galley is away.
    Broken(Status),
    /// The service ends.
    Shutdown,
}

/// Sends reports to the Galley at `address`, or to the one that it names, until the context's shutdown.
///
/// # Errors
/// When the settings cannot work.
pub fn start(
    address: &str,
    identity: &Identity,
    proxies: Arc<Proxies>,
    context: &Context,
) -> Result<tokio::task::JoinHandle<()>, ReportError> {
    let galley = SpiffeId::system(identity.id().trust_domain(), "galley")?;
    let connector = tls::connector(identity, Expected::from(galley))?;
    grpc::endpoint(address)?;
    let reporter = Reporter {
        address: address.to_owned(),
        // Unique for each process, whatever the host's name is.
        pilot: format!("{}-{:016x}", host(), rand::random::<u64>()),
        connector,
        proxies,
        context: context.clone(),
    };
    Ok(tokio::spawn(reporter.run()))
}

fn host() -> String {
    let name = std::env::var("HOSTNAME").unwrap_or_default();
    let name: String = name.chars().filter(char::is_ascii_graphic).take(64).collect();
    if name.is_empty() { "pilot".to_owned() } else { name }
}

struct Reporter {
    address: String,
    pilot: String,
    connector: Connector,
    proxies: Arc<Proxies>,
    context: Context,
}

impl Reporter {
    async fn run(self) {
        let mut redirected: Option<String> = None;
        let mut wait = RETRY.0;
        loop {
            let began = tokio::time::Instant::now();
            let address = redirected.take().unwrap_or_else(|| self.address.clone());
            match self.stream(&address).await {
                Ended::Shutdown => return,
                Ended::Redirected(leader) if leader != address => {
                    tracing::debug!(leader, "another Galley takes reports");
                    redirected = Some(leader);
                }
                Ended::Redirected(_) => {}
                Ended::Broken(status) if status.code() == Code::Unimplemented => {
                    tracing::info!("this Galley takes no reports of what proxies accept");
                    wait = RETRY.1;
                }
                Ended::Broken(status) => tracing::debug!(address, %status, "reports are interrupted"),
            }
            if began.elapsed() > RETRY.1 {
                wait = RETRY.0;
            }
            let sleep = tokio::time::sleep(wait);
            if self.context.shutdown.run_until_cancelled(sleep).await.is_none() {
                return;
            }
            wait = (wait * 2).min(RETRY.1);
        }
    }

    /// One stream: all counts, then what changes.
    async fn stream(&self, address: &str) -> Ended {
        let channel = match grpc::channel(address, Some(self.connector.clone())) {
            Ok(channel) => channel,
            Err(error) => return Ended::Broken(Status::invalid_argument(error.to_string())),
        };
        let (sender, receiver) = mpsc::channel(WAITING);
        let call = async {
            let mut client = DistributionClient::new(channel);
            let replies = client.report(ReceiverStream::new(receiver)).await?;
            Ok(replies.into_inner())
        };
        // The answer's headers may wait for the first message, so both run together.
        let replies = async {
            match call.await {
                Ok(replies) => reply(replies).await,
                Err(status) => Ended::Broken(status),
            }
        };
        tokio::select! {
            ended = replies => ended,
            ended = self.send(sender) => ended,
            () = self.context.shutdown.cancelled() => Ended::Shutdown,
        }
    }

    async fn send(&self, sender: mpsc::Sender<DistributionReport>) -> Ended {
        let mut told = Told::default();
        let mut last = None;
        loop {
            let changes = self.proxies.changes();
            if last != Some(changes) {
                let proxies = self.proxies.clone();
                // Counting is work for the processor; the streams' threads must not wait for it.
                let counted = tokio::task::spawn_blocking(move || proxies.progress()).await;
                if let Ok(Some(now)) = counted {
                    last = Some(changes);
                    for report in told.bring(&self.pilot, now) {
                        if sender.send(report).await.is_err() {
                            // Galley's reply says why.
                            std::future::pending::<()>().await;
                        }
                    }
                }
            }
            tokio::time::sleep(EVERY).await;
        }
    }
}

async fn reply(mut replies: Streaming<DistributionReply>) -> Ended {
    match replies.message().await {
        Ok(Some(reply)) if !reply.leader.is_empty() => Ended::Redirected(reply.leader),
        Ok(_) => Ended::Broken(Status::unavailable("Galley has ended the stream")),
        Err(status) => Ended::Broken(status),
    }
}
