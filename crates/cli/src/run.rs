//! `argosy run`: Galley, Pilot, Citadel and Mixer in one process. Each has its own identity, and they talk mutual TLS
//! over loopback as they would between machines.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use citadel::Ca;
use citadel::ca::MAX_LEAF_TTL;
use runtime::args::Common;
use runtime::{Context, Identity, service_main};
use tokio::task::JoinSet;

/// Admin server of all services.
pub(crate) const ADMIN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 15014);

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// Folder with the mesh's configuration; mesh.yaml and identity.yaml in it are optional. Given several times, a later
    /// folder's objects replace those of the same name in earlier ones; identity and state are the first's
    #[arg(
        long,
        env = "ARGOSY_CONFIG",
        value_name = "DIR",
        value_delimiter = ',',
        required = true
    )]
    config: Vec<PathBuf>,
    #[command(flatten)]
    kubernetes: galley::kubernetes::Options,
    #[command(flatten)]
    jwks: galley::jwks::Args,
    /// Folder of the root's key and certificate; DIR/identity/ca unless given
    #[arg(long, env = "ARGOSY_CA_DIR", value_name = "DIR")]
    ca_dir: Option<PathBuf>,
    /// Folder where Galley keeps the last good objects over a restart; DIR/.argosy unless given
    #[arg(long, env = "ARGOSY_STATE_DIR", value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Address of Pilot's xDS server (mutual TLS)
    #[arg(
        long,
        env = "ARGOSY_PILOT_ADDRESS",
        value_name = "ADDR",
        default_value = "127.0.0.1:15012"
    )]
    pilot_address: SocketAddr,
    /// Loopback address to serve xDS on without TLS, for tools; off unless given
    #[arg(long, env = "ARGOSY_XDS_PLAINTEXT", value_name = "ADDR")]
    xds_plaintext: Option<SocketAddr>,
    #[command(flatten)]
    serving: pilot::Serving,
    /// Address of Citadel's certificate service
    #[arg(
        long,
        env = "ARGOSY_CITADEL_ADDRESS",
        value_name = "ADDR",
        default_value = "127.0.0.1:8060"
    )]
    citadel_address: SocketAddr,
    /// Address of Galley's feed (mutual TLS)
    #[arg(
        long,
        env = "ARGOSY_GALLEY_ADDRESS",
        value_name = "ADDR",
        default_value = "127.0.0.1:15019"
    )]
    galley_address: SocketAddr,
    /// Address of Mixer's policy and telemetry services (mutual TLS)
    #[arg(
        long,
        env = "ARGOSY_MIXER_ADDRESS",
        value_name = "ADDR",
        default_value = "127.0.0.1:15004"
    )]
    mixer_address: SocketAddr,
    /// Address of the page with the metrics that Mixer's rules make
    #[arg(
        long,
        env = "ARGOSY_PROMETHEUS_ADDRESS",
        value_name = "ADDR",
        default_value = "127.0.0.1:42422"
    )]
    prometheus_address: SocketAddr,
    /// Life of a workload's certificate, from 5s to 24h
    #[arg(long, env = "ARGOSY_LEAF_TTL", value_name = "DURATION", value_parser = citadel::leaf_ttl, default_value = "24h")]
    leaf_ttl: Duration,
    /// Folder of Secrets (YAML) that gateways name by credentialName, mode 0700; identity/secrets in the folder of --config
    /// unless given
    #[arg(long, env = "ARGOSY_SECRETS_DIR", value_name = "DIR")]
    secrets_dir: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
}

pub(crate) fn run(args: Args) -> ExitCode {
    let common = args.common.clone();
    service_main("argosy", &common, ADMIN, async |context| {
        services(args, context)
            .await
            .map_err(Box::<dyn std::error::Error + Send + Sync>::from)
    })
}

/// Starts the four and waits for the first to end; then all end.
async fn services(args: Args, context: Context) -> anyhow::Result<()> {
    for folder in &args.config {
        anyhow::ensure!(
            folder.is_dir(),
            "--config {}: there is no such folder",
            folder.display()
        );
    }
    let home = args.config.first().cloned().unwrap_or_default();
    let identity_file = Some(home.join("identity.yaml")).filter(|file| file.exists());
    let ca_dir = args.ca_dir.clone().unwrap_or_else(|| home.join("identity/ca"));
    let secrets_dir = args
        .secrets_dir
        .clone()
        .unwrap_or_else(|| home.join("identity/secrets"));
    let citadel = citadel::Args {
        listen: args.citadel_address,
        identity: identity_file,
        leaf_ttl: args.leaf_ttl,
        secrets_dir: Some(secrets_dir),
        kubernetes: of_citadel(&args.kubernetes),
        ..citadel::Args::new(ca_dir)
    };
    let ca = Ca::open(&citadel)
        .await
        .map_err(|error| told("citadel", &error))?;
    let galley_own = identified(&ca, "galley", &context).await?;
    let pilot_own = identified(&ca, "pilot", &context).await?;
    let mixer_own = identified(&ca, "mixer", &context).await?;
    let mut services = JoinSet::new();
    let own = context.child("citadel");
    services.spawn(async move {
        citadel::run_with(ca, citadel, own)
            .await
            .map_err(|error| told("citadel", &error))
    });

    let galley = galley::Args {
        state_dir: Some(args.state_dir.unwrap_or_else(|| home.join(".argosy"))),
        config: args.config,
        kubernetes: args.kubernetes,
        listen: args.galley_address,
        secret_facts_address: Some(args.citadel_address.to_string()),
        jwks: args.jwks,
        webhook: Default::default(),
        status: Default::default(),
    };
    let (own, identity) = galley_own;
    services.spawn(async move {
        galley::run(galley, identity, own)
            .await
            .map_err(|error| told("galley", &error))
    });

    let galley_address = args.galley_address.to_string();
    let pilot = pilot::Args {
        listen: args.pilot_address,
        xds_plaintext: args.xds_plaintext,
        galley_address: galley_address.clone(),
        mixer_address: Some(args.mixer_address.to_string()),
        serving: args.serving,
    };
    let (own, identity) = pilot_own;
    services.spawn(async move {
        pilot::run(pilot, identity, own)
            .await
            .map_err(|error| told("pilot", &error))
    });

    let mixer = mixer::Args {
        listen: args.mixer_address,
        prometheus_address: args.prometheus_address,
        galley_address,
        ..mixer::Args::default()
    };
    let (own, identity) = mixer_own;
    services.spawn(async move {
        mixer::run(mixer, identity, own)
            .await
            .map_err(|error| told("mixer", &error))
    });

    end_together(services, &context).await
}

/// Citadel's part in the cluster of `--kubernetes`: it recognises callers and hands out Secrets. Root and authority stay in the
/// folder, for a process of one person is not the cluster's control plane.
fn of_citadel(options: &galley::kubernetes::Options) -> citadel::kubernetes::Options {
    citadel::kubernetes::Options {
        kubernetes: options.kubernetes,
        kubeconfig: options.kubeconfig.clone(),
        kube_context: options.kube_context.clone(),
        ca_secret: String::new(),
        root_config_maps: false,
        ..Default::default()
    }
}

/// A service's error. What its own binary calls `--listen` has the service's name here.
fn told(service: &str, error: &(dyn std::error::Error + 'static)) -> anyhow::Error {
    let text = runtime::context::describe(error).replace("--listen", &format!("--{service}-address"));
    anyhow::anyhow!("{service}: {text}")
}

/// The first error counts; a service that ends by itself ends the others.
async fn end_together(mut services: JoinSet<anyhow::Result<()>>, context: &Context) -> anyhow::Result<()> {
    let mut result = Ok(());
    while let Some(ended) = services.join_next().await {
        context.shutdown.cancel();
        let ended =
            ended.unwrap_or_else(|error| Err(anyhow::anyhow!("a service stopped unexpectedly: {error}")));
        result = result.and(ended);
    }
    result
}

/// A service of the process and its own identity, signed by the authority directly.
async fn identified(ca: &Ca, name: &'static str, context: &Context) -> anyhow::Result<(Context, Identity)> {
    let context = context.child(name);
    let identity = ca.identity(name, MAX_LEAF_TTL, &context).await?;
    Ok((context, identity))
}
