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
use testkit::wait::until;

pub(crate) const SYSTEM: &str = "argosy-system";
pub(crate) const SHOP: &str = "shop";
pub(crate) const TOOLS: &str = "tools";
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

/// Statuses, and how many answers had each.
type Statuses = BTreeMap<String, u64>;

/// Requests that are being made.
pub(crate) struct Load {
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<anyhow::Result<Statuses>>>,
}

impl Drop for Load {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
        // It holds the cluster, which is to go.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

impl Load {
    /// Ends it; what became of the requests.
    pub(crate) fn end(mut self) -> anyhow::Result<Statuses> {
        self.ended.store(true, Ordering::Release);
        let ended = self.thread.take().context("the load has ended")?.join();
        ended.map_err(|_| anyhow::anyhow!("the load ended badly"))?
    }
}

fn ask_until(cluster: &Cluster, url: &str, ended: &AtomicBool) -> anyhow::Result<Statuses> {
    let mut all = Statuses::new();
    while !ended.load(Ordering::Acquire) || all.is_empty() {
        let answer: Value = serde_json::from_str(&cluster.fetch(url, &[])?)?;
        let statuses: Statuses = serde_json::from_value(answer["statuses"].clone())?;
        for (status, count) in statuses {
            *all.entry(status).or_default() += count;
        }
    }
    Ok(all)
}

/// Whether no request came to anything else.
pub(crate) fn only_200(statuses: &Statuses) -> bool {
    statuses.len() == 1 && statuses.contains_key("200")
}

impl Day {
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
        let ip = self.ip("frontend", namespace)?;
        let host = if query.contains("host=") {
            ""
        } else {
            "host=catalog:8080&"
        };
        let url = format!("http://{ip}:8080/call?{host}{query}");
        let answer: Value = serde_json::from_str(&self.cluster.fetch(&url, &[])?)?;
        let counts = |name: &str| serde_json::from_value(answer[name].clone());
        Ok(Outcome {
            statuses: counts("statuses")?,
            versions: counts("versions")?,
            first: answer["results"][0].clone(),
        })
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
        let load = self.load("host=catalog:8080&count=50&timeout=10s&path=/?delay=10ms")?;
        let done = work();
        let statuses = load.end()?;
        let text = done?;
        Ok(Seen::new(only_200(&statuses), format!("{statuses:?}; {text}")))
    }

    /// Has `frontend` make requests until the end of the load.
    pub(crate) fn load(&self, query: &str) -> anyhow::Result<Load> {
        let url = format!("http://{}:8080/call?{query}", self.ip("frontend", SHOP)?);
        let ended = Arc::new(AtomicBool::new(false));
        let (cluster, until) = (self.cluster.clone(), ended.clone());
        let thread = std::thread::spawn(move || ask_until(&cluster, &url, &until));
        Ok(Load {
            ended,
            thread: Some(thread),
        })
    }

    /// Waits until every pod of the control plane says of itself that it is ready.
    pub(crate) fn all_ready(&self) -> anyhow::Result<()> {
        let end = std::time::Instant::now() + BOUND;
        loop {
            let asked = self
                .pods(SYSTEM, "app.kubernetes.io/part-of=argosy")
                .and_then(|pods| pods.iter().try_for_each(|pod| self.readyz(pod).map(drop)));
            match asked {
                Ok(()) => return Ok(()),
                Err(error) if std::time::Instant::now() > end => return Err(error),
                Err(_) => std::thread::sleep(Duration::from_millis(500)),
            }
        }
    }

    /// What a pod of the control plane says on its page of readiness.
    pub(crate) fn readyz(&self, pod: &Value) -> anyhow::Result<String> {
        let ip = pod["status"]["podIP"]
            .as_str()
            .context("the pod has no address")?;
        let ports = pod["spec"]["containers"][0]["ports"]
            .as_array()
            .context("no ports")?;
        let admin = ports.iter().find(|port| port["name"] == "http-admin");
        let admin = &admin.context("no admin port")?["containerPort"];
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
