//! One instance of the sample: the application and its agent, which runs the Envoy. Both on one loopback address.

use std::path::{Path, PathBuf};
use std::time::Duration;

use testkit::envoy::Admin;
use testkit::http::Client;
use testkit::{Process, Rundir, Spec, bins};

use crate::control::{Addresses, READY};
use crate::folder::{Entry, Folder};

/// Ports of an instance; its sidecar's own are in the folder's Sidecars.
const APP_HTTP: u16 = 18080;
const APP_GRPC: u16 = 19090;
const EGRESS_HTTP: u16 = 7080;
const EGRESS_GRPC: u16 = 7090;
const ENVOY_ADMIN: u16 = 15000;
const AGENT_STATUS: u16 = 15020;

/// A running instance.
pub struct Workload {
    /// What the folder says of it.
    pub entry: Entry,
    app: Option<Process>,
    agent: Process,
    agent_spec: Spec,
    app_spec: Option<Spec>,
}

/// What is the same for all instances of a mesh.
pub(crate) struct Ground<'a> {
    pub(crate) folder: &'a Folder,
    pub(crate) addresses: &'a Addresses,
    pub(crate) envoy: &'a Path,
    pub(crate) rundir: &'a Rundir,
}

impl Ground<'_> {
    /// The agent of a workload as this mesh runs it.
    pub(crate) fn agent(&self, entry: &Entry) -> anyhow::Result<Spec> {
        let (namespace, name) = (&entry.namespace, &entry.name);
        let state = self.rundir.dir(&format!("agents/{name}"))?;
        let kind = if entry.app.is_some() { "sidecar" } else { "router" };
        Ok(
            Spec::new(format!("agent-{name}"), bins::find("argosy-agent")?, self.logs()?)
                .flag("--workload", format!("{namespace}/{name}"))
                .flag("--proxy-type", kind)
                .flag("--pilot-address", self.addresses.pilot)
                .flag("--citadel-address", self.addresses.citadel)
                .path("--ca-root", self.folder.ca_root())
                .path("--token", self.folder.token(namespace, &entry.account))
                .path("--envoy", self.envoy)
                .flag("--envoy-concurrency", 1)
                // How long connections from before a change of a listener live on; 45 s are long to wait in a test.
                .flag("--drain-duration", "5s")
                .path("--state-dir", state),
        )
    }

    fn app(&self, entry: &Entry) -> anyhow::Result<Option<Spec>> {
        let Some((service, version)) = &entry.app else {
            return Ok(None);
        };
        let address = &entry.address;
        let spec = Spec::new(&entry.name, bins::find("sample")?, self.logs()?)
            .flag("--name", service)
            .flag("--version", version)
            .flag("--http", format!("{address}:{APP_HTTP}"))
            .flag("--grpc", format!("{address}:{APP_GRPC}"))
            .flag("--dial", format!("http://{address}:{EGRESS_HTTP}"))
            .flag("--dial-grpc", format!("http://{address}:{EGRESS_GRPC}"));
        Ok(Some(spec))
    }

    pub(crate) fn logs(&self) -> anyhow::Result<PathBuf> {
        self.rundir.dir("logs")
    }
}

impl Workload {
    /// Starts the application and the agent, and waits for neither.
    pub(crate) fn start(ground: &Ground<'_>, entry: Entry) -> anyhow::Result<Self> {
        let (app_spec, agent_spec) = (ground.app(&entry)?, ground.agent(&entry)?);
        let app = app_spec.as_ref().map(Spec::start).transpose()?;
        Ok(Self {
            entry,
            app,
            agent: agent_spec.start()?,
            agent_spec,
            app_spec,
        })
    }

    /// Starts again what has ended.
    pub(crate) fn revive(&mut self) -> anyhow::Result<()> {
        if self.agent.exited().is_some() {
            self.restart_agent()?;
        }
        if let (Some(app), Some(spec)) = (&mut self.app, &self.app_spec)
            && app.exited().is_some()
        {
            *app = spec.start()?;
        }
        Ok(())
    }

    /// Waits until the agent says that its Envoy serves.
    ///
    /// # Errors
    /// The agent ended, or is not ready in time; with its log.
    pub async fn ready(&mut self, client: &Client) -> anyhow::Result<()> {
        let url = format!("http://{}:{AGENT_STATUS}/healthz/ready", self.entry.address);
        let look = || {
            let request = client.get(&url).timeout(Duration::from_secs(5)).send();
            async { request.await?.expect_status(200).map(drop) }
        };
        self.agent.until("ready", READY, look).await
    }

    /// The process id of its Envoy.
    ///
    /// # Errors
    /// The agent runs none, or several processes.
    pub fn envoy_id(&self) -> anyhow::Result<u32> {
        let children = self.agent.children();
        let [only] = children.as_slice() else {
            anyhow::bail!("{} runs {} processes, not one", self.agent.name(), children.len());
        };
        Ok(*only)
    }

    /// Ends the agent, and it alone, as a crash would.
    pub fn kill_agent(&mut self) {
        self.agent.kill();
    }

    /// Starts the agent again that was ended.
    ///
    /// # Errors
    /// Its binary is missing.
    pub fn restart_agent(&mut self) -> anyhow::Result<()> {
        self.agent = self.agent_spec.start()?;
        Ok(())
    }

    /// The base URL of the application itself, past its proxy.
    pub fn app_url(&self) -> String {
        format!("http://{}:{APP_HTTP}", self.entry.address)
    }

    /// The admin interface of its Envoy.
    ///
    /// # Errors
    /// The workload's address is no IP address.
    pub fn envoy(&self) -> anyhow::Result<Admin> {
        Ok(Admin::new(
            format!("{}:{ENVOY_ADMIN}", self.entry.address).parse()?,
        ))
    }

    /// Processes of it that have ended, with the ends of their logs.
    pub(crate) fn ended(&mut self) -> Vec<String> {
        let ended = |process: &mut Process| {
            process
                .exited()
                .map(|status| format!("{}: {status}\n{}", process.name(), process.tail()))
        };
        [Some(&mut self.agent), self.app.as_mut()]
            .into_iter()
            .flatten()
            .filter_map(ended)
            .collect()
    }
}
