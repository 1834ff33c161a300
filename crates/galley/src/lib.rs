//! Galley: reads configuration, says what is wrong with it, and distributes it as one feed of typed objects.
//!
//! It knows where configuration comes from (folders, the Kubernetes API) and nothing of what it means to Envoy.

pub mod analysis;
mod derived;
pub mod folder;
pub mod jwks;
pub mod kubernetes;
pub mod last_good;
pub mod merge;
mod namespaces;
pub mod report;
mod secret_facts;
mod serve;
mod sources;
pub mod status;
pub mod store;
mod touched;
mod watch;
pub mod webhook;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use config::Object;
use runtime::grpc::{self, ServeError};
use runtime::tls::{self, ClientAuth, ConfigError};
use runtime::{BindError, Condition, Context, Identity};
use tokio::sync::watch as channel;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use xds::Table;

use crate::last_good::LastGood;
use crate::report::{Reporter, States};
use crate::serve::Feed;
use crate::sources::Inlet;
use crate::store::{State, Store};

/// Shortest time between two reports to people.
const TELL: Duration = Duration::from_millis(100);

/// How long a change's streams have the processors to themselves, before anything else is made of it.
const BEHIND: Duration = Duration::from_millis(5);

/// Galley reads the mesh's configuration, checks it and distributes it
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Folder with configuration (YAML, JSON); given several times, a later folder's objects replace those of the same name in
    /// the earlier ones and in the cluster
    #[arg(
        long,
        env = "ARGOSY_CONFIG",
        value_name = "DIR",
        value_delimiter = ',',
        required_unless_present = "kubernetes"
    )]
    pub config: Vec<PathBuf>,
    /// The Kubernetes API as a source.
    #[command(flatten)]
    pub kubernetes: kubernetes::Options,
    /// Folder where the last good objects are kept, so that a restart does not lose what a bad edit replaced; none are
    /// kept unless given
    #[arg(long, env = "ARGOSY_STATE_DIR", value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Address to serve the feed on, over mutual TLS
    #[arg(
        long,
        env = "ARGOSY_LISTEN",
        value_name = "ADDR",
        default_value = "127.0.0.1:15019"
    )]
    pub listen: SocketAddr,
    /// Citadel's address, HOST:PORT: what it tells of Secrets without their keys is analysed with the gateways that name
    /// them; Secrets are not looked at unless given
    #[arg(long, env = "ARGOSY_SECRET_FACTS_ADDRESS", value_name = "HOST:PORT")]
    pub secret_facts_address: Option<String>,
    /// Keys (JWKS) that are fetched.
    #[command(flatten)]
    pub jwks: jwks::Args,
    /// The admission webhook.
    #[command(flatten)]
    pub webhook: webhook::Args,
    /// The objects' status.
    #[command(flatten)]
    pub status: status::Args,
}

/// Why Galley could not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no way to the Kubernetes API.
    #[error(transparent)]
    Kubernetes(#[from] kubernetes::ClientError),
    /// The folder is not there.
    #[error("--config {}: {source}", path.display())]
    Folder {
        /// As given.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The address cannot be had.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] ConfigError),
    /// The admission webhook cannot be served.
    #[error(transparent)]
    Webhook(#[from] admission::StartError),
    /// What Citadel tells of Secrets cannot be followed.
    #[error(transparent)]
    SecretFacts(#[from] secret_facts::FactsError),
    /// Keys cannot be fetched.
    #[error(transparent)]
    Jwks(#[from] jwks::SetupError),
    /// The server failed.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// A debug page cannot be mounted.
    #[error(transparent)]
    Admin(#[from] runtime::admin::MountError),
}

/// Runs until the context's shutdown.
///
/// # Errors
/// When the folder is missing at the start, the address cannot be had, or the server fails.
pub async fn run(args: Args, identity: Identity, context: Context) -> Result<(), Error> {
    let prepared = prepare(&args, &context).await?;
    run_prepared(args, prepared, identity, context).await
}

/// What runs before there is an identity.
pub struct Prepared {
    client: Option<kube::Client>,
    ready: Condition,
    webhook: Option<webhook::Serving>,
    leader: channel::Receiver<status::lease::Leader>,
    electing: Option<tokio::task::JoinHandle<()>>,
}

/// Starts what needs no identity: the election of a leader, and the admission webhook, which has a certificate of its own
/// until there is an identity.
///
/// # Errors
/// When there is no way to the Kubernetes API, or the webhook's address cannot be had.
pub async fn prepare(args: &Args, context: &Context) -> Result<Prepared, Error> {
    let client = match args.kubernetes.kubernetes {
        true => Some(kubernetes::client(&args.kubernetes).await?),
        false => None,
    };
    if let Some(client) = client.clone() {
        tokio::spawn(wait_for_answer(client, context.clone()));
    }
    let ready = context.readiness.condition("source");
    let webhook = webhook::start(&args.webhook, context).await?;
    let (leader, electing) = status::elect(&args.status, client.clone(), context);
    if let (Some(webhook), Some(client)) = (&webhook, &client) {
        webhook.register(client.clone(), leader.clone());
    }
    Ok(Prepared {
        client,
        ready,
        webhook,
        leader,
        electing,
    })
}

/// Not ready, and why, until the API server has answered once; what is read of it comes after the identity.
async fn wait_for_answer(client: kube::Client, context: Context) {
    let ready = context.readiness.condition("kubernetes");
    let asking = ::kubernetes::answered(&client, |why| {
        ready.set_not_ready(runtime::context::describe(why));
    });
    if context.shutdown.run_until_cancelled(asking).await.is_some() {
        ready.set_ready();
    }
}

/// As [`run`], with what [`prepare`] gave.
///
/// # Errors
/// As [`run`].
pub async fn run_prepared(
    args: Args,
    prepared: Prepared,
    identity: Identity,
    context: Context,
) -> Result<(), Error> {
    let Prepared {
        client,
        ready,
        webhook,
        leader,
        electing,
    } = prepared;
    for folder in &args.config {
        std::fs::read_dir(folder).map_err(|source| Error::Folder {
            path: folder.clone(),
            source,
        })?;
    }
    let listener = runtime::bind("--listen", args.listen).await?;
    let (states, seen) = channel::channel(None);
    let (tables, served) = channel::channel(None);
    let (layers, kept) = channel::channel(Vec::new());
    context
        .admin
        .mount("/debug/config", report::routes(seen.clone()))?;
    let last_good = args.state_dir.as_deref().map(LastGood::new);
    let remembered = remembered(last_good.clone()).await;
    let mut tasks = JoinSet::new();
    let inlets = start(&args, client.clone(), &remembered, &mut tasks, &context);
    let trust_domain = identity.id().trust_domain().to_string();
    let (merged, unfilled) = channel::channel(None);
    let keys = jwks::Jwks::new(&args.jwks, args.state_dir.as_deref(), &context.metrics)?;
    tasks.spawn(keys.run(unfilled, states, context.shutdown.clone()));
    tasks.spawn(sources::run(
        inlets,
        trust_domain,
        layers,
        merged,
        ready,
        context.shutdown.clone(),
    ));
    let (told, published) = channel::channel(None);
    tasks.spawn(publish(seen.clone(), tables, told, context.shutdown.clone()));
    let facts = match &args.secret_facts_address {
        Some(address) => Some(secret_facts::follow(address, &identity, &context)?),
        None => None,
    };
    let (found, analyses) = analysis::channel();
    context
        .admin
        .mount("/debug/analysis", analysis::routes(analyses.clone()))?;
    tasks.spawn(analysis::run(
        published.clone(),
        facts,
        found,
        context.metrics.clone(),
        context.shutdown.clone(),
    ));
    let reports = status::reports::start(leader.clone(), &context)?;
    if let Some(webhook) = &webhook {
        webhook.identify(&identity);
    }
    if let Some(client) = client {
        let (told, compiled) = channel::channel(Arc::default());
        tasks.spawn(status::compiled::run(
            published.clone(),
            leader.clone(),
            told,
            context.shutdown.clone(),
        ));
        let sources = status::writer::Sources {
            states: published.clone(),
            analyses,
            reports: reports.clone(),
            compiled,
        };
        let (rate, context) = (args.status.status_rate, context.clone());
        tasks.spawn(status::writer::run(client, sources, leader, rate, context));
    }
    tasks.spawn(tell(
        published,
        Reporter::new(&context.metrics),
        context.shutdown.clone(),
    ));
    if let Some(last_good) = last_good {
        tasks.spawn(last_good::keep(last_good, kept, context.shutdown.clone()));
    }
    let server = xds::Server::new(Feed::new(served), limits());
    let tls = tls::server(&identity, ClientAuth::Required)?;
    let served = grpc::serve(
        "feed",
        listener,
        Some(tls),
        Routes::new(server.ads()).add_service(reports.service()),
        &grpc::Limits::default(),
        &context,
    )
    .await;
    context.shutdown.cancel();
    while tasks.join_next().await.is_some() {}
    if let Some(electing) = electing {
        _ = electing.await;
    }
    if let Some(webhook) = webhook {
        webhook.ended().await;
    }
    Ok(served?)
}

/// Starts the sources, the lowest in rank first.
fn start(
    args: &Args,
    client: Option<kube::Client>,
    remembered: &[Arc<Object>],
    tasks: &mut JoinSet<()>,
    context: &Context,
) -> Vec<Inlet> {
    let shutdown = &context.shutdown;
    let mut inlets = Vec::new();
    if let Some(client) = client {
        let (outlet, inlet) = sources::channel("the Kubernetes API", "connecting");
        let (namespace, remembered) = (args.kubernetes.root_namespace.clone(), remembered.to_vec());
        tasks.spawn(kubernetes::run(
            client,
            namespace,
            remembered,
            outlet,
            context.metrics.clone(),
            shutdown.clone(),
        ));
        inlets.push(inlet);
    }
    for folder in &args.config {
        let name = folder.display().to_string();
        let store = match &*args.config {
            [_] => Store::default(),
            _ => Store::of_folder(&name),
        };
        let store = store.remembering(remembered.iter().cloned());
        let (outlet, inlet) = sources::channel(&name, "reading the folder");
        tasks.spawn(watch::run(folder.clone(), store, outlet, shutdown.clone()));
        inlets.push(inlet);
    }
    inlets
}

/// A subscriber has one stream for all kinds, and objects that are gone leave at once.
fn limits() -> xds::server::Limits {
    let stream = xds::stream::Settings {
        types: config::Kind::distributed().count(),
        drain: Duration::ZERO,
        ..Default::default()
    };
    xds::server::Limits {
        stream,
        ..Default::default()
    }
}

/// Turns each state into a table. Nothing else is on the way from a change to its subscribers: whoever makes something else of
/// a state (analysis, statuses, what people are told) follows `published`.
async fn publish(
    mut states: States,
    served: channel::Sender<Option<Arc<Table>>>,
    published: channel::Sender<Option<Arc<State>>>,
    shutdown: CancellationToken,
) {
    let mut tables = feed::Tables::default();
    while next(&mut states, &shutdown).await {
        let state = states.borrow_and_update().clone();
        if let Some(state) = state {
            let table = tables.update(&state.objects);
            served.send_if_modified(|served| {
                let news = served.as_ref().is_none_or(|old| !Arc::ptr_eq(old, &table));
                *served = Some(table);
                news
            });
            published.send_replace(Some(state));
        }
    }
}

/// Tells people what is served and what is wrong, in log and metrics; what changes faster than they read is told together.
async fn tell(mut states: States, mut reporter: Reporter, shutdown: CancellationToken) {
    while next(&mut states, &shutdown).await {
        _ = shutdown.run_until_cancelled(tokio::time::sleep(BEHIND)).await;
        let state = states.borrow_and_update().clone();
        if let Some(state) = state {
            let (objects, findings) = (state.objects.len(), state.findings.len());
            tracing::info!(objects, findings, "configuration read");
            reporter.report(&state);
        }
        _ = shutdown.run_until_cancelled(tokio::time::sleep(TELL)).await;
    }
}

/// What was served before the restart, if it was kept; a fault of the file is no reason not to start.
async fn remembered(last_good: Option<LastGood>) -> Vec<Arc<Object>> {
    let load = move || last_good.map_or(Ok(Vec::new()), |kept| kept.load());
    match tokio::task::spawn_blocking(load).await {
        Ok(Ok(objects)) => objects,
        Ok(Err(error)) => {
            tracing::warn!(%error, "the objects of the run before are not known");
            Vec::new()
        }
        Err(_) => Vec::new(),
    }
}

async fn next(states: &mut States, shutdown: &CancellationToken) -> bool {
    shutdown
        .run_until_cancelled(states.changed())
        .await
        .is_some_and(|changed| changed.is_ok())
}
