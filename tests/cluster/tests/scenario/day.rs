//! The cluster, and requests that the sample's `frontend` is asked to make in it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use cluster::cluster::Cluster;
use mesh::Seen;
use serde_json::Value;
use testkit::wait::{until, until_blocking};

pub(crate) const SYSTEM: &str = "argosy-system";
pub(crate) const SHOP: &str = "shop";
pub(crate) const TOOLS: &str = "tools";
pub(crate) const SERVICES: [&str; 5] = ["galley", "pilot", "citadel", "mixer", "injector"];
/// Machines may be slow, and busy.
pub(crate) const BOUND: Duration = Duration::from_secs(150);

/// The outcome of requests that `frontend` makes: how many answers had which status, and came from which version.
pub(crate) struct Outcome {
    pub(crate) statuses: BTreeMap<String, u64>,
    pub(crate) versions: BTreeMap<String, u64>,
    pub(crate) first: Value,
}

pub(crate) struct Day {
    pub(crate) cluster: Arc<Cluster>,
}

/// Between one and the next, where a process is started for each.
const PAUSE: Duration = Duration::from_millis(200);
const ROUTE: &str = "{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: judged},
  spec: {hosts: [judged.example], http: [{route: [{destination: {host: catalog}}]}]}}";
const POD: &str = "{apiVersion: v1, kind: Pod, metadata: {name: judged},
  spec: {containers: [{name: app, image: 'localhost/argosy/sample:dev'}]}}";

/// What became of requests: how many answers had which status, and the first that were none of 200, whole.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    pub(crate) statuses: BTreeMap<String, u64>,
    failures: Vec<Value>,
}

impl Asked {
    /// Enough of them to see why.
    const SHOWN: usize = 3;

    fn add(&mut self, answer: &Value) -> anyhow::Result<()> {
        let statuses: BTreeMap<String, u64> = serde_json::from_value(answer["statuses"].clone())?;
        for (status, count) in statuses {
            *self.statuses.entry(status).or_default() += count;
        }
        let results = answer["results"].as_array().into_iter().flatten();
        let failed = results.filter(|result| result["status"] != 200);
        let room = Self::SHOWN.saturating_sub(self.failures.len());
        self.failures.extend(failed.take(room).cloned());
        Ok(())
    }

    fn count(&mut self, outcome: anyhow::Result<String>) {
        let status = if outcome.is_ok() { "200" } else { "error" };
        *self.statuses.entry(status.to_owned()).or_default() += 1;
        if let Err(error) = outcome
            && self.failures.len() < Self::SHOWN
        {
            self.failures.push(format!("{error:#}").into());
        }
    }

    /// Whether no request came to anything else.
    pub(crate) fn only_200(&self) -> bool {
        self.statuses.len() == 1 && self.statuses.contains_key("200")
    }
}

impl std::fmt::Display for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.statuses)?;
        self.failures.iter().try_for_each(|one| write!(f, "; {one}"))
    }
}

/// Requests that are being made.
pub(crate) struct Load {
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<anyhow::Result<Asked>>>,
}

impl Drop for Load {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
        // It holds the cluster, which is to go.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

impl Load {
    /// Does something until the end, at least once.
    fn repeat(mut once: impl FnMut(&mut Asked) -> anyhow::Result<()> + Send + 'static) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let until = ended.clone();
        let thread = std::thread::spawn(move || {
            let mut all = Asked::default();
            while !until.load(Ordering::Acquire) || all.statuses.is_empty() {
                once(&mut all)?;
            }
            Ok(all)
        });
        Load {
            ended,
            thread: Some(thread),
        }
    }

    /// Ends it; what became of the requests.
    pub(crate) fn end(mut self) -> anyhow::Result<Asked> {
        self.ended.store(true, Ordering::Release);
        let ended = self.thread.take().context("the load has ended")?.join();
        ended.map_err(|_| anyhow::anyhow!("the load ended badly"))?
    }
}

/// Whether a pod's proxy is a native sidecar.
pub(crate) fn has_native_sidecar(pod: &Value) -> bool {
    let init = pod["spec"]["initContainers"].as_array();
    let mut init = init.into_iter().flatten();
    init.any(|one| one["name"] == "istio-proxy" && one["restartPolicy"] == "Always")
}

impl Day {
    /// Makes a namespace whose pods get a proxy.
    pub(crate) fn labelled(&self, name: &str) -> anyhow::Result<()> {
        let namespace = format!(
            "{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}, labels: {{istio-injection: enabled}}}}}}"
        );
        self.cluster.apply("default", &namespace)?;
        // Pods are not made before it.
        until_blocking("the namespace's account", BOUND, || {
            let account = ["serviceaccount", "default", "--namespace", name];
            self.cluster.get(&account).map(drop)
        })
    }

    pub(crate) fn ip(&self, service: &str, namespace: &str) -> anyhow::Result<String> {
        let service = self
            .cluster
            .get(&["service", service, "--namespace", namespace])?;
        let ip = service["spec"]["clusterIP"].as_str();
        Ok(ip.context("no clusterIP")?.to_owned())
    }

    /// The pods that a selector chooses.
    pub(crate) fn pods(&self, namespace: &str, selector: &str) -> anyhow::Result<Vec<Value>> {
        let list = self
            .cluster
            .get(&["pods", "--namespace", namespace, "--selector", selector])?;
        Ok(list["items"].as_array().cloned().unwrap_or_default())
    }

    /// Has the `frontend` of a namespace ask `catalog`.
    pub(crate) fn call_from(&self, namespace: &str, query: &str) -> anyhow::Result<Outcome> {
        let host = if query.contains("host=") {
            ""
        } else {
            "host=catalog:8080&"
        };
        let path = format!("/call?{host}{query}");
        let answer: Value = serde_json::from_str(&self.asked(namespace, &path, &[])?)?;
        let counts = |name: &str| serde_json::from_value(answer[name].clone());
        Ok(Outcome {
            statuses: counts("statuses")?,
            versions: counts("versions")?,
            first: answer["results"][0].clone(),
        })
    }

    /// What the `frontend` of a namespace answers: to the node, which needs no API server, or to the API server.
    fn asked(&self, namespace: &str, path: &str, more: &[&str]) -> anyhow::Result<String> {
        if !self.cluster.has_node() {
            return self.cluster.proxied(namespace, "services/frontend:8080", path);
        }
        let ip = self.ip("frontend", namespace)?;
        self.cluster.fetch(&format!("http://{ip}:8080{path}"), more)
    }

    /// Waits until requests come out as they should, and says how.
    pub(crate) async fn called(
        &self,
        query: &str,
        expected: impl Fn(&Outcome) -> bool,
    ) -> anyhow::Result<Seen> {
        self.called_from(SHOP, query, expected).await
    }

    /// The same for the `frontend` of another namespace.
    pub(crate) async fn called_from(
        &self,
        namespace: &str,
        query: &str,
        expected: impl Fn(&Outcome) -> bool,
    ) -> anyhow::Result<Seen> {
        let look = || {
            let outcome = self.call_from(namespace, query).and_then(|outcome| {
                let text = format!("{:?} {:?}", outcome.statuses, outcome.versions);
                anyhow::ensure!(expected(&outcome), "{text}: {}", outcome.first);
                Ok(text)
            });
            std::future::ready(outcome)
        };
        let (text, took) = until(query, Duration::from_secs(60), look).await?;
        let text = format!("{text} after {:.1} s", took.as_secs_f32());
        Ok(Seen::new(true, text))
    }

    /// Does something while `frontend` asks `catalog` without a pause; what became of the requests.
    pub(crate) fn under_load(&self, work: impl FnOnce() -> anyhow::Result<String>) -> anyhow::Result<Seen> {
        self.under(vec![self.catalog()?], work)
    }

    /// Does something under several loads.
    pub(crate) fn under(
        &self,
        loads: Vec<Load>,
        work: impl FnOnce() -> anyhow::Result<String>,
    ) -> anyhow::Result<Seen> {
        let done = work();
        let asked = loads
            .into_iter()
            .map(Load::end)
            .collect::<anyhow::Result<Vec<Asked>>>()?;
        let told: Vec<String> = asked.iter().map(Asked::to_string).collect();
        let told = told.join("; ");
        let text = done.map_err(|error| error.context(format!("meanwhile {told}")))?;
        Ok(Seen::new(
            asked.iter().all(Asked::only_200),
            format!("{told}; {text}"),
        ))
    }

    /// `frontend` asks `catalog` without a pause.
    pub(crate) fn catalog(&self) -> anyhow::Result<Load> {
        self.load("host=catalog:8080&count=50&timeout=10s&path=/?delay=10ms")
    }

    /// Has `frontend` make requests until the end of the load.
    pub(crate) fn load(&self, query: &str) -> anyhow::Result<Load> {
        let path = format!("/call?{query}");
        let cluster = self.cluster.clone();
        // Looked up before: later the API server may be away.
        let node = match cluster.has_node() {
            true => Some(format!("http://{}:8080{path}", self.ip("frontend", SHOP)?)),
            false => None,
        };
        Ok(Load::repeat(move |asked| {
            let answer = match &node {
                // As long as each of the requests may take.
                Some(url) => cluster.fetch(url, &["--max-time", "600"])?,
                None => cluster.proxied(SHOP, "services/frontend:8080", &path)?,
            };
            asked.add(&serde_json::from_str(&answer)?)
        }))
    }

    /// The node asks for a page, each time on a connection of its own.
    pub(crate) fn fetches(&self, url: &str, more: &[&str]) -> Load {
        let (cluster, url) = (self.cluster.clone(), url.to_owned());
        let more: Vec<String> = more.iter().map(|&one| one.to_owned()).collect();
        Load::repeat(move |asked| {
            let more: Vec<&str> = more.iter().map(String::as_str).collect();
            asked.count(cluster.fetch(&url, &more));
            std::thread::sleep(PAUSE);
            Ok(())
        })
    }

    /// Has the API server judge an object and a pod, as `kubectl apply` and a Deployment do; neither is kept.
    pub(crate) fn admissions(&self) -> Load {
        let cluster = self.cluster.clone();
        Load::repeat(move |asked| {
            for object in [ROUTE, POD] {
                asked.count(cluster.judged(SHOP, object));
            }
            std::thread::sleep(PAUSE);
            Ok(())
        })
    }

    /// Waits until every pod of the control plane says of itself that it is ready.
    pub(crate) fn all_ready(&self) -> anyhow::Result<()> {
        until_blocking("every pod is ready", BOUND, || {
            let pods = self.pods(SYSTEM, "app.kubernetes.io/part-of=argosy")?;
            pods.iter().try_for_each(|pod| self.readyz(pod).map(drop))
        })
    }

    /// What a pod of the control plane says on its page of readiness.
    pub(crate) fn readyz(&self, pod: &Value) -> anyhow::Result<String> {
        let ports = pod["spec"]["containers"][0]["ports"]
            .as_array()
            .context("no ports")?;
        let admin = ports.iter().find(|port| port["name"] == "http-admin");
        let admin = &admin.context("no admin port")?["containerPort"];
        if !self.cluster.has_node() {
            let name = pod["metadata"]["name"].as_str().context("a pod without name")?;
            return self
                .cluster
                .proxied(SYSTEM, &format!("pods/{name}:{admin}"), "/readyz");
        }
        let ip = pod["status"]["podIP"]
            .as_str()
            .context("the pod has no address")?;
        // With the words of who is not ready, too.
        let url = format!("http://{ip}:{admin}/readyz");
        let arguments = [
            "curl",
            "--silent",
            "--max-time",
            "5",
            "--write-out",
            "\\n%{http_code}",
            &url,
        ];
        let answer = self.cluster.run(&arguments).context("no answer")?;
        let (words, status) = answer.rsplit_once('\n').context("no status")?;
        anyhow::ensure!(status == "200", "not ready: {}", words.trim());
        Ok(words.to_owned())
    }
}
