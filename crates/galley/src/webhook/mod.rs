//! The admission webhook: Kubernetes' API server asks Galley before it stores an object of the mesh.
//!
//! [`review::review`] is the whole of it as a function; the server around it, its certificate and the upkeep of the
//! ValidatingWebhookConfiguration are those of all the mesh's webhooks ([`admission`]).

pub mod judge;
pub mod review;
pub mod server;

use std::net::SocketAddr;

use admission::registrar::Registration;
use admission::registration::{Service, Sort, Target};
use admission::server::Webhook;
use admission::{Place, StartError};
use kube::Client;
use runtime::{Context, Identity};
use tokio::sync::watch;

use crate::status::lease::Leader;

pub use self::review::review;
pub use admission::bounds;

/// The name under which Galley owns its fields of the webhook's configuration.
pub const FIELD_MANAGER: &str = "argosy-galley-webhook";

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

/// A webhook that is served.
#[derive(Debug)]
pub struct Serving {
    serving: admission::Serving,
    registration: Registration,
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
    let place = Place {
        flag: "--webhook-listen",
        address,
        name: args.target().name(),
    };
    let routes = Webhook::new(server::Rules::new(&context.metrics)).routes(&[server::PATH]);
    Ok(Some(Serving {
        serving: admission::start(&place, routes, context).await?,
        registration: Registration {
            sort: Sort::Validating,
            configuration: args.webhook_configuration.clone(),
            manager: FIELD_MANAGER,
            target: args.target(),
        },
    }))
}

impl Serving {
    /// From now on the certificate is the identity's, where it has the webhook's name.
    pub fn identify(&self, identity: &Identity) {
        self.serving.identify(identity);
    }

    /// Keeps the webhook's configuration in the cluster current, while this process leads.
    pub fn register(&self, client: Client, mut leader: watch::Receiver<Leader>) {
        let (leads, leading) = watch::channel(leader.borrow_and_update().is_me);
        self.serving.register(client, self.registration.clone(), leading);
        tokio::spawn(async move {
            while leader.changed().await.is_ok() {
                leads.send_replace(leader.borrow_and_update().is_me);
            }
        });
    }

    /// Waits until the server has ended, after the shutdown.
    pub async fn ended(self) {
        self.serving.ended().await;
    }
}
