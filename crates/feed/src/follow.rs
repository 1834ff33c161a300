//! Follows Galley's feed: the shell that connects, resumes, and keeps a [`Store`] current.

use std::sync::Arc;
use std::time::Duration;

use config::Kind;
use runtime::grpc::{self, AddressError};
use runtime::tls::{self, ConfigError, Expected};
use runtime::{Context, Identity, SpiffeId, readiness::Condition, spiffe::SpiffeIdError};
use tokio::sync::{mpsc, watch};
use xds::client::{Backoff, Client, Notice, State as Protocol, Subscription, Update};

use crate::message::type_url;
use crate::store::{State, Store};

/// Updates that may wait for the store; more hold Galley back.
const WAITING: usize = 16;
/// First and longest wait between attempts: Galley is near, and restarts are quick.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// Whom to follow, and what.
#[derive(Debug, Clone)]
pub struct Options {
    /// Galley's address, `HOST:PORT`.
    pub address: String,
    /// The kinds to subscribe to.
    pub kinds: Vec<Kind>,
}

/// The feed cannot be followed with these settings.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// The address is not one.
    #[error("--galley-address: {0}")]
    Address(#[from] AddressError),
    /// Galley's identity cannot be written in this trust domain.
    #[error("Galley's identity: {0}")]
    Identity(#[from] SpiffeIdError),
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] ConfigError),
}

/// Follows the feed until the context's shutdown. The receiver holds `None` until the first state is complete; when
/// Galley is away it holds the last one. The readiness condition `feed` says whether there is a state, and why not.
///
/// # Errors
/// When the settings cannot work. A Galley that is away is no error: it is tried again.
pub fn follow(
    options: &Options,
    identity: &Identity,
    context: &Context,
) -> Result<watch::Receiver<Option<Arc<State>>>, FollowError> {
    let galley = SpiffeId::system(identity.id().trust_domain(), "galley")?;
    let connector = tls::connector(identity, Expected::from(galley))?;
    // Checks the address once; each attempt makes its own channel.
    grpc::endpoint(&options.address)?;
    let address = options.address.clone();
    let connect = move || {
        let (address, connector) = (address.clone(), connector.clone());
        async move { grpc::channel(&address, Some(connector)) }
    };
    let wants = options
        .kinds
        .iter()
        .map(|kind| (type_url(*kind), Subscription::Wildcard));
    let client = Client::new(connect, Protocol::new(Default::default(), wants))
        .with_backoff(Backoff::new(RETRY.0, RETRY.1));
    let (notices, received) = mpsc::channel(WAITING);
    let (states, receiver) = watch::channel(None);
    let shutdown = context.shutdown.clone();
    let collector = Collector {
        service: context.service,
        store: Store::new(options.kinds.iter().copied()),
        ready: context.readiness.condition("feed"),
        states,
    };
    tokio::spawn(async move {
        // Dropping the receiver of notices ends the client.
        let collecting = shutdown.run_until_cancelled(collector.collect(received));
        tokio::join!(client.run(notices), collecting);
    });
    Ok(receiver)
}

struct Collector {
    service: &'static str,
    store: Store,
    ready: Condition,
    states: watch::Sender<Option<Arc<State>>>,
}

impl Collector {
    async fn collect(mut self, mut notices: mpsc::Receiver<Notice>) {
        self.ready.set_not_ready("connecting to Galley");
        while let Some(notice) = notices.recv().await {
            match notice {
                Notice::Connected => tracing::info!(service = self.service, "following Galley's feed"),
                Notice::Update(update) => {
                    self.take(&update);
                    // What has arrived already is taken up together.
                    if notices.is_empty() {
                        self.publish();
                    }
                }
                Notice::Lost { error, retry } => self.lost(&error, retry),
            }
        }
    }

    fn take(&mut self, update: &Update) {
        let Some(kind) = Kind::from_type_url(update.type_url.as_str()) else {
            return;
        };
        let upserts = update
            .upserts
            .iter()
            .map(|each| (each.name.as_str(), each.bytes.as_ref()));
        let removed = update.removed.iter().map(String::as_str);
        for error in self.store.apply(kind, upserts, removed, update.complete) {
            tracing::error!(service = self.service, %error, "an object of the feed is not used; its last version stays");
        }
    }

    fn publish(&self) {
        match self.store.state() {
            Some(state) => {
                self.states.send_replace(Some(state));
                self.ready.set_ready();
            }
            None => self
                .ready
                .set_not_ready(format!("waiting for {} more kinds", self.store.awaited().len())),
        }
    }

    fn lost(&self, error: &str, retry: Duration) {
        let have_state = self.store.state().is_some();
        tracing::warn!(
            service = self.service,
            error,
            ?retry,
            have_state,
            "Galley's feed is away"
        );
        if !have_state {
            self.ready.set_not_ready(format!("Galley is away: {error}"));
        }
    }
}
