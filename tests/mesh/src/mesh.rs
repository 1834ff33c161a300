//! The mesh as a whole: started, spoken to, ended.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use serde_json::Value;
use testkit::http::{Client, Response, query};
use testkit::net::Block;
use testkit::{Rundir, Spec, envoy};

use crate::control::{Control, Options};
use crate::folder::{Entry, Folder};
use crate::workload::{Ground, Workload};

/// The host that the ingress gateway answers for.
const SHOP: &str = "shop.example.com";

/// A running mesh. Dropped, all of it ends.
pub struct Mesh {
    // Fields are dropped in this order: proxies before what feeds them, processes before their folder.
    workloads: BTreeMap<String, Workload>,
    /// The control plane.
    pub control: Control,
    /// Its configuration.
    pub folder: Folder,
    /// The addresses that it lives on.
    pub block: Block,
    /// A client outside the mesh.
    pub client: Client,
    envoy: PathBuf,
    rundir: Rundir,
}

impl Mesh {
    /// Starts a mesh of the sample folder and waits until every proxy serves. `progress` is told what is being done.
    ///
    /// # Errors
    /// What is missing or did not become ready, with its log.
    pub async fn start(options: Options, block: Block, progress: impl Fn(&str)) -> anyhow::Result<Self> {
        let envoy = envoy::binary()?;
        let rundir = Rundir::new("argosy")?;
        let started = Self::start_in(options, block, &rundir, &envoy, &progress).await;
        match started {
            Ok((folder, block, control, workloads)) => Ok(Self {
                workloads,
                control,
                folder,
                block,
                client: Client::default(),
                envoy,
                rundir,
            }),
            Err(error) => {
                rundir.failed();
                Err(error)
            }
        }
    }

    async fn start_in(
        options: Options,
        block: Block,
        rundir: &Rundir,
        envoy: &std::path::Path,
        progress: &impl Fn(&str),
    ) -> anyhow::Result<(Folder, Block, Control, BTreeMap<String, Workload>)> {
        let folder = Folder::init(&rundir.path().join("mesh"), &block)?;
        progress(&format!("starting the control plane as {}", options.layout));
        let control = Control::start(options, &folder, &block, &rundir.dir("logs")?).await?;
        let ground = Ground {
            folder: &folder,
            addresses: &control.addresses,
            envoy,
            rundir,
        };
        let mut workloads = BTreeMap::new();
        for entry in folder.workloads()? {
            progress(&format!(
                "starting {}/{} on {}",
                entry.namespace, entry.name, entry.address
            ));
            workloads.insert(entry.name.clone(), Workload::start(&ground, entry)?);
        }
        let client = Client::default();
        for (name, workload) in &mut workloads {
            progress(&format!("waiting for the Envoy of {name}"));
            workload.ready(&client).await?;
        }
        Ok((folder, block, control, workloads))
    }

    /// A workload by its name.
    ///
    /// # Errors
    /// The sample has none of that name.
    pub fn workload(&self, name: &str) -> anyhow::Result<&Workload> {
        self.workloads
            .get(name)
            .with_context(|| format!("the sample has no workload {name}"))
    }

    /// A workload by its name, to end and restart what it consists of.
    ///
    /// # Errors
    /// The sample has none of that name.
    pub fn workload_mut(&mut self, name: &str) -> anyhow::Result<&mut Workload> {
        self.workloads
            .get_mut(name)
            .with_context(|| format!("the sample has no workload {name}"))
    }

    /// All workloads.
    pub fn workloads(&self) -> impl Iterator<Item = &Workload> {
        self.workloads.values()
    }

    /// How the agent of a workload is run, under another name for its log and with its own state.
    ///
    /// # Errors
    /// The agent's binary is missing.
    pub fn agent_spec(&self, entry: &Entry, log: &str) -> anyhow::Result<Spec> {
        let ground = self.ground();
        let mut spec = ground.agent(entry)?;
        spec.name = log.to_owned();
        Ok(spec)
    }

    /// A folder of this run, for what a test needs.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn dir(&self, name: &str) -> anyhow::Result<PathBuf> {
        self.rundir.dir(name)
    }

    /// The run failed: its folder is kept.
    pub fn failed(&self) {
        self.rundir.failed();
    }

    /// Processes that have ended although nobody ended them.
    pub fn ended(&mut self) -> Vec<String> {
        let mut ended = self.control.ended();
        ended.extend(self.workloads.values_mut().flat_map(Workload::ended));
        ended
    }

    /// Starts again what has ended, and waits for nothing.
    ///
    /// # Errors
    /// A binary is missing.
    pub fn revive(&mut self) -> anyhow::Result<()> {
        self.control.revive()?;
        self.workloads.values_mut().try_for_each(Workload::revive)
    }

    /// The URL of the ingress gateway.
    pub fn ingress_url(&self, path: &str) -> String {
        format!("http://{}{path}", self.block.addr(1, 8080))
    }

    /// A request from outside through the ingress gateway.
    ///
    /// # Errors
    /// No answer.
    pub async fn ingress(&self, path: &str) -> anyhow::Result<Response> {
        self.client
            .get(self.ingress_url(path))
            .header("host", SHOP)
            .send()
            .await
    }

    /// Has the application of a workload make requests through its sidecar.
    ///
    /// # Errors
    /// The application itself did not answer; what its requests came to is in the outcome.
    pub async fn call(&self, from: &str, call: &Call) -> anyhow::Result<Outcome> {
        let url = format!("{}/call?{}", self.workload(from)?.app_url(), query(&call.pairs));
        let answer = self
            .client
            .get(url)
            .timeout(Duration::from_secs(60))
            .send()
            .await?
            .expect_status(200)?
            .json()?;
        Ok(Outcome { answer })
    }

    /// How many requests for `path` the application of a workload has received.
    ///
    /// # Errors
    /// It did not answer.
    pub async fn received(&self, workload: &str, path: &str) -> anyhow::Result<u64> {
        let url = format!("{}/seen", self.workload(workload)?.app_url());
        let seen = self.client.get(url).send().await?.expect_status(200)?.json()?;
        Ok(seen
            .get("paths")
            .and_then(|paths| paths.get(path))
            .and_then(Value::as_u64)
            .unwrap_or(0))
    }

    fn ground(&self) -> Ground<'_> {
        Ground {
            folder: &self.folder,
            addresses: &self.control.addresses,
            envoy: &self.envoy,
            rundir: &self.rundir,
        }
    }
}

/// Requests that an application is asked to make.
#[derive(Debug, Clone)]
pub struct Call {
    pairs: Vec<(&'static str, String)>,
}

impl Call {
    /// One GET of `path` at `host`.
    pub fn to(host: &str, path: &str) -> Self {
        Self {
            pairs: vec![("host", host.to_owned()), ("path", path.to_owned())],
        }
    }

    /// One call of the Echo service over gRPC; `host` with its port.
    pub fn grpc(host: &str) -> Self {
        Self {
            pairs: vec![("host", host.to_owned()), ("grpc", "true".to_owned())],
        }
    }

    /// So many of them, one after the other.
    #[must_use]
    pub fn times(mut self, count: usize) -> Self {
        self.pairs.push(("count", count.to_string()));
        self
    }

    /// With a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.pairs.push(("header", format!("{name}:{value}")));
        self
    }
}

/// What the requests of a [`Call`] came to, as the application tells it.
#[derive(Debug, Clone)]
pub struct Outcome {
    answer: Value,
}

impl Outcome {
    /// How many answers had a status (`error`: none).
    pub fn status(&self, status: &str) -> u64 {
        self.answer
            .get("statuses")
            .and_then(|all| all.get(status))
            .and_then(Value::as_u64)
            .unwrap_or(0)
    }

    /// How many answers came from a version of the service.
    pub fn version(&self, version: &str) -> u64 {
        self.answer
            .get("versions")
            .and_then(|all| all.get(version))
            .and_then(Value::as_u64)
            .unwrap_or(0)
    }

    /// The statuses and how often each was seen, for people.
    pub fn statuses(&self) -> String {
        counts(self.answer.get("statuses"))
    }

    /// The versions and how often each was seen, for people.
    pub fn versions(&self) -> String {
        counts(self.answer.get("versions"))
    }

    /// The first answer: its status, if there was any.
    pub fn first_status(&self) -> Option<u64> {
        self.first().get("status")?.as_u64()
    }

    /// The first answer: how long it took.
    pub fn first_took(&self) -> Duration {
        Duration::from_millis(self.first().get("ms").and_then(Value::as_u64).unwrap_or(0))
    }

    /// The first answer's body: JSON where it is JSON, else text.
    pub fn first_body(&self) -> &Value {
        self.first().get("body").unwrap_or(&Value::Null)
    }

    /// The first answer's body as text, or why there is none.
    pub fn first_text(&self) -> String {
        let error = self
            .first()
            .get("error")
            .and_then(Value::as_str)
            .map(str::to_owned);
        error.unwrap_or_else(|| match self.first_body() {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        })
    }

    /// The peer's SPIFFE id as the called application saw it in the first request.
    pub fn first_peer(&self) -> Option<&str> {
        self.first_body().get("peer")?.as_str()
    }

    fn first(&self) -> &Value {
        self.answer
            .get("results")
            .and_then(|results| results.get(0))
            .unwrap_or(&Value::Null)
    }
}

fn counts(value: Option<&Value>) -> String {
    let pairs = value.and_then(Value::as_object).into_iter().flatten();
    let texts: Vec<String> = pairs.map(|(name, count)| format!("{count} × {name}")).collect();
    if texts.is_empty() {
        "none".to_owned()
    } else {
        texts.join(", ")
    }
}
