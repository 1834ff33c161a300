//! The mutating webhook: Kubernetes' API server asks it for each pod that is made in a namespace of the mesh.
//!
//! [`judge`] is the whole of it as a function; around it are files that are followed ([`files`]), the ProxyConfigs of the
//! cluster ([`objects`]), and server, certificate and registration as all the mesh's webhooks have them ([`admission`]).

pub mod account;
pub mod args;
pub mod files;
pub mod judge;
pub mod objects;

use std::sync::Arc;

use admission::Place;
use admission::registrar::Registration;
use admission::registration::Sort;
use admission::server::Webhook;
use arc_swap::ArcSwap;
use config::Object;
use kube::Client;
use runtime::{Context, Identity};
use tokio::sync::watch;

use self::account::Accountant;
pub use self::args::Args;
use self::files::{LoadError, Stale};
use crate::settings::Settings;

/// The name under which the injector owns its field of the webhook's configuration.
pub const FIELD_MANAGER: &str = "argosy-injector-webhook";
/// Where reviews come to.
const PATHS: [&str; 2] = ["/inject", "/inject/{*names}"];

/// Why the injector could not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of its settings.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// There is no way to the Kubernetes API.
    #[error(transparent)]
    Client(#[from] kubernetes::ClientError),
    /// The webhook cannot be served.
    #[error(transparent)]
    Webhook(#[from] admission::StartError),
}

/// What the webhook decides by; each part is replaced as a whole.
#[derive(Debug, Default)]
pub struct Ground {
    /// The operator's decisions.
    pub settings: ArcSwap<Settings>,
    /// ProxyConfigs of the cluster.
    pub objects: ArcSwap<Vec<Object>>,
}

/// What runs before there is an identity.
#[derive(Debug)]
pub struct Prepared {
    serving: admission::Serving,
}

/// Serves the webhook, by a certificate of its own that no configuration trusts until there is an identity.
///
/// # Errors
/// When a file is broken, there is no way to the cluster, or the address cannot be had.
pub async fn prepare(args: &Args, context: &Context) -> Result<Prepared, Error> {
    let (settings, texts) = files::load_texts(&args.files)?;
    let ground = Arc::new(Ground {
        settings: ArcSwap::from_pointee(settings),
        ..Ground::default()
    });
    let stale = Stale::new(&context.metrics);
    tokio::spawn(files::follow(
        args.files.clone(),
        texts,
        ground.clone(),
        stale,
        context.shutdown.clone(),
    ));
    let client = args.client().await?;
    if let Some(client) = &client {
        tokio::spawn(objects::follow(client.clone(), ground.clone(), context.clone()));
    }
    let place = Place {
        flag: "--listen",
        address: args.listen,
        name: args.target().name(),
    };
    let routes = Webhook::new(Accountant::new(ground, &context.metrics)).routes(&PATHS);
    let serving = admission::start(&place, routes, context).await?;
    if let Some(client) = client {
        register(args, &serving, &client);
    }
    Ok(Prepared { serving })
}

fn register(args: &Args, serving: &admission::Serving, client: &Client) {
    for configuration in &args.webhook_configuration {
        let registration = Registration {
            sort: Sort::Mutating,
            configuration: configuration.clone(),
            manager: FIELD_MANAGER,
            target: args.target(),
        };
        // All replicas write the same roots, so none leads. The sender may go: what it said stays, and nobody says otherwise.
        let leads = watch::Sender::new(true).subscribe();
        serving.register(client.clone(), registration, leads);
    }
}

/// Runs until the context's shutdown.
///
/// # Errors
/// None any more; what can fail has, in [`prepare`].
pub async fn run_prepared(
    _args: Args,
    prepared: Prepared,
    identity: Identity,
    context: Context,
) -> Result<(), Error> {
    prepared.serving.identify(&identity);
    context.shutdown.cancelled().await;
    prepared.serving.ended().await;
    Ok(())
}

/// [`prepare`] and [`run_prepared`] for who has an identity already.
///
/// # Errors
/// As [`prepare`].
pub async fn run(args: Args, identity: Identity, context: Context) -> Result<(), Error> {
    let prepared = prepare(&args, &context).await?;
    run_prepared(args, prepared, identity, context).await
}
