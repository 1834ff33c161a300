//! The agent's life: certificate, workload, Envoy; and the order in which they end.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use runtime::{Context, Identity, SpiffeId, grpc, logging::LogFormat, tls};
use tokio::{net::UdpSocket, sync::watch};
use tokio_util::sync::CancellationToken;
use tonic::{service::Routes, transport::Channel};

use crate::{
    args::{Args, EnvoyLog, PortArgs},
    bootstrap::{self, StatsOptions, Values},
    dns::{self, follow::Asker, names::search_list},
    envoy::{
        AdminClient, Leave, Options, Supervisor, command,
        process::{Launcher, LogTarget},
    },
    forward::Forward,
    lookup::{Current, Lookup},
    pod::{self, Info, InfoError},
    ports::Ports,
    redirect::settings::name_servers,
    sds, socket,
    state_dir::StateDir,
    status::{Application, Probes, Scraper, Status, View},
    workload::Workload,
};

/// What one agent works with.
struct Agent<'a> {
    args: &'a Args,
    context: &'a Context,
    state_dir: StateDir,
    program: PathBuf,
    own: Option<PathBuf>,
    view: View,
    restarts: prometheus_client::metrics::counter::Counter,
    /// What ProxyConfig says.
    settings: pod::Settings,
    /// The pod as a workload, where the agent is in one.
    pod: Option<Workload>,
    application: Application,
}

/// Runs a workload's proxy until the context's shutdown.
///
/// `own` is this very program, when its `main` calls [`crate::envoy::guard::become_envoy`]: then Envoy ends with the
/// agent even when that is killed.
///
/// # Errors
/// When flags cannot work, a port is taken, or Envoy cannot be run. What may get better by itself (Citadel or Pilot
/// away, a token refused, a WorkloadEntry missing) is waited for and told by readiness and log.
pub async fn run(args: &Args, context: &Context, own: Option<PathBuf>) -> anyhow::Result<()> {
    let program = command::find(&args.envoy.envoy, std::env::var_os("PATH").as_deref())?;
    let state_dir = match &args.state_dir {
        Some(path) => StateDir::open(path)?,
        None => StateDir::open_default(&args.workload)?,
    };
    let restarts = context.metrics.counter(
        "argosy_agent_envoy_restarts_total",
        "Starts of Envoy after the first",
    );
    let settings = pod::Settings::read(&args.pod.proxy_config)?;
    for field in &settings.unsupported {
        tracing::warn!("ProxyConfig's {field} is not supported and has no effect");
    }
    let agent = Agent {
        settings,
        pod: pod_workload(args)?,
        application: Application {
            probes: Probes::read(
                &args.pod.app_probers,
                args.address.unwrap_or(Ipv4Addr::LOCALHOST.into()),
            )?,
            scraper: Scraper::read(&args.pod.prometheus_annotations)?,
        },
        args,
        context,
        state_dir,
        program,
        own,
        view: View::default(),
        restarts,
    };
    // What Envoy needs ends after it.
    let end = CancellationToken::new();
    let _end = end.clone().drop_guard();
    let early = match args.address {
        Some(address) => Some(agent.open(address).await?),
        None => None,
    };
    let Some(mut workloads) = agent.connect(&end).await? else {
        return Ok(());
    };
    agent.keep(&mut workloads, early).await
}

impl Agent<'_> {
    /// Gets the certificate, serves Envoy's socket and asks for the workload; `None` when shutdown came first.
    async fn connect(&self, end: &CancellationToken) -> anyhow::Result<Option<Current>> {
        let workload = &self.args.workload;
        let known = self.context.readiness.condition("workload");
        known.set_not_ready("waits for the certificate");
        let identity = match Identity::from_citadel(&self.args.identity, self.context).await {
            Ok(identity) => identity,
            Err(_) if self.context.shutdown.is_cancelled() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        check_namespace(&identity.id(), &workload.namespace)?;
        let pilot = SpiffeId::system(&self.args.identity.trust_domain, "pilot")?;
        let channel = grpc::channel(&self.args.pilot_address, Some(tls::connector(&identity, pilot)?))
            .context("--pilot-address")?;
        let forward = Forward::new(channel.clone(), &self.args.pilot_address, &self.context.metrics);
        self.view.set_link(forward.link());
        let routes = sds::add(
            Routes::default(),
            &identity,
            &self.args.identity.citadel_address,
            end,
        )
        .add_service(forward);
        tokio::spawn(serve_socket(self.state_dir.listen()?, routes, end.clone()));
        let lookup = Lookup {
            channel,
            pilot: self.args.pilot_address.clone(),
            workload: workload.clone(),
            node_id: bootstrap::node_id(
                self.args.proxy_type,
                IpAddr::V4(Ipv4Addr::UNSPECIFIED),
                &workload.name,
                &workload.namespace,
                &self.args.domain,
            ),
        };
        if let Some(pod) = &self.pod {
            self.serve_dns(lookup.channel.clone(), pod, end).await?;
            known.set_ready();
            // Nobody tells of another one: a pod keeps its address.
            return Ok(Some(watch::Sender::new(Some(Arc::new(pod.clone()))).subscribe()));
        }
        let (current, follow) = lookup.follow(known);
        let end = end.clone();
        tokio::spawn(async move { end.run_until_cancelled(follow).await });
        Ok(Some(current))
    }

    /// Answers DNS where the pod's variables ask for it.
    async fn serve_dns(
        &self,
        channel: Channel,
        pod: &Workload,
        end: &CancellationToken,
    ) -> anyhow::Result<()> {
        let metadata = pod::metadata::metadata(variables());
        let text = |name: &str| metadata.get(name).and_then(|value| value.as_str());
        if text("DNS_CAPTURE") != Some("true") {
            return Ok(());
        }
        let args = self.args;
        let resolv = std::fs::read_to_string(RESOLV_CONF).unwrap_or_default();
        // As Envoy says them, so that Pilot makes the same for both.
        let told = ["DNS_CAPTURE", "INTERCEPTION_MODE", "INSTANCE_IPS"];
        let told = told
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), text(name)?.to_owned())))
            // Else Pilot would take the stream for a second Envoy's.
            .chain([("ARGOSY_STREAM".to_owned(), "dns".to_owned())]);
        let asker = Asker {
            channel,
            node_id: bootstrap::node_id(
                args.proxy_type,
                pod.address,
                &args.workload.name,
                &args.workload.namespace,
                &args.domain,
            ),
            metadata: told.collect(),
            search: search_list(&resolv),
        };
        let (names, follow) = asker.follow();
        let beyond = name_servers(&resolv);
        let address = SocketAddr::new(admin_ip(pod.address), dns::PORT);
        let tcp = runtime::bind("DNS", address).await?;
        let udp = UdpSocket::bind(address)
            .await
            .with_context(|| format!("DNS: {address} over UDP"))?;
        let server = dns::server::Server::new(names, &beyond, &self.context.metrics);
        tokio::spawn(server.serve(udp, tcp, end.clone()));
        let end = end.clone();
        tokio::spawn(async move { end.run_until_cancelled(follow).await });
        Ok(())
    }

    /// Keeps a proxy for the workload as it is; a new one when its address changes.
    async fn keep(&self, workloads: &mut Current, early: Option<Ports>) -> anyhow::Result<()> {
        let Some(mut workload) = self.first(workloads).await else {
            return Ok(());
        };
        let mut ports = match early {
            Some(ports) => ports,
            None => self.open(workload.address).await?,
        };
        if ports.address() != workload.address {
            anyhow::bail!(
                "WorkloadEntry {} has the address {}, but --address is {}; correct one of them",
                self.args.workload,
                workload.address,
                ports.address()
            );
        }
        loop {
            let stop = self.context.shutdown.child_token();
            let supervisor = self.supervisor(&workload)?;
            let running = supervisor.run(&stop);
            let moved = self.moved(&workload, workloads);
            tokio::pin!(running);
            let next = tokio::select! {
                ended = &mut running => return Ok(ended?),
                next = moved => next,
            };
            let (next, next_ports) = next;
            tracing::warn!(from = %workload.address, to = %next.address, "the workload moved; Envoy is started anew");
            stop.cancel();
            running.await?;
            (workload, ports) = (next, next_ports);
            tracing::debug!(address = %ports.address(), "serving at the new address");
        }
    }

    /// The workload, once Pilot has told it; `None` when shutdown came first.
    async fn first(&self, workloads: &mut Current) -> Option<Arc<Workload>> {
        let told = workloads.wait_for(Option::is_some);
        let workload = self
            .context
            .shutdown
            .run_until_cancelled(told)
            .await?
            .ok()?
            .clone()?;
        workloads.mark_unchanged();
        Some(workload)
    }

    /// Waits until the workload has another address, one that can be listened on. Other changes reach Envoy through
    /// Pilot; only its own name for itself in telemetry waits for the next start.
    async fn moved(&self, from: &Workload, workloads: &mut Current) -> (Arc<Workload>, Ports) {
        loop {
            if workloads.changed().await.is_err() {
                return std::future::pending().await;
            }
            let Some(next) = workloads.borrow_and_update().clone() else {
                continue;
            };
            if next.address == from.address {
                tracing::info!("the workload changed; its telemetry takes its labels at the next start");
                continue;
            }
            match self.open(next.address).await {
                Ok(ports) => return (next, ports),
                Err(error) => {
                    tracing::error!(
                        "the workload's new address cannot be used, the old one stays: {error:#}"
                    );
                }
            }
        }
    }

    async fn open(&self, address: IpAddr) -> anyhow::Result<Ports> {
        let status = Status::new(self.context, &self.view, address, self.application.clone());
        Ports::open(&status, address, self.listen(address), &self.ports())
            .await
            .with_context(|| format!("WorkloadEntry {}", self.args.workload))
    }

    fn supervisor(&self, workload: &Workload) -> anyhow::Result<Supervisor> {
        let values = self.values(workload);
        let bootstrap = self.state_dir.bootstrap();
        self.state_dir.write(
            &bootstrap,
            serde_json::to_string_pretty(&bootstrap::render(&values))?.as_bytes(),
        )?;
        let envoy = &self.args.envoy;
        let options = Options {
            program: self.program.clone(),
            bootstrap,
            log_level: envoy.envoy_log_level.clone(),
            component_log_level: envoy.envoy_component_log_level.clone(),
            concurrency: self.threads(),
            drain_time: envoy.drain_duration.or(self.settings.drain).unwrap_or(DRAIN),
            extra: envoy.envoy_arg.clone(),
        };
        let log = match envoy.envoy_log {
            EnvoyLog::Stderr => LogTarget::Inherit,
            EnvoyLog::File => LogTarget::File(self.state_dir.envoy_log()),
        };
        let launcher = Launcher {
            options,
            own: self.own.clone(),
            log,
        };
        let supervisor = Supervisor::new(
            launcher,
            values.admin,
            values.health_port,
            self.leave(),
            self.restarts.clone(),
        );
        self.view
            .set_envoy(supervisor.state(), AdminClient::new(values.admin));
        Ok(supervisor)
    }

    /// Envoy's worker threads.
    fn threads(&self) -> u32 {
        let machine = std::thread::available_parallelism().map_or(1, |threads| threads.get());
        let machine = u32::try_from(machine).unwrap_or(u32::MAX);
        let given = self.args.envoy.envoy_concurrency;
        self.settings.threads(given, self.args.pod.cpu_limit, machine)
    }

    /// A pod has its addresses for itself, and its containers and the kubelet reach it by different ones.
    fn listen(&self, address: IpAddr) -> IpAddr {
        match (&self.pod, address) {
            (None, address) => address,
            (Some(_), IpAddr::V4(_)) => Ipv4Addr::UNSPECIFIED.into(),
            (Some(_), IpAddr::V6(_)) => Ipv6Addr::UNSPECIFIED.into(),
        }
    }

    /// Ports by the flags; in a pod ProxyConfig's count instead.
    fn ports(&self) -> PortArgs {
        let mut ports = self.args.ports.clone();
        if self.pod.is_some() {
            let settings = &self.settings;
            ports.envoy_admin_port = settings.admin_port.unwrap_or(ports.envoy_admin_port);
        }
        ports
    }

    /// How long Envoy takes leave. A pod's callers hear only after a while that it goes (Istio's terminationDrainDuration).
    fn leave(&self) -> Leave {
        let pod = &self.args.pod;
        match (&self.pod, pod.exit_on_zero_active_connections) {
            (None, _) => Leave::from(self.context.grace),
            (Some(_), true) => Leave {
                least: pod.minimum_drain_duration,
                most: LONGEST_LEAVE,
            },
            (Some(_), false) => Leave {
                least: self.settings.termination_drain,
                most: self.settings.termination_drain,
            },
        }
    }

    fn values(&self, workload: &Workload) -> Values {
        let (args, ports) = (self.args, self.ports());
        let listen = self.listen(workload.address);
        let stats = StatsOptions::from_annotations(&workload.annotations).unwrap_or_else(|error| {
            tracing::warn!(
                "WorkloadEntry {}: {error}; its statistics stay as they are by default",
                args.workload
            );
            StatsOptions::default()
        });
        Values {
            proxy_type: args.proxy_type,
            namespace: args.workload.namespace.clone(),
            name: args.workload.name.clone(),
            domain: args.domain.clone(),
            trust_domain: args.identity.trust_domain.to_string(),
            cluster_id: args.cluster_id.clone(),
            network: workload.network.clone(),
            address: workload.address,
            listen,
            labels: workload.labels.clone(),
            annotations: workload.annotations.clone(),
            service_account: workload.service_account.clone(),
            locality: workload.locality.clone(),
            admin: SocketAddr::new(admin_ip(workload.address), ports.envoy_admin_port),
            status: SocketAddr::new(
                if listen.is_unspecified() {
                    admin_ip(workload.address)
                } else {
                    listen
                },
                ports.status_port,
            ),
            health_port: ports.health_port,
            prometheus_port: ports.prometheus_port,
            socket: self.state_dir.socket(),
            max_downstream_connections: args.envoy.max_downstream_connections,
            stats: stats.and(self.settings.stats.clone()),
            json_logs: args.common.log.log_format == LogFormat::Json,
            metadata: match self.pod {
                Some(_) => pod::metadata::metadata(variables()),
                None => serde_json::Map::new(),
            },
            service_cluster: self.settings.service_cluster.clone(),
            runtime: self.settings.runtime.clone(),
            heap: args.pod.memory_limit.and_then(heap),
        }
    }
}

/// How long Envoy drains a listener unless something else is said.
const DRAIN: Duration = Duration::from_secs(45);
/// Longest leave: Kubernetes ends a pod by force long before, unless it was told otherwise.
const LONGEST_LEAVE: Duration = Duration::from_secs(24 * 3600);
/// Where the machine's name servers and search list are.
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// What the agent itself may take of the pod's memory, in bytes.
const OWN_MEMORY: u64 = 64 << 20;

/// The pod as a workload, where the agent is in one.
fn pod_workload(args: &Args) -> Result<Option<Workload>, InfoError> {
    let Some(folder) = &args.pod.pod_info else {
        return Ok(None);
    };
    let address = args.address.ok_or(InfoError::Address)?;
    let workload = Info::load(folder)?.workload(address, &args.pod.service_account);
    Ok(Some(workload))
}

/// What of the pod's memory is Envoy's; `None` for a limit that leaves it nothing to speak of.
fn heap(limit: u64) -> Option<u64> {
    limit.checked_sub(OWN_MEMORY).filter(|heap| *heap >= OWN_MEMORY)
}

fn variables() -> impl Iterator<Item = (String, String)> {
    let all = std::env::vars_os();
    all.filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

async fn serve_socket(listener: tokio::net::UnixListener, routes: Routes, end: CancellationToken) {
    if let Err(error) = socket::serve(listener, routes, end).await {
        tracing::error!(%error, "the socket that Envoy uses broke; restart the agent");
    }
}

/// The admin interface has no authentication, so it is reachable from the machine itself only.
fn admin_ip(own: IpAddr) -> IpAddr {
    match own {
        own if own.is_loopback() => own,
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
    }
}

/// Pilot gives a proxy nothing of another namespace than its certificate's.
fn check_namespace(id: &SpiffeId, namespace: &str) -> anyhow::Result<()> {
    if id.namespace() == Some(namespace) {
        return Ok(());
    }
    anyhow::bail!(
        "the certificate is for {id}, but the workload is in namespace {namespace}; correct --token or --workload"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn envoys_admin_interface_stays_on_the_machine() {
        for (own, expected) in [
            ("127.1.0.21", "127.1.0.21"),
            ("10.0.0.7", "127.0.0.1"),
            ("::1", "::1"),
            ("fd00::7", "::1"),
        ] {
            assert_eq!(
                admin_ip(own.parse().unwrap()),
                expected.parse::<IpAddr>().unwrap(),
                "{own}"
            );
        }
    }

    #[test]
    fn a_foreign_token_is_told_apart() {
        let id = SpiffeId::parse("spiffe://cluster.local/ns/shop/sa/catalog").unwrap();
        assert!(check_namespace(&id, "shop").is_ok());
        let error = check_namespace(&id, "bank").unwrap_err().to_string();
        assert!(
            error.contains("is for spiffe://cluster.local/ns/shop/sa/catalog"),
            "{error}"
        );
    }
}
