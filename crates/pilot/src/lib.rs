//! Pilot: turns the mesh's state into Envoy configuration and serves it over xDS.
//!
//! A shell around `model` (what the mesh is), `envoygen` (what a proxy should have) and `xds` (how it gets it). It knows
//! nothing of where configuration comes from.

pub mod access;
pub mod debug;
pub mod epoch;
pub mod metrics;
mod part;
pub mod proxies;
pub mod report;
pub mod source;
pub mod status;
pub mod tables;
pub mod timeline;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use config::Kind;
use feed::FollowError;
use runtime::grpc::{self, Limits, ServeError};
use runtime::tls::{self, ClientAuth, ConfigError};
use runtime::{BindError, Context, Identity};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use crate::epoch::Epochs;
use crate::metrics::PilotMetrics;
use crate::proxies::Proxies;
use crate::source::Mesh;

/// Age at which a proxy's stream ends, so that proxies spread anew over Pilots (Istio's `keepaliveMaxServerConnectionAge`). Each
/// stream's own is up to a tenth longer or shorter, and it waits for what is un-ACKed; the proxy resumes by its versions.
const STREAM_AGE: Duration = Duration::from_secs(30 * 60);
/// A delay without end would keep all that there ever was.
const MAX_REMOVAL_DELAY: Duration = Duration::from_secs(60 * 60);

/// Pilot turns the mesh's configuration into Envoy's and serves it over xDS
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Address to serve xDS on, over mutual TLS
    #[arg(
        long,
        env = "ARGOSY_LISTEN",
        value_name = "ADDR",
        default_value = "127.0.0.1:15012"
    )]
    pub listen: SocketAddr,
    /// Loopback address to serve xDS on without TLS, for tools; off unless given
    #[arg(long, env = "ARGOSY_XDS_PLAINTEXT", value_name = "ADDR")]
    pub xds_plaintext: Option<SocketAddr>,
    /// Galley's address
    #[arg(
        long,
        env = "ARGOSY_GALLEY_ADDRESS",
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:15019"
    )]
    pub galley_address: String,
    /// Mixer's address as proxies reach it, where MeshConfig names none; without it no proxy asks Mixer
    #[arg(long, env = "ARGOSY_MIXER_ADDRESS", value_name = "HOST:PORT")]
    pub mixer_address: Option<String>,
    /// How proxies are served
    #[command(flatten)]
    pub serving: Serving,
}

/// How proxies are served.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub struct Serving {
    /// How long proxies keep a cluster, listener or route that is gone from the configuration after nothing uses it any longer, up to
    /// 1h; longer than requests that were routed by it may last
    #[arg(long, env = "ARGOSY_REMOVAL_DELAY", value_name = "DURATION", value_parser = removal_delay, default_value = "60s")]
    pub removal_delay: Duration,
}

/// Reads `--removal-delay`.
fn removal_delay(text: &str) -> Result<Duration, String> {
    let delay = runtime::args::duration(text)?;
    match delay <= MAX_REMOVAL_DELAY {
        true => Ok(delay),
        false => Err("what is gone is removed after 1h at most".into()),
    }
}

/// Why Pilot could not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Plaintext was asked for on an address that others reach.
    #[error("--xds-plaintext {0}: plaintext is served on loopback addresses only, such as 127.0.0.1:15010")]
    Plaintext(SocketAddr),
    /// The feed cannot be followed.
    #[error(transparent)]
    Feed(#[from] FollowError),
    /// Reports cannot be sent.
    #[error(transparent)]
    Report(#[from] report::ReportError),
    /// An address cannot be had.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] ConfigError),
    /// A server failed.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// A debug page cannot be mounted.
    #[error(transparent)]
    Admin(#[from] runtime::admin::MountError),
}

/// Runs until the context's shutdown.
///
/// # Errors
/// When an address cannot be had, the flags cannot work, or a server fails.
pub async fn run(args: Args, identity: Identity, context: Context) -> Result<(), Error> {
    let listener = runtime::bind("--listen", args.listen).await?;
    let plaintext = plaintext(args.xds_plaintext).await?;
    let options = feed::Options {
        address: args.galley_address,
        kinds: Kind::distributed().collect(),
    };
    let states = feed::follow(&options, &identity, &context)?;
    let settings = envoygen::Settings {
        mixer_address: args.mixer_address,
        ..envoygen::Settings::default()
    };
    let proxies = Arc::new(Proxies::new(settings, PilotMetrics::new(&context.metrics)));
    debug::mount(&context.admin, &proxies)?;
    let (epochs, snapshots) = tokio::sync::watch::channel(None);
    let building = tokio::spawn(epoch::run(states, epochs, context.shutdown.clone()));
    let advancing = tokio::spawn(advance(snapshots, proxies.clone(), context.clone()));
    let reporting = report::start(&options.address, &identity, proxies.clone(), &context)?;
    let bounds = xds::server::Limits {
        stream: xds::stream::Settings {
            drain: args.serving.removal_delay,
            ..Default::default()
        },
        age: Some(STREAM_AGE),
        ..Default::default()
    };
    let server = xds::Server::new(Mesh(proxies), bounds);
    let served = serve(listener, plaintext, server, &identity, &context).await;
    context.shutdown.cancel();
    _ = tokio::join!(building, advancing, reporting);
    served
}

/// The listener for tools.
async fn plaintext(address: Option<SocketAddr>) -> Result<Option<TcpListener>, Error> {
    match address {
        None => Ok(None),
        Some(address) if !address.ip().is_loopback() => Err(Error::Plaintext(address)),
        Some(address) => Ok(Some(runtime::bind("--xds-plaintext", address).await?)),
    }
}

/// Gives each new snapshot to the proxies, and ends their streams at the shutdown. Pilot is ready once there is one.
async fn advance(mut epochs: Epochs, proxies: Arc<Proxies>, context: Context) {
    let ready = context.readiness.condition("snapshot");
    ready.set_not_ready("waiting for the first complete configuration");
    while next(&mut epochs, &context.shutdown).await {
        let Some(epoch) = epochs.borrow_and_update().clone() else {
            continue;
        };
        let proxies = proxies.clone();
        // Generation is work for the processor; the streams' threads must not wait for it.
        if tokio::task::spawn_blocking(move || proxies.advance(&epoch))
            .await
            .is_ok()
        {
            ready.set_ready();
        }
    }
    // Streams last for as long as they are served; without this a shutdown would wait for its whole grace.
    proxies.close();
}

async fn next(epochs: &mut Epochs, shutdown: &CancellationToken) -> bool {
    shutdown
        .run_until_cancelled(epochs.changed())
        .await
        .is_some_and(|changed| changed.is_ok())
}

async fn serve(
    listener: TcpListener,
    plaintext: Option<TcpListener>,
    server: xds::Server<Mesh>,
    identity: &Identity,
    context: &Context,
) -> Result<(), Error> {
    let tls = tls::server(identity, ClientAuth::Required)?;
    let limits = Limits::default();
    let over_tls = grpc::serve(
        "xds",
        listener,
        Some(tls),
        Routes::new(server.ads()),
        &limits,
        context,
    );
    let Some(plaintext) = plaintext else {
        return Ok(over_tls.await?);
    };
    let routes = Routes::new(server.ads());
    let over_plaintext = grpc::serve("xds-plaintext", plaintext, None, routes, &limits, context);
    tokio::try_join!(over_tls, over_plaintext)?;
    Ok(())
}
