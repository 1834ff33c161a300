//! Galley: reads configuration, says what is wrong with it, and distributes it as one feed of typed objects.
//!
//! It knows where configuration comes from (a folder, so far) and nothing of what it means to Envoy.

pub mod folder;
pub mod last_good;
pub mod report;
mod serve;
pub mod status;
pub mod store;
mod watch;
pub mod webhook;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use runtime::grpc::{self, ServeError};
use runtime::tls::{self, ClientAuth, ConfigError};
use runtime::{BindError, Context, Identity};
use tokio::sync::watch as channel;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use xds::Table;

use crate::last_good::LastGood;
use crate::report::{Reporter, States};
use crate::serve::Feed;
use crate::store::{State, Store};

/// Galley reads the mesh's configuration, checks it and distributes it
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Folder with the mesh's configuration (YAML, JSON)
    #[arg(long, env = "ARGOSY_CONFIG", value_name = "DIR")]
    pub config: PathBuf,
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
}

/// Why Galley could not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
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
    std::fs::read_dir(&args.config).map_err(|source| Error::Folder {
        path: args.config.clone(),
        source,
    })?;
    let listener = runtime::bind("--listen", args.listen).await?;
    let (states, seen) = channel::channel(None);
    let (tables, served) = channel::channel(None);
    context
        .admin
        .mount("/debug/config", report::routes(seen.clone()))?;
    let last_good = args.state_dir.as_deref().map(LastGood::new);
    let store = remembered(last_good.clone())
        .await
        .of_trust_domain(identity.id().trust_domain().to_string());
    let reading = tokio::spawn(watch::run(args.config, store, states, context.shutdown.clone()));
    let publishing = tokio::spawn(publish(seen, tables, last_good, context.clone()));
    let server = xds::Server::new(Feed::new(served), limits());
    let tls = tls::server(&identity, ClientAuth::Required)?;
    let served = grpc::serve(
        "feed",
        listener,
        Some(tls),
        Routes::new(server.ads()),
        &grpc::Limits::default(),
        &context,
    )
    .await;
    context.shutdown.cancel();
    _ = tokio::join!(reading, publishing);
    Ok(served?)
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

/// Turns each state into a table, and tells people what is wrong.
async fn publish(
    mut states: States,
    tables: channel::Sender<Option<Arc<Table>>>,
    last_good: Option<LastGood>,
    context: Context,
) {
    let ready = context.readiness.condition("source");
    ready.set_not_ready("reading the folder");
    let mut reporter = Reporter::new(&context.metrics);
    while next(&mut states, &context.shutdown).await {
        let Some(state) = states.borrow_and_update().clone() else {
            continue;
        };
        let table = feed::table(&state.objects, tables.borrow().as_deref());
        tables.send_replace(Some(Arc::new(table)));
        ready.set_ready();
        tracing::info!(
            objects = state.objects.len(),
            findings = state.findings.len(),
            "configuration read"
        );
        reporter.report(&state);
        keep(last_good.clone(), state).await;
    }
}

/// What was served before the restart, if it was kept; a fault of the file is no reason not to start.
async fn remembered(last_good: Option<LastGood>) -> Store {
    let load = move || last_good.map_or(Ok(Vec::new()), |kept| kept.load());
    match tokio::task::spawn_blocking(load).await {
        Ok(Ok(objects)) => Store::remembering(objects),
        Ok(Err(error)) => {
            tracing::warn!(%error, "the objects of the run before are not known");
            Store::default()
        }
        Err(_) => Store::default(),
    }
}

/// Keeps what is served for the next start; the mesh goes on where the disk refuses.
async fn keep(last_good: Option<LastGood>, state: Arc<State>) {
    let Some(last_good) = last_good else { return };
    let saved = tokio::task::spawn_blocking(move || last_good.save(&state.objects)).await;
    if let Ok(Err(error)) = saved {
        tracing::warn!(%error, "the last good objects are not kept for a restart");
    }
}

async fn next(states: &mut States, shutdown: &CancellationToken) -> bool {
    shutdown
        .run_until_cancelled(states.changed())
        .await
        .is_some_and(|changed| changed.is_ok())
}
