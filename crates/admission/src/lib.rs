//! What the mesh's admission webhooks have in common: Galley's, which validates objects, and the injector's, which gives pods
//! their proxy.
//!
//! A bounded HTTPS server, the reviews' envelope, a certificate that the API server can verify, and the upkeep of the webhook's
//! configuration in the cluster. What is said of an object is a [`server::Judge`]'s.

pub mod bounds;
pub mod certificate;
pub mod registrar;
pub mod registration;
pub mod review;
pub mod server;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use kube::Client;
use runtime::grpc::Limits;
use runtime::tls::{self, ConfigError};
use runtime::{BindError, Context, Identity};
use tokio::sync::watch;

use self::certificate::{CertificateError, Certificates};
use self::registrar::Registration;

/// Connections at once. An API server holds a few.
const CONNECTIONS: usize = 256;

/// The webhook cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The certificate.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// TLS.
    #[error(transparent)]
    Tls(#[from] ConfigError),
}

/// Where a webhook is served.
#[derive(Debug, Clone)]
pub struct Place {
    /// The flag that says so, for messages.
    pub flag: &'static str,
    /// The address.
    pub address: SocketAddr,
    /// The name that the API server expects in the certificate.
    pub name: String,
}

/// A webhook that is served.
#[derive(Debug)]
pub struct Serving {
    certificates: Arc<Certificates>,
    identity: watch::Sender<Option<Identity>>,
    context: Context,
    server: tokio::task::JoinHandle<()>,
}

/// Serves `routes` until the context's shutdown, with a certificate of its own until [`Serving::identify`].
///
/// # Errors
/// When the address cannot be had or no certificate can be made.
pub async fn start(place: &Place, routes: Router, context: &Context) -> Result<Serving, StartError> {
    let listener = runtime::bind(place.flag, place.address).await?;
    let certificates = Certificates::new(&place.name)?;
    let tls = tls::https(certificates.clone())?;
    let limits = Limits {
        connections: CONNECTIONS,
        handshake: Duration::from_secs(5),
        ..Limits::default()
    };
    let (identity, identities) = watch::channel(None);
    tokio::spawn(certificates.clone().keep(identities, context.shutdown.clone()));
    let serving = context.clone();
    let server = tokio::spawn(async move {
        let served = runtime::https::serve("webhook", listener, tls, routes, &limits, &serving).await;
        if let Err(error) = served {
            tracing::error!(%error, "the admission webhook is not served");
        }
    });
    Ok(Serving {
        certificates,
        identity,
        context: context.clone(),
        server,
    })
}

impl Serving {
    /// From now on the certificate is the identity's, where it has the webhook's name.
    pub fn identify(&self, identity: &Identity) {
        self.identity.send_replace(Some(identity.clone()));
    }

    /// Keeps the webhook's configuration in the cluster current, while `leads` says so.
    pub fn register(&self, client: Client, registration: Registration, leads: watch::Receiver<bool>) {
        let (trust, context) = (self.certificates.trust(), self.context.clone());
        tokio::spawn(registrar::run(client, registration, trust, leads, context));
    }

    /// Waits until the server has ended, after the shutdown.
    pub async fn ended(self) {
        _ = self.server.await;
    }
}
