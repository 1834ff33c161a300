//! The admission webhook: Kubernetes' API server asks Galley before it stores an object of the mesh.
//!
//! [`review::review`] is the whole of it as a function; around it are a bounded HTTPS server, a certificate that the API
//! server can verify, and the upkeep of the ValidatingWebhookConfiguration.

pub mod bounds;
pub mod certificate;
pub mod judge;
pub mod registrar;
pub mod registration;
pub mod review;
pub mod server;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use runtime::grpc::Limits;
use runtime::tls::{self, ConfigError};
use runtime::{BindError, Context, Identity};
use tokio::sync::watch;

use self::certificate::{CertificateError, Certificates};
use self::registrar::Registration;
use self::registration::{Service, Target};
use self::server::Webhook;
use crate::status::lease::Leader;

pub use self::review::review;

/// Connections at once. An API server holds a few.
const CONNECTIONS: usize = 256;

/// The webhook's flags.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub struct Args {
    /// Address to serve the admission webhook on, over HTTPS; off unless given
    #[arg(long, env = "ARGOSY_WEBHOOK_LISTEN", value_name = "ADDR")]
    pub webhook_listen: Option<SocketAddr>,
    /// The Kubernetes Service before the webhook; its DNS name is in the webhook's certificate
    #[arg(
        long,
        env = "ARGOSY_WEBHOOK_SERVICE",
        value_name = "NAME.NAMESPACE",
        default_value = "galley.argosy-system"
    )]
    pub webhook_service: Service,
    /// Host of the webhook's URL, where the API server reaches Galley by URL and not by a Service
    #[arg(long, env = "ARGOSY_WEBHOOK_HOST", value_name = "HOST")]
    pub webhook_host: Option<String>,
    /// The ValidatingWebhookConfiguration whose caBundle and failurePolicy Galley keeps current
    #[arg(
        long,
        env = "ARGOSY_WEBHOOK_CONFIGURATION",
        value_name = "NAME",
        default_value = "argosy-galley"
    )]
    pub webhook_configuration: String,
}

impl Default for Args {
    fn default() -> Self {
        Self {
            webhook_listen: None,
            webhook_service: Service {
                name: "galley".to_owned(),
                namespace: runtime::spiffe::SYSTEM_NAMESPACE.to_owned(),
            },
            webhook_host: None,
            webhook_configuration: "argosy-galley".to_owned(),
        }
    }
}

impl Args {
    fn target(&self) -> Target {
        match &self.webhook_host {
            Some(host) => Target::Host(host.clone()),
            None => Target::Service(self.webhook_service.clone()),
        }
    }
}

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

/// A webhook that is served.
#[derive(Debug)]
pub struct Serving {
    certificates: Arc<Certificates>,
    identity: watch::Sender<Option<Identity>>,
    registration: Registration,
    context: Context,
    server: tokio::task::JoinHandle<()>,
}

/// Serves the webhook until the context's shutdown, with a certificate of its own until [`Serving::identify`]. `None`
/// unless the flags ask for it.
///
/// # Errors
/// When the address cannot be had or no certificate can be made.
pub async fn start(args: &Args, context: &Context) -> Result<Option<Serving>, StartError> {
    let Some(address) = args.webhook_listen else {
        return Ok(None);
    };
    let listener = runtime::bind("--webhook-listen", address).await?;
    let certificates = Certificates::new(&args.target().name())?;
    let tls = tls::https(certificates.clone())?;
    let routes = Webhook::new(&context.metrics).routes();
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
    Ok(Some(Serving {
        certificates,
        identity,
        registration: Registration {
            configuration: args.webhook_configuration.clone(),
            target: args.target(),
        },
        context: context.clone(),
        server,
    }))
}

impl Serving {
    /// From now on the certificate is the identity's, where it has the webhook's name.
    pub fn identify(&self, identity: &Identity) {
        self.identity.send_replace(Some(identity.clone()));
    }

    /// Keeps the webhook's configuration in the cluster current, while this process leads.
    pub fn register(&self, client: Client, leader: watch::Receiver<Leader>) {
        let trust = self.certificates.trust();
        let (registration, context) = (self.registration.clone(), self.context.clone());
        tokio::spawn(registrar::run(client, registration, trust, leader, context));
    }

    /// Waits until the server has ended, after the shutdown.
    pub async fn ended(self) {
        _ = self.server.await;
    }
}
