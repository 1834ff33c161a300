//! Citadel as a service: its flags, and its life from start to shutdown.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use proto::ca::istio_certificate_service_server::IstioCertificateServiceServer;
use proto::trust::credential_service_server::CredentialServiceServer;
use proto::trust::trust_bundle_service_server::TrustBundleServiceServer;
use runtime::grpc::{self, Limits, ServeError};
use runtime::identity::StartError;
use runtime::readiness::Condition;
use runtime::spiffe::{SpiffeId, SpiffeIdError};
use runtime::tls::{self, ClientAuth, ConfigError};
use runtime::{BindError, Context, Identity};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tonic::service::Routes;

use crate::admin;
use crate::auth::Authenticator;
use crate::auth::fetched::Fetched;
use crate::ca::rotation::Policy;
use crate::ca::{AuthorityError, Folder, MAX_LEAF_TTL};
use crate::credential::{self, CredentialServer, Known, Watcher};
use crate::current::Current;
use crate::identity_file::{self, IdentityConfig, IdentityFileError};
use crate::keeper::Keeper;
use crate::kubernetes;
use crate::kubernetes::access::Access;
use crate::kubernetes::cluster::Cluster;
use crate::local::LocalIssuer;
use crate::meters::Meters;
use crate::reload::Reloader;
use crate::service::{CallerLimits, CertificateService};
use crate::trust::TrustService;

/// Where Citadel listens unless told: Istio's port for its CA.
pub const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8060);
/// Where Citadel's admin server listens unless told.
pub const DEFAULT_ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8061);

/// Age of a root at which it is replaced unless told: four fifths of its life of ten years.
pub const ROOT_MAX_AGE: Duration = Duration::from_secs(70_080 * 3600);

/// Certificates that one identity can get each second unless told: an account may have thousands of replicas.
pub const CALLER_RATE: u32 = 50;

/// How long certificates alone renew an identity unless told: a week, so that a token can be missing over holidays.
pub const CERTIFICATE_RENEWAL: Duration = Duration::from_secs(168 * 3600);

/// Largest message that is read, in bytes: a CSR and a little metadata.
const MAX_MESSAGE: usize = 64 << 10;

/// Citadel's flags.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Address of the certificate service (TLS)
    #[arg(long, env = "ARGOSY_LISTEN", value_name = "ADDR", default_value_t = DEFAULT_LISTEN)]
    pub listen: SocketAddr,
    /// Folder of the root's key and certificate (root-key.pem, root-cert.pem); made at the first start. With ca-key.pem,
    /// ca-cert.pem, root-cert.pem and cert-chain.pem in it, that authority signs
    #[arg(long, env = "ARGOSY_CA_DIR", value_name = "DIR")]
    pub ca_dir: PathBuf,
    /// Folder of Citadel's own notes on an authority that is plugged in (what was issued, what was revoked), mode 0700; the
    /// authority's own folder unless given
    #[arg(long, env = "ARGOSY_CA_STATE_DIR", value_name = "DIR")]
    pub ca_state_dir: Option<PathBuf>,
    /// Certificates that one identity can get each second, after twenty times as many at once
    #[arg(long, env = "ARGOSY_CALLER_RATE", value_name = "N", default_value_t = CALLER_RATE,
        value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub caller_rate: u32,
    /// The Kubernetes API.
    #[command(flatten)]
    pub kubernetes: kubernetes::Options,
    /// The mesh's identity.yaml: trust domain and token issuers
    #[arg(long, env = "ARGOSY_IDENTITY", value_name = "FILE")]
    pub identity: Option<PathBuf>,
    /// Life of a workload's certificate, and the longest that can be asked for; at most 24h
    #[arg(long, env = "ARGOSY_LEAF_TTL", value_name = "DURATION", value_parser = leaf_ttl, default_value = "24h")]
    pub leaf_ttl: Duration,
    /// Folder of Secrets (YAML) with the TLS credentials that gateways name by credentialName; mode 0700
    #[arg(long, env = "ARGOSY_SECRETS_DIR", value_name = "DIR")]
    pub secrets_dir: Option<PathBuf>,
    /// How long an identity is renewed by its certificate alone since it last showed a token: who has stolen a key has no
    /// longer; 0s: certificates renew nothing
    #[arg(long, env = "ARGOSY_CERTIFICATE_RENEWAL", value_name = "DURATION", value_parser = runtime::args::duration,
        default_value = "168h")]
    pub certificate_renewal: Duration,
    /// DNS names in Citadel's own certificate beside citadel.argosy-system.svc, such as istiod.istio-system.svc, for clients
    /// that know servers by name
    #[arg(long, env = "ARGOSY_SERVER_NAMES", value_name = "NAME,…", value_delimiter = ',', value_parser = server_name)]
    pub server_names: Vec<String>,
    /// Age at which the root is replaced by a new one, in steps that no workload notices
    #[arg(long, env = "ARGOSY_ROOT_MAX_AGE", value_name = "DURATION", value_parser = root_age, default_value = "70080h")]
    pub root_max_age: Duration,
}

impl Args {
    /// The defaults with this CA folder.
    #[must_use]
    pub fn new(ca_dir: PathBuf) -> Self {
        Self {
            listen: DEFAULT_LISTEN,
            ca_dir,
            ca_state_dir: None,
            caller_rate: CALLER_RATE,
            kubernetes: kubernetes::Options::default(),
            identity: None,
            leaf_ttl: MAX_LEAF_TTL,
            secrets_dir: None,
            certificate_renewal: CERTIFICATE_RENEWAL,
            server_names: Vec::new(),
            root_max_age: ROOT_MAX_AGE,
        }
    }
}

/// Reads `--root-max-age`.
///
/// # Errors
/// When the text is no duration, or one that leaves no time to rotate before the root ends.
pub fn root_age(text: &str) -> Result<Duration, String> {
    let age = runtime::args::duration(text)?;
    match (Duration::from_secs(60)..=ROOT_MAX_AGE).contains(&age) {
        true => Ok(age),
        false => Err("a root's age is from 1m to 70080h, four fifths of its life".into()),
    }
}

/// Reads one of `--server-names`.
///
/// # Errors
/// When it is no DNS name (RFC 1123, section 2.1, in lower case, without wildcards).
pub fn server_name(text: &str) -> Result<String, String> {
    let fits = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(fits)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    match text.len() <= 253 && text.split('.').all(label) {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "{text:?} is not a DNS name: write it like istiod.istio-system.svc"
        )),
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
    Authority(#[from] AuthorityError),
    /// `--identity`.
    #[error("--identity: {0}")]
    Identity(#[from] IdentityFileError),
    /// There is no way to the Kubernetes API.
    #[error(transparent)]
    Kubernetes(#[from] kubernetes::ClientError),
    /// The authority's Secret.
    #[error(transparent)]
    Secret(#[from] kubernetes::OpenError),
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
    /// The admin server.
    #[error(transparent)]
    Admin(#[from] runtime::admin::MountError),
    /// The server.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// The system could not run a blocking task.
    #[error("cannot read files: {0}")]
    Task(#[from] tokio::task::JoinError),
}

/// What Citadel reads before it serves: `identity.yaml` and the authority. A process that runs other services too gets
/// their identities from it.
pub struct Ca {
    cluster: Option<Cluster>,
    current: Current,
    folder: Folder,
    seen_folder: u64,
    config: IdentityConfig,
    seen_identity: identity_file::Read,
}

impl std::fmt::Debug for Ca {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ca")
            .field("current", &self.current)
            .finish_non_exhaustive()
    }
}

impl Ca {
    /// Reads the files; makes a root at the first start.
    ///
    /// # Errors
    /// When they cannot be used; the message says which and what to do.
    pub async fn open(args: &Args) -> Result<Self, RunError> {
        Self::open_when_there(args, None).await
    }

    /// As [`Self::open`]; with `ready` it waits for the API server as long as it takes, and says there why.
    async fn open_when_there(args: &Args, ready: Option<&Condition>) -> Result<Self, RunError> {
        let (config, seen_identity) =
            load_identity(args.identity.clone(), args.kubernetes.kubernetes).await?;
        let folder = Folder::new(args.ca_dir.clone(), config.trust_domain.clone())
            .with_state(args.ca_state_dir.clone())
            .with_aliases(config.trust_domain_aliases.clone());
        let cluster = match kubernetes::client(&args.kubernetes).await? {
            Some(client) => {
                Some(Cluster::open(client, &args.kubernetes, &args.ca_dir, &folder, ready).await?)
            }
            None => None,
        };
        let opened = folder.clone();
        let (current, seen_folder) = tokio::task::spawn_blocking(move || Keeper::open(&opened)).await??;
        let authority = current.authority();
        tracing::info!(dir = %args.ca_dir.display(), trust_domain = %config.trust_domain, plugged_in = folder.plugged(),
            not_after = runtime::logging::utc(authority.not_after()), made = authority.created(), "authority ready");
        Ok(Self {
            cluster,
            current,
            folder,
            seen_folder,
            config,
            seen_identity,
        })
    }

    /// The identity of a service of the mesh in this process, kept renewed until the context's shutdown.
    ///
    /// # Errors
    /// When the trust domain is too long for an id in it, or shutdown comes first.
    pub async fn identity(
        &self,
        service: &str,
        ttl: Duration,
        context: &Context,
    ) -> Result<Identity, RunError> {
        self.identity_with(service, ttl, Vec::new(), context).await
    }

    async fn identity_with(
        &self,
        service: &str,
        ttl: Duration,
        names: Vec<String>,
        context: &Context,
    ) -> Result<Identity, RunError> {
        let id = SpiffeId::system(&self.config.trust_domain, service)?;
        let issuer = LocalIssuer::new(self.current.clone(), id, ttl).with_names(names);
        Ok(Identity::start(issuer, context).await?)
    }
}

/// Runs Citadel until the context's shutdown.
///
/// # Errors
/// When its files, address or certificate cannot be used; the message says which and what to do.
pub async fn run(args: Args, context: Context) -> Result<(), RunError> {
    let listener = runtime::bind("--listen", args.listen).await?;
    serve(listener, args, context).await
}

/// As [`run`], with files that were read before.
///
/// # Errors
/// As [`run`].
pub async fn run_with(ca: Ca, args: Args, context: Context) -> Result<(), RunError> {
    let listener = runtime::bind("--listen", args.listen).await?;
    serve_with(listener, ca, args, context).await
}

/// As [`run`], on a listener that the caller has opened; `args.listen` plays no part.
///
/// # Errors
/// As [`run`].
pub async fn serve(listener: TcpListener, args: Args, context: Context) -> Result<(), RunError> {
    let ready = context.readiness.condition("authority");
    let opening = Ca::open_when_there(&args, Some(&ready));
    let Some(ca) = context.shutdown.run_until_cancelled(opening).await else {
        return Ok(());
    };
    let ca = ca?;
    ready.set_ready();
    serve_with(listener, ca, args, context).await
}

async fn serve_with(listener: TcpListener, ca: Ca, args: Args, context: Context) -> Result<(), RunError> {
    let serving = context.readiness.condition("serving");
    let meters = Meters::new(&context.metrics);
    let ttl = args.leaf_ttl;
    let names = args.server_names.clone();
    let identity = ca.identity_with("citadel", ttl, names, &context).await?;
    let current = ca.current.clone();
    let config = Arc::new(ArcSwap::from_pointee(ca.config));
    if let Some(path) = args.identity {
        let reloader = Reloader {
            path,
            config: config.clone(),
            seen: ca.seen_identity,
            meters: meters.clone(),
        };
        let stop = context.shutdown.clone();
        tokio::spawn(async move { stop.run_until_cancelled(reloader.run()).await });
    }
    let fetched = Arc::new(Fetched::default());
    let fetching = fetched.clone().run(config.clone());
    tokio::spawn(context.shutdown.clone().run_until_cancelled_owned(fetching));
    let policy = Policy {
        leaf_ttl: ttl,
        max_age: Some(args.root_max_age),
    };
    let start = (ca.seen_folder, ca.cluster.is_none());
    let keeper = Keeper::new(ca.folder, policy, current.clone(), start, meters.clone());
    let (commands, asked) = mpsc::channel(1);
    context.admin.mount(admin::PREFIX, admin::routes(commands))?;
    let stop = context.shutdown.clone();
    tokio::spawn(async move { stop.run_until_cancelled(keeper.run(asked)).await });
    let (mut reviewer, mut rights) = (None, Access::OwnNamespace);
    let mut sources = Vec::new();
    if let Some(cluster) = ca.cluster {
        let cluster = cluster.start(&args.kubernetes, &current, &context);
        (reviewer, rights) = (Some(Arc::new(cluster.reviewer)), cluster.access);
        sources.push(cluster.secrets);
    }
    let (watcher, secrets) = Watcher::new(credential::Folder(args.secrets_dir));
    sources.push(secrets);
    let (joined, secrets) = watch::channel(Known::default());
    let joining = credential::join(sources, joined);
    tokio::spawn(context.shutdown.clone().run_until_cancelled_owned(joining));
    let stop = context.shutdown.clone();
    tokio::spawn(async move { stop.run_until_cancelled(watcher.run()).await });
    let (tables, facts) = watch::channel(None);
    tokio::spawn(credential::publish(
        secrets.clone(),
        tables,
        context.shutdown.clone(),
    ));
    let facts = credential::FactsFeed {
        tables: facts,
        current: current.clone(),
    };
    let facts = xds::Server::new(facts, credential::limits());
    let credentials = CredentialServiceServer::new(CredentialServer {
        secrets,
        access: rights,
        current: current.clone(),
        shutdown: context.shutdown.clone(),
    });
    let trust = TrustBundleServiceServer::new(TrustService {
        current: current.clone(),
        shutdown: context.shutdown.clone(),
    });
    let service = CertificateService {
        current,
        authenticator: Authenticator {
            config,
            fetched,
            reviewer,
        },
        ttl,
        certificate_renewal: args.certificate_renewal,
        limits: Arc::new(CallerLimits::new(args.caller_rate)),
        meters,
    };
    let server = IstioCertificateServiceServer::new(service).max_decoding_message_size(MAX_MESSAGE);
    let tls = tls::server(&identity, ClientAuth::Optional)?;
    serving.set_ready();
    let served = grpc::serve(
        "ca",
        listener,
        Some(tls),
        Routes::new(server)
            .add_service(trust.max_decoding_message_size(MAX_MESSAGE))
            .add_service(credentials.max_decoding_message_size(MAX_MESSAGE))
            .add_service(facts.ads()),
        &limits(),
        &context,
    )
    .await;
    serving.set_not_ready("stopped");
    context.admin.unmount(admin::PREFIX);
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

/// Reads who is believed; in a cluster (`reviews`) the API server knows more.
async fn load_identity(
    path: Option<PathBuf>,
    reviews: bool,
) -> Result<(IdentityConfig, identity_file::Read), RunError> {
    let Some(path) = path else {
        if !reviews {
            tracing::warn!(
                "no --identity: nobody can get a first certificate, because no token issuer is known"
            );
        }
        return Ok(Default::default());
    };
    let loaded = tokio::task::spawn_blocking(move || identity_file::load(&path)).await??;
    if !reviews && loaded.0.token_issuers.is_empty() && loaded.0.remote_issuers.is_empty() {
        tracing::warn!("identity.yaml has no tokenIssuers: nobody can get a first certificate");
    }
    Ok(loaded)
}
