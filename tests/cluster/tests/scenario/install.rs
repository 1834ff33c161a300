//! Argosy put into the cluster, renewed, doubled and taken away, as an operator does it.

use cluster::{helm, root};
use mesh::Seen;
use serde_json::Value;
use testkit::wait::until_blocking as until;

use crate::day::{BOUND, Day, SERVICES, SHOP, SYSTEM, TOOLS, has_native_sidecar};
use crate::traffic::INGRESS;

/// Nodes of tests are small.
const VALUES: &str = "tests/cluster/values.yaml";
/// Every chart before those that it needs.
const BACKWARDS: [&str; 6] = ["injector", "mixer", "pilot", "galley", "citadel", "base"];
/// What docs/install.md says stays, and what Kubernetes puts into every namespace.
const KEPT: [&str; 5] = [
    "secret/argosy-ca-secret",
    "secret/argosy-ca-secret-notes",
    "configmap/istio-ca-root-cert",
    "configmap/kube-root-ca.crt",
    "serviceaccount/default",
];
/// What `kubectl apply` can be given: as it is, and with all that is off by default.
const MANIFESTS: [&str; 5] = [
    "helm/base/files/crds.yaml",
    "deploy/argosy.yaml",
    "deploy/gateway.yaml",
    "tests/cluster/goldens/all-on.yaml",
    "tests/cluster/goldens/gateway-all-on.yaml",
];
/// Namespaces that they name and that nothing else makes.
const RENDERED_FOR: [&str; 3] = ["istio-ingress", "ingress", "egress"];
/// The Prometheus operator's kinds.
const MONITORS: &str = "tests/cluster/monitors.yaml";
/// The gateway's release.
const GATEWAY: &str = "istio-ingressgateway";
/// The charts' version after this one.
const NEXT_VERSION: &str = "0.1.1";
/// Where the second control plane's application lives.
const NEXT: &str = "next";

impl Day {
    pub(crate) fn install(&self) -> anyhow::Result<Seen> {
        let chart = [
            "upgrade",
            "--install",
            "argosy",
            "helm/argosy",
            "--namespace",
            SYSTEM,
            "--create-namespace",
        ];
        self.cluster.shell("argosy check --before-install")?;
        let started = std::time::Instant::now();
        self.cluster.helm(&[&chart[..], &["--values", VALUES]].concat())?;
        self.cluster.rolled_out(SYSTEM, BOUND)?;
        self.cluster
            .helm(&["test", "argosy", "--namespace", SYSTEM, "--timeout", "90s"])?;
        Ok(Seen::new(
            true,
            format!(
                "all Deployments ready after {:.0} s",
                started.elapsed().as_secs_f32()
            ),
        ))
    }

    pub(crate) fn deploy(&self) -> anyhow::Result<Seen> {
        self.labelled(SHOP)?;
        self.cluster.apply_file(SHOP, "deploy/sample.yaml")?;
        self.cluster.rolled_out(SHOP, BOUND)?;
        let pods = self.cluster.get(&["pods", "--namespace", SHOP])?;
        let pods = pods["items"].as_array().cloned().unwrap_or_default();
        let count = pods.iter().filter(|pod| has_native_sidecar(pod)).count();
        Ok(Seen::new(
            count == 3 && pods.len() == 3,
            format!("{count} of {} pods have a native sidecar", pods.len()),
        ))
    }

    /// The API server takes the rendered manifests, and those with all that is off by default; it keeps none of them.
    pub(crate) fn manifests(&self) -> anyhow::Result<Seen> {
        for namespace in RENDERED_FOR {
            self.cluster.kubectl(&["create", "namespace", namespace])?;
        }
        self.cluster.kubectl(&["apply", "--filename", MONITORS])?;
        let condition = [
            "wait",
            "--for=condition=Established",
            "--timeout=60s",
            "--filename",
            MONITORS,
        ];
        self.cluster.kubectl(&condition)?;
        let (mut written, mut taken) = (0, 0);
        for file in MANIFESTS {
            written += helm::objects(&std::fs::read_to_string(root().join(file))?)?.len();
            let apply = [
                "apply",
                "--dry-run=server",
                "--output",
                "name",
                "--filename",
                file,
            ];
            taken += self.cluster.kubectl(&apply)?.lines().count();
        }
        self.cluster.kubectl(&["delete", "--filename", MONITORS])?;
        let delete = ["delete", "namespace", "--timeout=90s"];
        self.cluster.kubectl(&[&delete[..], &RENDERED_FOR].concat())?;
        Ok(Seen::new(
            written == taken,
            format!("{taken} of {written} objects are taken"),
        ))
    }

    /// Every pod of the control plane and of the gateway is replaced by another version's, and by the first one's again; meanwhile requests
    /// are made, also through the gateway, objects applied and pods created. Until there is a release, the other version is the same program.
    pub(crate) fn upgrade(&self) -> anyhow::Result<Seen> {
        for name in SERVICES.iter().chain(&["argosy", "proxy"]) {
            let image = |tag: &str| format!("localhost/argosy/{name}:{tag}");
            self.cluster.tag(&image("dev"), &image("next"))?;
        }
        let dir = std::env::temp_dir().join(format!("argosy-charts-{}", std::process::id()));
        let to = dir.display().to_string();
        let package = ["package", "helm/argosy", "--version", NEXT_VERSION];
        self.cluster
            .helm(&[&package[..], &["--destination", &to]].concat())?;
        let chart = format!("{to}/argosy-{NEXT_VERSION}.tgz");
        let plane = ["upgrade", "argosy", &chart, "--namespace", SYSTEM];
        let proxies = ["upgrade", GATEWAY, "helm/gateway", "--namespace", INGRESS];
        // As docs/install.md says.
        let values = ["--reset-then-reuse-values", "--set", "global.tag=next"];
        let address = self.at_gateway(443)?;
        let gateway = self.fetches("https://shop.example/", &["--resolve", &address, "--insecure"]);
        let seen = self.under(vec![self.catalog()?, self.admissions(), gateway], || {
            self.cluster.helm(&[&plane[..], &values].concat())?;
            self.cluster.rolled_out(SYSTEM, BOUND)?;
            self.cluster.helm(&[&proxies[..], &values].concat())?;
            self.cluster.rolled_out(INGRESS, BOUND)?;
            let up = self.are("next", "next")?;
            self.cluster
                .helm(&["rollback", "argosy", "--namespace", SYSTEM])?;
            self.cluster.rolled_out(SYSTEM, BOUND)?;
            let between = self.are("dev", "next")?;
            self.cluster
                .helm(&["rollback", GATEWAY, "--namespace", INGRESS])?;
            self.cluster.rolled_out(INGRESS, BOUND)?;
            Ok(format!("{up}; {between}; {}", self.are("dev", "dev")?))
        });
        std::fs::remove_dir_all(&dir)?;
        seen
    }

    /// Waits until the images of the control plane and of the gateway have these tags, and says so.
    fn are(&self, plane: &str, gateway: &str) -> anyhow::Result<String> {
        let expected = format!("control plane {plane}, gateway {gateway}");
        until("versions", BOUND, || {
            let plane = self.tags(SYSTEM, "app.kubernetes.io/part-of=argosy")?;
            let gateway = self.tags(INGRESS, "istio=ingressgateway")?;
            let versions = format!("control plane {plane}, gateway {gateway}");
            anyhow::ensure!(versions == expected, "{versions} and not {expected}");
            Ok(())
        })?;
        Ok(expected)
    }

    /// Tags of pods' images.
    fn tags(&self, namespace: &str, selector: &str) -> anyhow::Result<String> {
        let mut pods = self.pods(namespace, selector)?;
        pods.retain(|pod| pod["metadata"]["deletionTimestamp"].is_null());
        let containers = pods
            .iter()
            .flat_map(|pod| pod["spec"]["containers"].as_array().into_iter().flatten());
        let tags: std::collections::BTreeSet<&str> = containers
            .filter_map(|one| one["image"].as_str()?.rsplit(':').next())
            .collect();
        Ok(tags.into_iter().collect::<Vec<_>>().join(" "))
    }

    /// A second control plane, whose namespace's proxies talk to it, and to the first one's workloads.
    pub(crate) async fn revisions(&self) -> anyhow::Result<Seen> {
        let set = "global.revision=canary,base.enabled=false,galley.enabled=false,citadel.enabled=false,mixer.enabled=false";
        let chart = ["install", "argosy-canary", "helm/argosy", "--namespace", SYSTEM];
        self.cluster
            .helm(&[&chart[..], &["--values", VALUES, "--set", set]].concat())?;
        self.cluster.rolled_out(SYSTEM, BOUND)?;
        self.cluster.apply(
            "default",
            "{apiVersion: v1, kind: Namespace, metadata: {name: next, labels: {istio.io/rev: canary}}}",
        )?;
        self.cluster.apply_file(NEXT, "deploy/sample.yaml")?;
        self.cluster.rolled_out(NEXT, BOUND)?;
        let pilots = |namespace: &str| -> anyhow::Result<Vec<String>> {
            let text = self.cluster.shell(&format!(
                "argosy proxy-status --namespace {namespace} --output json"
            ))?;
            let proxies: Vec<Value> = serde_json::from_str(&text)?;
            Ok(proxies
                .iter()
                .filter_map(|one| Some(one["pilot"].as_str()?.to_owned()))
                .collect())
        };
        let (own, first) = (pilots(NEXT)?, pilots(SHOP)?);
        let is_canary = |pilot: &String| pilot.starts_with("pilot-canary-");
        let both =
            own.len() == 3 && own.iter().all(is_canary) && first.len() == 3 && !first.iter().any(is_canary);
        let inside = self
            .called_from(NEXT, "count=5", |o| o.statuses.get("200") == Some(&5))
            .await?;
        let across = format!("count=5&host=catalog.{SHOP}:8080");
        let across = self
            .called_from(NEXT, &across, |o| o.statuses.get("200") == Some(&5))
            .await?;
        self.cluster
            .kubectl(&["delete", "namespace", NEXT, "--timeout=90s"])?;
        self.cluster
            .helm(&["uninstall", "argosy-canary", "--namespace", SYSTEM, "--wait"])?;
        let text = format!("{} proxies at pilot-canary, {} at pilot", own.len(), first.len());
        Ok(Seen::new(both && inside.ok && across.ok, text))
    }

    /// Takes all of it away; what is left.
    pub(crate) fn uninstall(&self) -> anyhow::Result<Seen> {
        self.cluster
            .kubectl(&["delete", "namespace", SHOP, TOOLS, "--timeout=90s"])?;
        let absent = "--ignore-not-found";
        self.cluster
            .kubectl(&["delete", "ingressclass", "istio", absent])?;
        let gateway = ["uninstall", GATEWAY, "--namespace", INGRESS];
        self.cluster.helm(&[&gateway[..], &["--wait", absent]].concat())?;
        self.cluster
            .helm(&["uninstall", "argosy", "--namespace", SYSTEM, "--wait"])?;
        let seen = self.remains()?;
        self.cluster
            .kubectl(&["delete", "namespace", INGRESS, SYSTEM, absent, "--timeout=90s"])?;
        Ok(seen)
    }

    /// What is still there of Argosy when its pods have ended, but for what install.md says stays.
    fn remains(&self) -> anyhow::Result<Seen> {
        let gone = until("nothing is left", BOUND, || {
            let seen = self.left()?;
            anyhow::ensure!(seen.ok, "{}", seen.text);
            Ok(seen)
        });
        gone.or_else(|error| Ok(Seen::new(false, format!("{error:#}"))))
    }

    fn left(&self) -> anyhow::Result<Seen> {
        let mut left = Vec::new();
        for kind in [
            "clusterroles",
            "clusterrolebindings",
            "validatingwebhookconfigurations",
            "mutatingwebhookconfigurations",
            "customresourcedefinitions",
        ] {
            let names = self.cluster.kubectl(&["get", kind, "--output", "name"])?;
            let ours = names
                .lines()
                .filter(|name| name.contains("argosy") || name.contains("istio.io"));
            left.extend(ours.map(str::to_owned));
        }
        let kinds = "all,roles,rolebindings,networkpolicies,poddisruptionbudgets,serviceaccounts,configmaps,secrets,leases";
        let all = self
            .cluster
            .kubectl(&["get", kinds, "--namespace", SYSTEM, "--output", "name"])?;
        let (kept, more): (Vec<&str>, Vec<&str>) = all.lines().partition(|name| KEPT.contains(name));
        left.extend(more.iter().map(|&name| name.to_owned()));
        let text = if left.is_empty() {
            format!("nothing is left but {}", kept.join(" "))
        } else {
            left.join(" ")
        };
        Ok(Seen::new(left.is_empty(), text))
    }

    /// Each chart by itself, every one before what it needs; and away again in the same order.
    pub(crate) fn one_by_one(&self) -> anyhow::Result<Seen> {
        let set = "global.hub=localhost/argosy,global.tag=dev,global.imagePullPolicy=Never";
        for chart in BACKWARDS {
            let path = format!("helm/{chart}");
            let mut arguments = vec![
                "install",
                chart,
                &path,
                "--namespace",
                SYSTEM,
                "--create-namespace",
                "--set",
                set,
            ];
            match chart {
                "base" => arguments.extend(["--set", "crds.keep=false"]),
                "pilot" => {
                    arguments.extend(["--set", "resources.requests.cpu=10m,autoscaling.enabled=false"])
                }
                _ => arguments.extend(["--set", "resources.requests.cpu=10m"]),
            }
            self.cluster.helm(&arguments)?;
        }
        self.cluster.rolled_out(SYSTEM, BOUND)?;
        self.cluster.shell("argosy check --timeout 60s")?;
        for chart in BACKWARDS {
            self.cluster
                .helm(&["uninstall", chart, "--namespace", SYSTEM, "--wait"])?;
        }
        let seen = self.remains()?;
        self.cluster
            .kubectl(&["delete", "namespace", SYSTEM, "--timeout=90s"])?;
        Ok(Seen::new(
            seen.ok,
            format!("ready in the order {}; {}", BACKWARDS.join(", "), seen.text),
        ))
    }
}
