//! What may go wrong below the mesh while requests are made: none of them fails.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context;
use mesh::Seen;
use serde_json::{Value, json};

use testkit::wait::until_blocking as until;

use crate::day::{BOUND, Day, SERVICES, SHOP, SYSTEM, has_native_sidecar};

/// What each Deployment says when it starts and there is no API server: those that need it name it, the others name who needs it.
const CAUSES: [(&str, &str); 6] = [
    ("citadel", "the API server does not give the authority: "),
    ("galley", "the API server does not answer"),
    ("injector", "the API server does not tell ProxyConfigs: "),
    ("mixer-policy", "Citadel at "),
    ("mixer-telemetry", "Citadel at "),
    ("pilot", "Citadel at "),
];
/// A number from the environment, for longer runs.
fn budget(name: &str, unless: u64) -> u64 {
    let given = std::env::var(name).ok().and_then(|text| text.parse().ok());
    given.unwrap_or(unless)
}

impl Day {
    /// A process of each service is killed, again and again; each time the oldest one.
    pub(crate) fn killed(&self) -> anyhow::Result<Seen> {
        let rounds = budget("ARGOSY_KILL_ROUNDS", 3);
        self.under_load(|| {
            for round in 1..=rounds {
                for service in SERVICES {
                    // In the cluster's own process namespace: nobody else's process has a number there.
                    self.cluster
                        .run(&["pkill", "-KILL", "--oldest", "--exact", service])?;
                }
                self.all_ready()?;
                // Containers that end again and again are started ever later; those of new pods are not.
                if round % 3 == 0 && round < rounds {
                    self.cluster
                        .kubectl(&["rollout", "restart", "deployment", "--namespace", SYSTEM])?;
                    self.cluster.rolled_out(SYSTEM, BOUND)?;
                }
            }
            Ok(format!("{} services killed {rounds} times", SERVICES.len()))
        })
    }

    /// A pod of each Deployment is evicted, as by a drain of its node; budgets keep the other.
    pub(crate) fn evicted(&self) -> anyhow::Result<Seen> {
        self.under(vec![self.catalog()?, self.admissions()], || {
            let mut refused = 0;
            let names = self.deployments()?;
            for name in &names {
                let pods = self.staying(&format!("app.kubernetes.io/instance={name}"))?;
                let [first, second, ..] = pods.as_slice() else {
                    anyhow::bail!("{name} has fewer than two pods");
                };
                self.evict_at_last(first)?;
                match self.evict(second) {
                    Ok(()) => anyhow::bail!("both pods of {name} were evicted"),
                    Err(error) if format!("{error:#}").contains("disruption budget") => refused += 1,
                    Err(error) => return Err(error),
                }
            }
            self.cluster.rolled_out(SYSTEM, BOUND)?;
            Ok(format!(
                "{} pods evicted, {refused} kept by their budgets",
                names.len()
            ))
        })
    }

    /// The control plane's pods that a selector chooses, without those that are ending since the row before.
    fn staying(&self, selector: &str) -> anyhow::Result<Vec<Value>> {
        let mut pods = self.pods(SYSTEM, selector)?;
        pods.retain(|pod| pod["metadata"]["deletionTimestamp"].is_null());
        Ok(pods)
    }

    fn deployments(&self) -> anyhow::Result<Vec<String>> {
        let list = self.cluster.get(&["deployments", "--namespace", SYSTEM])?;
        let names = list["items"].as_array().into_iter().flatten();
        Ok(names
            .filter_map(|one| Some(one["metadata"]["name"].as_str()?.to_owned()))
            .collect())
    }

    /// Evicts a pod once its budget has heard that all are ready.
    fn evict_at_last(&self, pod: &Value) -> anyhow::Result<()> {
        until("an eviction", BOUND, || self.evict(pod))
    }

    fn evict(&self, pod: &Value) -> anyhow::Result<()> {
        let name = pod["metadata"]["name"].as_str().context("a pod without name")?;
        let eviction = json!({
            "apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": SYSTEM},
        });
        let path = format!("/api/v1/namespaces/{SYSTEM}/pods/{name}/eviction");
        let script = format!("echo '{eviction}' | kubectl create --raw {path} --filename -");
        self.cluster.shell(&script).map(drop)
    }

    /// The pods that answer are exchanged.
    pub(crate) fn workloads_replaced(&self) -> anyhow::Result<Seen> {
        self.under_load(|| self.replaced())
    }

    /// Gives `catalog` new pods, and waits until those before are gone.
    fn replaced(&self) -> anyhow::Result<String> {
        let catalogs = ["deployment/catalog-v1", "deployment/catalog-v2"];
        self.cluster
            .kubectl(&[&["rollout", "restart", "--namespace", SHOP], &catalogs[..]].concat())?;
        self.cluster.rolled_out(SHOP, BOUND)?;
        until("the old pods have gone", BOUND, || {
            let pods = self.pods(SHOP, "app=catalog")?;
            anyhow::ensure!(pods.len() == catalogs.len(), "{} pods", pods.len());
            Ok(())
        })?;
        Ok(format!("{} Deployments restarted", catalogs.len()))
    }

    /// Takes away what Mixer is asked about at each request, until no proxy asks: while every Mixer is away, such requests are
    /// refused, as docs/mixer.md says. Connections that stand keep the filters that they began with, so the pods are new.
    pub(crate) fn ask_no_mixer(&self) -> anyhow::Result<Seen> {
        const ASKED: &str = "rules.config.istio.io,quotaspecbindings.config.istio.io";
        const FILTER: &str = "envoy.filters.http.ratelimit";
        self.cluster
            .kubectl(&["delete", ASKED, "--all", "--namespace", SHOP])?;
        for workload in ["catalog-v1", "catalog-v2"] {
            let listeners = format!("argosy proxy-config listener deployment/{workload}.{SHOP} -o json");
            until("no filter asks Mixer", BOUND, || {
                let text = self.cluster.shell(&listeners)?;
                anyhow::ensure!(!text.contains(FILTER), "{workload} asks Mixer still");
                Ok(())
            })?;
        }
        self.workloads_replaced()
    }

    /// The API server is away, and all processes of the control plane start anew meanwhile.
    pub(crate) fn api_server_away(&self) -> anyhow::Result<Seen> {
        let seconds = budget("ARGOSY_API_AWAY_SECONDS", 10);
        let mut pods = BTreeMap::new();
        for name in self.deployments()? {
            let first = self.staying(&format!("app.kubernetes.io/instance={name}"))?;
            pods.insert(name, first.first().context("a Deployment without pods")?.clone());
        }
        self.under_load(|| {
            self.cluster.part("stop", "kube-apiserver")?;
            let reasons = self.cold_start(&pods, Duration::from_secs(seconds));
            self.cluster.part("start", "kube-apiserver")?;
            self.api_back()?;
            self.all_ready()?;
            let words: Vec<String> = reasons?.into_values().collect();
            Ok(format!("{seconds} s; meanwhile {}", words.join(" | ")))
        })
    }

    /// Kills all, waits, and gives the cause that each Deployment tells for not being ready.
    fn cold_start(
        &self,
        pods: &BTreeMap<String, Value>,
        time: Duration,
    ) -> anyhow::Result<BTreeMap<String, String>> {
        let end = std::time::Instant::now() + time;
        for service in SERVICES {
            self.cluster.run(&["pkill", "-KILL", "--exact", service])?;
        }
        let limit = end + BOUND;
        let mut causes: BTreeMap<String, String> = BTreeMap::new();
        let mut last: BTreeMap<&str, String> = BTreeMap::new();
        while std::time::Instant::now() < end || causes.len() < pods.len() {
            for (name, pod) in pods {
                let Err(error) = self.readyz(pod) else {
                    anyhow::bail!("{name} says that it is ready, without an API server");
                };
                let said = format!("{error:#}").replace('\n', "; ");
                let cause = CAUSES.iter().find(|(one, _)| one == name);
                let (_, cause) = cause.with_context(|| format!("no cause is known for {name}"))?;
                if said.contains(cause) {
                    causes.insert(name.clone(), said.clone());
                }
                last.insert(name, said);
            }
            anyhow::ensure!(
                std::time::Instant::now() < limit,
                "not all say why they are not ready: {last:#?}"
            );
            std::thread::sleep(Duration::from_millis(300));
        }
        Ok(causes)
    }

    fn api_back(&self) -> anyhow::Result<()> {
        until("the API server", BOUND, || {
            self.cluster.kubectl(&["get", "--raw", "/readyz"]).map(drop)
        })
    }

    /// A namespace goes while its objects change.
    pub(crate) fn namespace_deleted(&self) -> anyhow::Result<Seen> {
        const GONE: &str = "gone";
        const CHANGES: u32 = 5;
        self.labelled(GONE)?;
        self.cluster.apply_file(GONE, "deploy/sample.yaml")?;
        self.cluster.rolled_out(GONE, BOUND)?;
        self.under_load(|| {
            let end = std::time::Instant::now() + BOUND;
            let mut applied = 0;
            while applied < CHANGES {
                self.cluster.apply(GONE, &route(applied))?;
                applied += 1;
            }
            self.cluster
                .kubectl(&["delete", "namespace", GONE, "--wait=false"])?;
            // Until nothing can be written any more, and a little on.
            while self.cluster.get(&["namespace", GONE]).is_ok() {
                applied += u32::from(self.cluster.apply(GONE, &route(applied)).is_ok());
                anyhow::ensure!(std::time::Instant::now() < end, "the namespace does not go");
                std::thread::sleep(Duration::from_millis(200));
            }
            self.synced()?;
            Ok(format!(
                "{applied} changes, the newest just before; all proxies of {SHOP} up to date"
            ))
        })
    }

    /// Many pods at once: each gets a proxy, its agent a certificate and its Envoy configuration.
    pub(crate) fn many(&self) -> anyhow::Result<Seen> {
        const MANY: &str = "many";
        let pods = budget("ARGOSY_PODS", 100);
        self.labelled(MANY)?;
        let (citadel, pilot) = (self.ip("citadel", SYSTEM)?, self.ip("pilot", SYSTEM)?);
        let seen = self.under_load(|| {
            self.cluster.shell(&format!(
                "bench pods --pods {pods} --namespace {MANY} --citadel {citadel}:8060 --pilot {pilot}:15012"
            ))
        })?;
        let made = self.pods(MANY, "app=many")?;
        let with = made.iter().filter(|pod| has_native_sidecar(pod)).count();
        self.cluster.kubectl(&["delete", "namespace", MANY])?;
        Ok(Seen::new(
            seen.ok && with as u64 == pods,
            format!("{with} of {pods} pods with a proxy; {}", seen.text),
        ))
    }

    /// Waits until all proxies have what Pilot wants.
    pub(crate) fn synced(&self) -> anyhow::Result<()> {
        until("all proxies up to date", BOUND, || {
            let text = self.cluster.shell("argosy proxy-status")?;
            let behind = ["STALE", "NACK", ".gone "].iter().any(|word| text.contains(word));
            anyhow::ensure!(!behind, "{text}");
            Ok(())
        })
    }
}

fn route(number: u32) -> String {
    format!(
        "{{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {{name: catalog}},
          spec: {{hosts: [catalog], http: [{{timeout: {}s, route: [{{destination: {{host: catalog}}}}]}}]}}}}",
        number + 1
    )
}
