//! The control plane: `argosy run`, or its four services as processes of their own, joined by addresses.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::Context;
use testkit::http::Client;
use testkit::net::Block;
use testkit::{Process, Spec, bins};

use crate::folder::Folder;

/// How long a service may take to be ready; machines may be slow, and busy.
pub(crate) const READY: Duration = Duration::from_secs(90);

/// Where the scenario's issuer of tokens is, and for how many seconds its keys are good.
const LOOPBACK: &str = "127.0.0.0/8";
const JWKS_REFRESH: u32 = 1;

/// How the services run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Layout {
    /// All in one process: `argosy run`.
    OneProcess,
    /// Each by its own binary.
    Separate,
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OneProcess => "one process (argosy run)",
            Self::Separate => "separate binaries (galley, pilot, citadel, mixer)",
        })
    }
}

/// How a mesh is run.
#[derive(Debug, Clone)]
pub struct Options {
    /// How the services run.
    pub layout: Layout,
    /// Life of the workloads' certificates, as a flag's value. They are renewed at half of it.
    pub leaf_ttl: &'static str,
    /// How long proxies keep what is gone, as a flag's value.
    pub removal_delay: &'static str,
    /// The kubeconfig of a cluster that Galley reads too, below the folder; with [`Layout::Separate`] alone.
    pub kubeconfig: Option<PathBuf>,
}

/// One of the four services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Service {
    /// The certificate authority.
    Citadel,
    /// Reads and distributes configuration.
    Galley,
    /// Configures proxies.
    Pilot,
    /// Decides and hears.
    Mixer,
}

impl Service {
    /// All, in the order in which they are started; any order would do.
    pub const ALL: [Self; 4] = [Self::Citadel, Self::Galley, Self::Pilot, Self::Mixer];

    /// The name of its binary and of its service account.
    pub fn name(self) -> &'static str {
        match self {
            Self::Citadel => "citadel",
            Self::Galley => "galley",
            Self::Pilot => "pilot",
            Self::Mixer => "mixer",
        }
    }
}

/// Where everything listens.
#[derive(Debug, Clone)]
pub struct Addresses {
    /// Citadel's CSR API.
    pub citadel: SocketAddr,
    /// Galley's feed.
    pub galley: SocketAddr,
    /// Pilot's ADS, over mTLS.
    pub pilot: SocketAddr,
    /// Pilot's ADS without TLS, for tools.
    pub xds_plaintext: SocketAddr,
    /// Mixer's gRPC services.
    pub mixer: SocketAddr,
    /// The metrics of Mixer's Prometheus adapter.
    pub prometheus: SocketAddr,
    admin: BTreeMap<Service, SocketAddr>,
}

impl Addresses {
    fn new(layout: Layout, block: &Block) -> Self {
        let admin = |service: Service| match (layout, service) {
            (Layout::OneProcess, _) => block.addr(2, 15014),
            (Layout::Separate, Service::Citadel) => block.addr(3, 15014),
            (Layout::Separate, Service::Galley) => block.addr(4, 15014),
            (Layout::Separate, Service::Pilot) => block.addr(5, 15014),
            (Layout::Separate, Service::Mixer) => block.addr(6, 15014),
        };
        Self {
            citadel: block.addr(3, 8060),
            galley: block.addr(4, 15019),
            pilot: block.addr(5, 15012),
            xds_plaintext: block.addr(5, 15010),
            mixer: block.addr(6, 15004),
            prometheus: block.addr(6, 42422),
            admin: Service::ALL
                .into_iter()
                .map(|service| (service, admin(service)))
                .collect(),
        }
    }

    /// The admin server of a service (in one process all have the same).
    pub fn admin(&self, service: Service) -> SocketAddr {
        self.admin.get(&service).copied().unwrap_or(self.pilot)
    }
}

/// The running control plane.
pub struct Control {
    /// How it runs.
    pub layout: Layout,
    /// Where it listens.
    pub addresses: Addresses,
    folder: Folder,
    logs: PathBuf,
    client: Client,
    leaf_ttl: &'static str,
    removal_delay: &'static str,
    kubeconfig: Option<PathBuf>,
    processes: BTreeMap<&'static str, Process>,
}

impl Control {
    /// Starts it and waits until all of it is ready.
    ///
    /// # Errors
    /// A binary that is missing, a service that ends or is not ready in time; with its log.
    pub(crate) async fn start(
        options: Options,
        folder: &Folder,
        block: &Block,
        logs: &Path,
    ) -> anyhow::Result<Self> {
        let Options {
            layout,
            leaf_ttl,
            removal_delay,
            kubeconfig,
        } = options;
        let mut control = Self {
            layout,
            leaf_ttl,
            removal_delay,
            kubeconfig,
            addresses: Addresses::new(layout, block),
            folder: folder.clone(),
            logs: logs.to_owned(),
            client: Client::default(),
            processes: BTreeMap::new(),
        };
        for service in Service::ALL {
            if !control.running(service) {
                control.launch(service)?;
            }
        }
        for service in Service::ALL {
            control.ready(service).await?;
        }
        Ok(control)
    }

    /// Ends a service (in one process: all of them) as a crash would.
    ///
    /// # Errors
    /// It was not running.
    pub fn kill(&mut self, service: Service) -> anyhow::Result<()> {
        self.take(service)?.kill();
        Ok(())
    }

    /// Asks a service (in one process: all of them) to end, and waits for it.
    ///
    /// # Errors
    /// It was not running, or does not end.
    pub async fn stop(&mut self, service: Service) -> anyhow::Result<ExitStatus> {
        self.take(service)?.stop(READY).await
    }

    fn take(&mut self, service: Service) -> anyhow::Result<Process> {
        let name = self.process_name(service);
        let mut process = self
            .processes
            .remove(name)
            .with_context(|| format!("{name} was not running"))?;
        anyhow::ensure!(
            process.exited().is_none(),
            "{name} had ended by itself:\n{}",
            process.tail()
        );
        Ok(process)
    }

    /// Starts a service again that was ended, and waits for nothing.
    ///
    /// # Errors
    /// Its binary is missing.
    pub fn launch(&mut self, service: Service) -> anyhow::Result<()> {
        let spec = match self.layout {
            Layout::OneProcess => self.argosy()?,
            Layout::Separate => self.spec(service)?,
        };
        self.processes.insert(self.process_name(service), spec.start()?);
        Ok(())
    }

    /// Starts a service again that was ended, and waits until it is ready.
    ///
    /// # Errors
    /// It ends or is not ready in time.
    pub async fn restart(&mut self, service: Service) -> anyhow::Result<()> {
        self.launch(service)?;
        self.ready(service).await
    }

    /// Starts again what has ended by itself.
    ///
    /// # Errors
    /// A binary is missing.
    pub(crate) fn revive(&mut self) -> anyhow::Result<()> {
        self.processes.retain(|_, process| process.exited().is_none());
        for service in Service::ALL {
            if !self.running(service) {
                self.launch(service)?;
            }
        }
        Ok(())
    }

    /// Whether a service was started and not ended.
    pub fn running(&self, service: Service) -> bool {
        self.processes.contains_key(self.process_name(service))
    }

    /// Waits until a service says on `/readyz` that it is ready.
    ///
    /// # Errors
    /// It ends or is not ready in time.
    pub async fn ready(&mut self, service: Service) -> anyhow::Result<()> {
        let url = format!("http://{}/readyz", self.addresses.admin(service));
        let name = self.process_name(service);
        let client = self.client.clone();
        let process = self
            .processes
            .get_mut(name)
            .with_context(|| format!("{name} was not started"))?;
        let look = || {
            let request = client.get(&url).timeout(Duration::from_secs(5)).send();
            async { request.await?.expect_status(200).map(drop) }
        };
        process.until("ready", READY, look).await
    }

    /// A request to a service's admin server.
    pub fn ask(&self, service: Service, method: &str, path: &str) -> testkit::http::Request<'_> {
        self.client
            .request(method, format!("http://{}{path}", self.addresses.admin(service)))
    }

    /// A page of a service's admin server.
    ///
    /// # Errors
    /// No answer, or another status than 200.
    pub async fn admin(&self, service: Service, path: &str) -> anyhow::Result<testkit::http::Response> {
        self.ask(service, "GET", path).send().await?.expect_status(200)
    }

    /// What a service's process has logged since it was started.
    pub fn output(&self, service: Service) -> String {
        self.processes
            .get(self.process_name(service))
            .map(Process::output)
            .unwrap_or_default()
    }

    /// Processes that have ended although nobody ended them, with the ends of their logs.
    pub fn ended(&mut self) -> Vec<String> {
        let ended = |process: &mut Process| {
            process
                .exited()
                .map(|status| format!("{}: {status}\n{}", process.name(), process.tail()))
        };
        self.processes.values_mut().filter_map(ended).collect()
    }

    fn process_name(&self, service: Service) -> &'static str {
        if self.layout == Layout::OneProcess {
            "argosy"
        } else {
            service.name()
        }
    }

    /// `argosy run` as this mesh runs it.
    fn argosy(&self) -> anyhow::Result<Spec> {
        let at = &self.addresses;
        Ok(Spec::new("argosy", bins::find("argosy")?, &self.logs)
            .arg("run")
            .path("--config", self.folder.path())
            .flag("--admin-address", at.admin(Service::Pilot))
            .flag("--citadel-address", at.citadel)
            .flag("--galley-address", at.galley)
            .flag("--pilot-address", at.pilot)
            .flag("--mixer-address", at.mixer)
            .flag("--prometheus-address", at.prometheus)
            .flag("--xds-plaintext", at.xds_plaintext)
            .flag("--jwks-allow-private", LOOPBACK)
            .flag("--jwks-refresh", JWKS_REFRESH)
            .flag("--removal-delay", self.removal_delay)
            .flag("--leaf-ttl", self.leaf_ttl))
    }

    /// A service's own binary as this mesh runs it.
    ///
    /// # Errors
    /// The binary is missing.
    pub fn spec(&self, service: Service) -> anyhow::Result<Spec> {
        let at = &self.addresses;
        let name = service.name();
        let spec = Spec::new(name, bins::find(name)?, &self.logs).flag("--admin-address", at.admin(service));
        Ok(match service {
            Service::Citadel => spec
                .flag("--listen", at.citadel)
                .path("--ca-dir", self.folder.path().join("identity/ca"))
                .path("--identity", self.folder.file("identity.yaml"))
                .path("--secrets-dir", self.folder.path().join("identity/secrets"))
                .flag("--leaf-ttl", self.leaf_ttl),
            Service::Galley => {
                let spec = self
                    .identified(spec, name)
                    .flag("--listen", at.galley)
                    .flag("--jwks-allow-private", LOOPBACK)
                    .flag("--jwks-refresh", JWKS_REFRESH)
                    .path("--config", self.folder.path());
                match &self.kubeconfig {
                    Some(path) => spec.arg("--kubernetes").path("--kubeconfig", path),
                    None => spec,
                }
            }
            Service::Pilot => self
                .identified(spec, name)
                .flag("--listen", at.pilot)
                .flag("--xds-plaintext", at.xds_plaintext)
                .flag("--galley-address", at.galley)
                .flag("--removal-delay", self.removal_delay)
                .flag("--mixer-address", at.mixer),
            Service::Mixer => self
                .identified(spec, name)
                .flag("--listen", at.mixer)
                .flag("--galley-address", at.galley)
                .flag("--prometheus-address", at.prometheus),
        })
    }

    fn identified(&self, spec: Spec, account: &str) -> Spec {
        spec.flag("--citadel-address", self.addresses.citadel)
            .path("--ca-root", self.folder.ca_root())
            .path("--token", self.folder.token("argosy-system", account))
    }
}
