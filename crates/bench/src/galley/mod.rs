//! A Galley by itself, in a process of its own, and what its callers need: an authority of its own, whose certificates both
//! sides show as in a mesh.

mod authority;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use config::Kind;
use runtime::logging::LogHandle;
use runtime::tls::{self, Expected};
use runtime::{Context, Identity, SpiffeId, TrustDomain, grpc};
use tokio::sync::mpsc;
use xds::client::{Backoff, Client, Notice, State, Subscription};

pub(crate) use authority::{Authority, load};

use crate::process::{Cpu, Memory};
use crate::server::{Server, free_port};

/// Pause between attempts to reach a Galley that is starting.
const RETRY: Duration = Duration::from_millis(5);
/// Updates that may wait at a subscriber.
const WAITING: usize = 64;

/// Serves a folder as Galley does (what `bench feed` and `bench webhook` start).
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[arg(long)]
    listen: SocketAddr,
    #[arg(long)]
    webhook: SocketAddr,
    #[arg(long)]
    config: PathBuf,
    /// Folder with Galley's certificate
    #[arg(long)]
    identity: PathBuf,
}

/// The hidden subcommand: Galley until it is killed.
pub(crate) async fn serve(args: Args) -> anyhow::Result<()> {
    let identity = Identity::fixed(authority::load(&args.identity)?);
    let context = Context::new("galley", LogHandle::detached(), Duration::from_secs(1));
    let galley = galley::Args {
        config: vec![args.config],
        kubernetes: Default::default(),
        jwks: Default::default(),
        secret_facts_address: None,
        state_dir: None,
        listen: args.listen,
        webhook: galley::webhook::Args {
            webhook_listen: Some(args.webhook),
            ..Default::default()
        },
        status: Default::default(),
    };
    Ok(galley::run(galley, identity, context).await?)
}

/// A running Galley.
pub(crate) struct Galley {
    server: Server,
    pub(crate) webhook: SocketAddr,
    pilot: Identity,
    /// When its process was started.
    pub(crate) started: Instant,
    _identity: tempfile::TempDir,
}

impl Galley {
    /// Starts one over a folder. `cpu` is the one processor that it may use; any unless given.
    pub(crate) fn start(folder: &Path, cpu: Option<u32>) -> anyhow::Result<Self> {
        let authority = Authority::new()?;
        let identity = tempfile::tempdir()?;
        authority.save("galley", &["galley.argosy-system.svc"], identity.path())?;
        let webhook = free_port()?;
        let path = |path: &Path| path.to_str().map(str::to_owned).context("a path that is no text");
        let (config, own) = (path(folder)?, path(identity.path())?);
        let address = webhook.to_string();
        let arguments = [
            "galley-server",
            "--listen",
            "{}",
            "--webhook",
            &address,
            "--config",
            &config,
            "--identity",
            &own,
        ];
        let started = Instant::now();
        let server = Server::pinned(&arguments, &identity.path().join("log"), cpu)?;
        Ok(Self {
            server,
            webhook,
            pilot: Identity::fixed(authority.svid("pilot", &[])?),
            started,
            _identity: identity,
        })
    }

    /// Connects as a Pilot, which reads `kinds`.
    pub(crate) fn subscribe(&self, kinds: &[Kind]) -> anyhow::Result<mpsc::Receiver<Notice>> {
        let connector = tls::connector(&self.pilot, galley()?)?;
        let address = self.server.address.to_string();
        let connect = move || {
            let channel = grpc::channel(&address, Some(connector.clone()));
            async move { channel }
        };
        let wants = kinds
            .iter()
            .map(|kind| (feed::type_url(*kind), Subscription::Wildcard));
        let client = Client::new(connect, State::new(Default::default(), wants));
        let (notices, received) = mpsc::channel(WAITING);
        tokio::spawn(client.with_backoff(Backoff::new(RETRY, RETRY)).run(notices));
        Ok(received)
    }

    /// Connects to the webhook over TLS, as an API server does.
    pub(crate) async fn connect_webhook(
        &self,
    ) -> anyhow::Result<tokio_rustls::client::TlsStream<tokio::net::TcpStream>> {
        let client = tls::client(std::sync::Arc::new(self.pilot.clone()), galley()?)?;
        let connector = tls::Connector::new(client);
        let (host, port) = (self.webhook.ip().to_string(), self.webhook.port());
        Ok(connector.connect(&host, port).await?)
    }

    pub(crate) fn memory(&self) -> anyhow::Result<Memory> {
        Memory::of(self.server.pid())
    }

    pub(crate) fn cpu(&self) -> anyhow::Result<Cpu> {
        Cpu::of(self.server.pid())
    }
}

fn galley() -> anyhow::Result<Expected> {
    Ok(Expected::from(SpiffeId::system(
        &TrustDomain::default(),
        "galley",
    )?))
}
