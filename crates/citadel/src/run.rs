//! Citadel as a service: its flags, and its life from start to shutdown.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use proto::ca::istio_certificate_service_server::IstioCertificateServiceServer;
use runtime::grpc::{self, Limits, ServeError};
use runtime::identity::StartError;
use runtime::spiffe::{SpiffeId, SpiffeIdError};
use runtime::tls::{self, ClientAuth, ConfigError};
use runtime::{BindError, Context, Identity};
use tokio::net::TcpListener;
use tonic::service::Routes;

use crate::ca::{MAX_LEAF_TTL, Root, RootError};
use crate::identity_file::{self, IdentityConfig, IdentityFileError};
use crate::local::LocalIssuer;
use crate::meters::Meters;
use crate::reload::Reloader;
use crate::service::CertificateService;

/// Where Citadel listens unless told: Istio's port for its CA.
pub const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8060);
/// Where Citadel's admin server listens unless told.
pub const DEFAULT_ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8061);

/// Largest message that is read, in bytes: a CSR and a little metadata.
const MAX_MESSAGE: usize = 64 << 10;

/// Citadel's flags.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Address of the certificate service (TLS)
    #[arg(long, env = "ARGOSY_LISTEN", value_name = "ADDR", default_value_t = DEFAULT_LISTEN)]
    pub listen: SocketAddr,
    /// Folder of the root's key and certificate (root-key.pem, root-cert.pem); made at the first start
    #[arg(long, env = "ARGOSY_CA_DIR", value_name = "DIR")]
    pub ca_dir: PathBuf,
    /// The mesh's identity.yaml: trust domain and token issuers
    #[arg(long, env = "ARGOSY_IDENTITY", value_name = "FILE")]
    pub identity: Option<PathBuf>,
    /// Life of a workload's certificate, and the longest that can be asked for; at most 24h
    #[arg(long, env = "ARGOSY_LEAF_TTL", value_name = "DURATION", value_parser = leaf_ttl, default_value = "24h")]
    pub leaf_ttl: Duration,
}

impl Args {
    /// The defaults with this CA folder.
    #[must_use]
    pub fn new(ca_dir: PathBuf) -> Self {
        Self {
            listen: DEFAULT_LISTEN,
            ca_dir,
            identity: None,
            leaf_ttl: MAX_LEAF_TTL,
        }
    }
}

/// Reads `--leaf-ttl`.
///
/// # Errors
/// When the text is no duration, or one that no certificate may have.
pub fn leaf_ttl(text: &str) -> Result<Duration, String> {
    let ttl = runtime::args::duration(text)?;
    match (Duration::from_secs(5)..=MAX_LEAF_TTL).contains(&ttl) {
        true => Ok(ttl),
        false => Err("a certificate's life is from 5s to 24h".into()),
    }
}

/// Citadel cannot run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// `--ca-dir`.
    #[error("--ca-dir: {0}")]
    Root(#[from] RootError),
    /// `--identity`.
    #[error("--identity: {0}")]
    Identity(#[from] IdentityFileError),
    /// `--listen`.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// Its own certificate.
    #[error("own certificate: {0}")]
    Own(#[from] StartError),
    /// The trust domain is too long for an id in it.
    #[error("trust domain: {0}")]
    TrustDomain(#[from] SpiffeIdError),
    /// TLS.
    #[error(transparent)]
    Tls(#[from] ConfigError),
    /// The server.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// The system could not run a blocking task.
    #[error("cannot read files: {0}")]
    Task(#[from] tokio::task::JoinError),
}

/// Runs Citadel until the context's shutdown.
///
/// # Errors
/// When its files, address or certificate cannot be used; the message says which and what to do.
pub async fn run(args: Args, context: Context) -> Result<(), RunError> {
    let listener = runtime::bind("--listen", args.listen).await?;
    serve(listener, args, context).await
}

/// As [`run`], on a listener that the caller has opened; `args.listen` plays no part.
///
/// # Errors
/// As [`run`].
pub async fn serve(listener: TcpListener, args: Args, context: Context) -> Result<(), RunError> {
    let serving = context.readiness.condition("serving");
    let meters = Meters::new(&context.metrics);
    let (config, seen) = load_identity(args.identity.clone()).await?;
    let root = load_root(&args, &config, &meters).await?;
    let id = SpiffeId::system(&config.trust_domain, "citadel")?;
    let ttl = args.leaf_ttl;
    let identity = Identity::start(
        LocalIssuer {
            root: root.clone(),
            id,
            ttl,
        },
        &context,
    )
    .await?;
    let config = Arc::new(ArcSwap::from_pointee(config));
    if let Some(path) = args.identity {
        let reloader = Reloader {
            path,
            config: config.clone(),
            seen,
            meters: meters.clone(),
        };
        let stop = context.shutdown.clone();
        tokio::spawn(async move { stop.run_until_cancelled(reloader.run()).await });
    }
    let service = CertificateService {
        root,
        config,
        ttl,
        meters,
    };
    let server = IstioCertificateServiceServer::new(service).max_decoding_message_size(MAX_MESSAGE);
    let tls = tls::server(&identity, ClientAuth::Optional)?;
    serving.set_ready();
    let served = grpc::serve(
        "ca",
        listener,
        Some(tls),
        Routes::new(server),
        &limits(),
        &context,
    )
    .await;
    serving.set_not_ready("stopped");
    Ok(served?)
}

/// Requests are small and few on a connection; headers hold a token.
fn limits() -> Limits {
    let (stream_window, connection_window) = (64 << 10, 256 << 10);
    Limits {
        streams: 16,
        header_list: 32 << 10,
        stream_window,
        connection_window,
        ..Limits::default()
    }
}

async fn load_root(args: &Args, config: &IdentityConfig, meters: &Meters) -> Result<Arc<Root>, RunError> {
    let (dir, trust_domain) = (args.ca_dir.clone(), config.trust_domain.clone());
    let root = tokio::task::spawn_blocking(move || Root::load_or_create(&dir, &trust_domain)).await??;
    meters.root_expiry.set(root.not_after());
    tracing::info!(dir = %args.ca_dir.display(), trust_domain = %config.trust_domain, not_after = runtime::logging::utc(root.not_after()),
        made = root.created(), "root certificate ready");
    Ok(Arc::new(root))
}

async fn load_identity(path: Option<PathBuf>) -> Result<(IdentityConfig, identity_file::Read), RunError> {
    let Some(path) = path else {
        tracing::warn!("no --identity: nobody can get a first certificate, because no token issuer is known");
        return Ok(Default::default());
    };
    let loaded = tokio::task::spawn_blocking(move || identity_file::load(&path)).await??;
    if loaded.0.token_issuers.is_empty() {
        tracing::warn!("identity.yaml has no tokenIssuers: nobody can get a first certificate");
    }
    Ok(loaded)
}
