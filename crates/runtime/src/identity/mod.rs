//! The service's own identity: obtained at start, renewed at half of its life, read at each handshake.
//!
//! It does not know who issues: that is an [`Issuer`], which is [`CitadelClient`] for all but Citadel itself.

mod client;
mod renew;
mod svid;
mod trust;

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::sign::CertifiedKey;
use tokio::sync::watch;

pub use client::{CitadelClient, IssueError};
pub use renew::{Issuer, StartError, renewal_time};
pub use svid::{Svid, SvidError};

use crate::args::IdentityArgs;
use crate::context::Context;
use crate::spiffe::SpiffeId;
use crate::tls::{Material, TrustBundle};

/// An identity that may be renewed at any time. Clones are the same identity.
#[derive(Debug, Clone)]
pub struct Identity {
    current: Arc<ArcSwap<Svid>>,
    changes: watch::Sender<Arc<Svid>>,
}

impl Identity {
    /// An identity that stays as it is until [`Identity::replace`].
    #[must_use]
    pub fn fixed(svid: Svid) -> Self {
        let svid = Arc::new(svid);
        Self {
            current: Arc::new(ArcSwap::new(svid.clone())),
            changes: watch::Sender::new(svid),
        }
    }

    /// Gets an identity from Citadel and keeps it renewed until the context's shutdown.
    ///
    /// Retries with backoff until Citadel answers, saying why on the readiness condition `identity`.
    ///
    /// # Errors
    /// When the shutdown comes first, or the roots or Citadel's address cannot be used.
    pub async fn from_citadel(args: &IdentityArgs, context: &Context) -> Result<Self, StartError> {
        let client = CitadelClient::new(args.clone())
            .await
            .map_err(StartError::Configuration)?;
        Self::start(client, context).await
    }

    /// Gets an identity from any issuer and keeps it renewed until the context's shutdown.
    ///
    /// # Errors
    /// When the shutdown comes first.
    pub async fn start<I: Issuer>(issuer: I, context: &Context) -> Result<Self, StartError> {
        renew::start(issuer, context).await
    }

    /// The certificate, key and roots as they are now.
    #[must_use]
    pub fn current(&self) -> Arc<Svid> {
        self.current.load_full()
    }

    /// Whose identity it is.
    #[must_use]
    pub fn id(&self) -> SpiffeId {
        self.current.load().id().clone()
    }

    /// Each change, the current state first (it counts as seen).
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<Svid>> {
        self.changes.subscribe()
    }

    /// Puts another certificate, key or roots in place; handshakes use them from now on.
    pub fn replace(&self, svid: Svid) {
        let svid = Arc::new(svid);
        self.current.store(svid.clone());
        self.changes.send_replace(svid);
    }
}

impl Material for Identity {
    fn bundle(&self) -> Arc<TrustBundle> {
        self.current.load().bundle().clone()
    }
    fn certified_key(&self) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load().certified_key())
    }
}
