//! What Citadel tells of Secrets without their keys, followed for analysis: whether gateways' credentials are there and will
//! do. Facts go no further than analysis, and nothing waits for them.

use std::sync::Arc;
use std::time::Duration;

use config::Kind;
use prometheus_client::metrics::gauge::Gauge;
use runtime::grpc::{self, AddressError};
use runtime::spiffe::SpiffeIdError;
use runtime::tls::{self, ConfigError, Expected};
use runtime::{Context, Identity, SpiffeId};
use tokio::sync::{mpsc, watch};
use xds::client::{Backoff, Client, Notice, State as Protocol, Subscription, Update};

/// The facts that were heard last; `None` before all were heard once.
pub(crate) type Facts = watch::Receiver<Option<Arc<feed::State>>>;

/// Updates that may wait to be taken; more hold Citadel back.
const WAITING: usize = 4;
/// First and longest wait between attempts.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(15));
/// Most Secrets that facts are kept of; Citadel's others are left out, with an error in the log.
const MAX_SECRETS: usize = 100_000;

/// Facts cannot be followed with these settings.
#[derive(Debug, thiserror::Error)]
pub enum FactsError {
    /// The address is not one.
    #[error("--secret-facts-address: {0}")]
    Address(#[from] AddressError),
    /// Citadel's identity cannot be written in this trust domain.
    #[error("Citadel's identity: {0}")]
    Identity(#[from] SpiffeIdError),
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] ConfigError),
}

/// Follows Citadel at `address` until the context's shutdown. While Citadel is away, what it said last holds; a new stream
/// resumes from the versions that are known.
///
/// # Errors
/// When the settings cannot work. A Citadel that is away is no error: it is tried again.
pub(crate) fn follow(address: &str, identity: &Identity, context: &Context) -> Result<Facts, FactsError> {
    let citadel = SpiffeId::system(identity.id().trust_domain(), "citadel")?;
    let connector = tls::connector(identity, Expected::from(citadel))?;
    // Checks the address once; each attempt makes its own channel.
    grpc::endpoint(address)?;
    let address = address.to_owned();
    let connect = move || {
        let (address, connector) = (address.clone(), connector.clone());
        async move { grpc::channel(&address, Some(connector)) }
    };
    let wants = [(feed::type_url(Kind::SecretFacts), Subscription::Wildcard)];
    let client = Client::new(connect, Protocol::new(Default::default(), wants))
        .with_backoff(Backoff::new(RETRY.0, RETRY.1));
    let (notices, received) = mpsc::channel(WAITING);
    let (facts, receiver) = watch::channel(None);
    let gauge = |name, help| context.metrics.gauge(name, help);
    let collector = Collector {
        store: feed::Store::new([Kind::SecretFacts]),
        facts,
        known: gauge("galley_secret_facts", "Secrets that Citadel has told of"),
        connected: gauge(
            "galley_secret_facts_connected",
            "1 while Citadel tells of Secrets; at 0 what it said last holds",
        ),
        is_away: false,
    };
    let shutdown = context.shutdown.clone();
    tokio::spawn(async move {
        // Dropping the receiver of notices ends the client.
        let collecting = shutdown.run_until_cancelled(collector.collect(received));
        tokio::join!(client.run(notices), collecting);
    });
    Ok(receiver)
}

struct Collector {
    store: feed::Store,
    facts: watch::Sender<Option<Arc<feed::State>>>,
    known: Gauge,
    connected: Gauge,
    /// Whether people were told that Citadel is away.
    is_away: bool,
}

impl Collector {
    async fn collect(mut self, mut notices: mpsc::Receiver<Notice>) {
        while let Some(notice) = notices.recv().await {
            match notice {
                Notice::Connected => {
                    tracing::info!("following Citadel's facts about Secrets");
                    self.connected.set(1);
                    self.is_away = false;
                }
                Notice::Update(update) => {
                    self.take(&update);
                    // What has arrived already is taken up together.
                    if notices.is_empty() {
                        self.publish();
                    }
                }
                Notice::Lost { error, retry } => {
                    self.connected.set(0);
                    if !std::mem::replace(&mut self.is_away, true) {
                        let has_facts = self.facts.borrow().is_some();
                        tracing::warn!(error, ?retry, has_facts, "Citadel's facts about Secrets are away");
                    }
                }
            }
        }
    }

    fn take(&mut self, update: &Update) {
        let held = self
            .facts
            .borrow()
            .as_ref()
            .map_or(0, |state| state.objects.len());
        let room = MAX_SECRETS.saturating_sub(held);
        if update.upserts.len() > room {
            tracing::error!(limit = MAX_SECRETS, "Citadel tells of more Secrets than are kept");
        }
        let upserts = update.upserts.iter().take(room);
        let upserts = upserts.map(|each| (each.name.as_str(), each.bytes.as_ref()));
        let removed = update.removed.iter().map(String::as_str);
        let errors = self
            .store
            .apply(Kind::SecretFacts, upserts, removed, update.complete);
        for error in errors {
            tracing::error!(%error, "facts about a Secret are not used; what was said before stays");
        }
    }

    fn publish(&self) {
        if let Some(state) = self.store.state() {
            self.known
                .set(i64::try_from(state.objects.len()).unwrap_or(i64::MAX));
            self.facts.send_replace(Some(state));
        }
    }
}
