//! The operator's day, in a real cluster: Argosy installed by helm, an application given sidecars, traffic steered and
//! secured, all of it taken away. Rows of one table; docs/kubernetes.md says what each was seen to do.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context;
use cluster::cluster::Cluster;
use mesh::{Seen, Table};

use serde_json::Value;
use testkit::wait::until;

const SYSTEM: &str = "argosy-system";
const SHOP: &str = "shop";
const BOUND: Duration = Duration::from_secs(120);
const IMAGES: [&str; 8] = [
    "galley", "pilot", "citadel", "mixer", "injector", "argosy", "proxy", "sample",
];
/// Nodes of tests are small.
const VALUES: &str = "tests/cluster/values.yaml";

const PEER: &str = "
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: catalog}
spec: {selector: {matchLabels: {app: catalog}}, mtls: {mode: STRICT}}
";
const SUBSETS: &str = "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: catalog}
spec:
  host: catalog
  subsets:
  - {name: v1, labels: {version: v1}}
  - {name: v2, labels: {version: v2}}
";
const CANARY: &str = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: catalog}
spec:
  hosts: [catalog]
  http:
  - route:
    - {destination: {host: catalog, subset: v1}, weight: 80}
    - {destination: {host: catalog, subset: v2}, weight: 20}
";
const FAULT: &str = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: catalog}
spec:
  hosts: [catalog]
  http:
  - match: [{headers: {x-fault: {exact: abort}}}]
    fault: {abort: {httpStatus: 418, percentage: {value: 100}}}
    route: [{destination: {host: catalog}}]
  - route: [{destination: {host: catalog, subset: v1}}]
";
const BROKEN: &str = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: catalog}
spec:
  hosts: [catalog]
  http: [{match: [{uri: {regex: '('}}], route: [{destination: {host: catalog}}]}]
";
const DENY: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: catalog}
spec:
  selector: {matchLabels: {app: catalog}}
  action: DENY
  rules: [{from: [{source: {principals: [cluster.local/ns/shop/sa/frontend]}}], to: [{operation: {paths: [/private]}}]}]
";
const GATEWAY: &str = "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: shop}
spec:
  selector: {istio: ingressgateway}
  servers:
  - {port: {number: 443, name: https, protocol: HTTPS}, hosts: [shop.example], tls: {mode: SIMPLE, credentialName: shop-tls}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: ingress}
spec:
  hosts: [shop.example]
  gateways: [shop]
  http: [{route: [{destination: {host: frontend, port: {number: 8080}}}]}]
";

/// The outcome of requests that `frontend` makes: how many answers had which status, and came from which version.
struct Outcome {
    statuses: BTreeMap<String, u64>,
    versions: BTreeMap<String, u64>,
    first: Value,
}

struct Day {
    cluster: Cluster,
}

impl Day {
    fn ip(&self, service: &str, namespace: &str) -> anyhow::Result<String> {
        let service = self
            .cluster
            .get(&["service", service, "--namespace", namespace])?;
        Ok(service["spec"]["clusterIP"]
            .as_str()
            .context("no clusterIP")?
            .to_owned())
    }

    /// Has `frontend` ask `catalog`.
    fn call(&self, query: &str) -> anyhow::Result<Outcome> {
        let url = format!(
            "http://{}:8080/call?host=catalog:8080&{query}",
            self.ip("frontend", SHOP)?
        );
        let answer: Value = serde_json::from_str(&self.cluster.fetch(&url, &[])?)?;
        let counts = |name: &str| serde_json::from_value(answer[name].clone());
        Ok(Outcome {
            statuses: counts("statuses")?,
            versions: counts("versions")?,
            first: answer["results"][0].clone(),
        })
    }

    /// Waits until requests come out as they should, and says how.
    async fn called(&self, query: &str, expected: impl Fn(&Outcome) -> bool) -> anyhow::Result<Seen> {
        let look = || {
            let outcome = self.call(query).and_then(|outcome| {
                let text = format!("{:?} {:?}", outcome.statuses, outcome.versions);
                anyhow::ensure!(expected(&outcome), "{text}: {}", outcome.first);
                Ok(text)
            });
            std::future::ready(outcome)
        };
        let (text, took) = until(query, Duration::from_secs(30), look).await?;
        Ok(Seen::new(
            true,
            format!("{text} after {:.1} s", took.as_secs_f32()),
        ))
    }

    fn install(&self) -> anyhow::Result<Seen> {
        let chart = [
            "upgrade",
            "--install",
            "argosy",
            "helm/argosy",
            "--namespace",
            SYSTEM,
            "--create-namespace",
        ];
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

    /// Once Galley has its certificate, it refuses what is wrong.
    async fn refusal(&self) -> anyhow::Result<Seen> {
        let look = || {
            let refused = match self.cluster.apply(SHOP, BROKEN) {
                Ok(said) => Err(anyhow::anyhow!("taken: {said}")),
                Err(error) => Ok(format!("{error:#}")),
            };
            std::future::ready(refused)
        };
        let (text, _) = until("a refusal", Duration::from_secs(60), look).await?;
        let named = text.contains("validation.argosy.io") && text.contains("regex");
        Ok(Seen::new(
            named,
            text.lines().last().unwrap_or_default().to_owned(),
        ))
    }

    fn deploy(&self) -> anyhow::Result<Seen> {
        self.cluster.apply(
            "default",
            "{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {istio-injection: enabled}}}",
        )?;
        self.cluster.apply_file(SHOP, "deploy/sample.yaml")?;
        self.cluster.rolled_out(SHOP, BOUND)?;
        let pods = self.cluster.get(&["pods", "--namespace", SHOP])?;
        let pods = pods["items"].as_array().cloned().unwrap_or_default();
        let has_proxy = |pod: &Value| {
            let init = pod["spec"]["initContainers"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            init.iter()
                .any(|one| one["name"] == "istio-proxy" && one["restartPolicy"] == "Always")
        };
        let count = pods.iter().filter(|pod| has_proxy(pod)).count();
        Ok(Seen::new(
            count == 3 && pods.len() == 3,
            format!("{count} of {} pods have a native sidecar", pods.len()),
        ))
    }

    /// Traffic of an application without identity, from the node.
    async fn plaintext(&self) -> anyhow::Result<Seen> {
        self.cluster.apply(SHOP, PEER)?;
        let url = format!("http://{}:8080/", self.ip("catalog", SHOP)?);
        let look = || {
            std::future::ready(match self.cluster.fetch(&url, &[]) {
                Ok(answer) => Err(anyhow::anyhow!("answered: {answer}")),
                Err(error) => Ok(format!("{error:#}")),
            })
        };
        let (text, _) = until("plaintext to be refused", Duration::from_secs(30), look).await?;
        let inside = self
            .called("count=5", |o| o.statuses.get("200") == Some(&5))
            .await?;
        Ok(Seen::new(
            inside.ok,
            format!(
                "outside: {}; inside: {}",
                text.lines().last().unwrap_or_default(),
                inside.text
            ),
        ))
    }

    async fn ingress(&self) -> anyhow::Result<Seen> {
        let cluster = &self.cluster;
        cluster.helm(&[
            "upgrade",
            "--install",
            "istio-ingressgateway",
            "helm/gateway",
            "--namespace",
            "istio-ingress",
            "--create-namespace",
            "--values",
            "tests/cluster/gateway.yaml",
        ])?;
        cluster.rolled_out("istio-ingress", BOUND)?;
        let dir = std::env::temp_dir().join(format!("argosy-tls-{}", std::process::id()));
        std::fs::create_dir_all(&dir)?;
        let (key, certificate) = (dir.join("key.pem"), dir.join("cert.pem"));
        let (key, certificate) = (
            key.to_str().context("path")?,
            certificate.to_str().context("path")?,
        );
        cluster.run(&[
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "1",
            "-subj",
            "/CN=shop.example",
            "-addext",
            "subjectAltName=DNS:shop.example",
            "-keyout",
            key,
            "-out",
            certificate,
        ])?;
        cluster.kubectl(&[
            "create",
            "secret",
            "tls",
            "shop-tls",
            "--namespace",
            "istio-ingress",
            "--key",
            key,
            "--cert",
            certificate,
        ])?;
        cluster.apply(SHOP, GATEWAY)?;
        let address = format!(
            "shop.example:443:{}",
            self.ip("istio-ingressgateway", "istio-ingress")?
        );
        let look = || {
            std::future::ready(cluster.fetch(
                "https://shop.example/",
                &["--resolve", &address, "--cacert", certificate],
            ))
        };
        let got = until("HTTPS through the gateway", Duration::from_secs(60), look).await;
        std::fs::remove_dir_all(&dir)?;
        let (answer, took) = got?;
        Ok(Seen::new(
            answer.contains("frontend"),
            format!(
                "200 by its Secret's certificate after {:.1} s",
                took.as_secs_f32()
            ),
        ))
    }

    async fn status(&self) -> anyhow::Result<Seen> {
        let look = || {
            let waited = self
                .cluster
                .get(&["virtualservice", "catalog", "--namespace", SHOP])
                .and_then(|object| {
                    let conditions = object["status"]["conditions"]
                        .as_array()
                        .cloned()
                        .unwrap_or_default();
                    let reconciled = conditions
                        .iter()
                        .find(|one| one["type"] == "Reconciled")
                        .context("no condition")?;
                    anyhow::ensure!(reconciled["status"] == "True", "{reconciled}");
                    Ok(reconciled["message"].as_str().unwrap_or_default().to_owned())
                });
            std::future::ready(waited)
        };
        let (text, _) = until("Reconciled", Duration::from_secs(90), look).await?;
        Ok(Seen::new(true, text))
    }

    /// Every pod of the control plane is replaced while requests are made.
    fn upgrade(&self) -> anyhow::Result<Seen> {
        let url = format!(
            "http://{}:8080/call?host=catalog:8080&count=1000&timeout=5s&path=/?delay=20ms",
            self.ip("frontend", SHOP)?
        );
        let load = std::thread::scope(|scope| {
            let load = scope.spawn(|| self.cluster.fetch(&url, &[]));
            let set = "global.tag=dev,galley.podAnnotations.round=two,pilot.podAnnotations.round=two,citadel.podAnnotations.round=two,mixer.podAnnotations.round=two";
            let upgraded = self.cluster.helm(&[
                "upgrade",
                "argosy",
                "helm/argosy",
                "--namespace",
                SYSTEM,
                "--values",
                VALUES,
                "--set",
                set,
            ]);
            let rolled = upgraded.and_then(|_| self.cluster.rolled_out(SYSTEM, BOUND));
            let answer = load.join().map_err(|_| anyhow::anyhow!("the load ended badly"))?;
            rolled.and(answer)
        })?;
        let answer: Value = serde_json::from_str(&load)?;
        let statuses: BTreeMap<String, u64> = serde_json::from_value(answer["statuses"].clone())?;
        Ok(Seen::new(
            statuses.len() == 1 && statuses.contains_key("200"),
            format!("{statuses:?}"),
        ))
    }

    fn uninstall(&self) -> anyhow::Result<Seen> {
        self.cluster
            .kubectl(&["delete", "namespace", SHOP, "--timeout=90s"])?;
        self.cluster.helm(&[
            "uninstall",
            "istio-ingressgateway",
            "--namespace",
            "istio-ingress",
            "--wait",
        ])?;
        self.cluster
            .helm(&["uninstall", "argosy", "--namespace", SYSTEM, "--wait"])?;
        let mut left = Vec::new();
        for kind in [
            "clusterroles",
            "clusterrolebindings",
            "validatingwebhookconfigurations",
            "mutatingwebhookconfigurations",
            "customresourcedefinitions",
        ] {
            let names = self.cluster.kubectl(&["get", kind, "--output", "name"])?;
            left.extend(
                names
                    .lines()
                    .filter(|name| name.contains("argosy") || name.contains("istio.io"))
                    .map(str::to_owned),
            );
        }
        let all = self.cluster.kubectl(&[
            "get",
            "all,roles,rolebindings",
            "--namespace",
            SYSTEM,
            "--output",
            "name",
        ])?;
        left.extend(all.lines().map(str::to_owned));
        self.cluster
            .kubectl(&["delete", "namespace", "istio-ingress", SYSTEM, "--timeout=90s"])?;
        Ok(Seen::new(
            left.is_empty(),
            if left.is_empty() {
                "nothing is left".to_owned()
            } else {
                left.join(" ")
            },
        ))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operators_day() {
    if !Cluster::available().unwrap() {
        return;
    }
    let day = Day {
        cluster: Cluster::up(&IMAGES).unwrap(),
    };
    let mut table = Table::new("Argosy in a cluster");
    let all = |count: u64| move |o: &Outcome| o.statuses.get("200") == Some(&count);
    table
        .row(
            "helm install",
            "every Deployment ready, helm test passes",
            async { day.install() },
        )
        .await;
    table
        .row("a labelled namespace", "each pod has a sidecar", async {
            day.deploy()
        })
        .await;
    table
        .row(
            "requests through the sidecars",
            "200 from both versions",
            day.called("count=20", |o| all(20)(o) && o.versions.len() == 2),
        )
        .await;
    table
        .row(
            "mutual TLS",
            "the caller's identity at the far side",
            day.called("count=1", |o| {
                let header = o.first["body"]["headers"]["x-forwarded-client-cert"]
                    .as_str()
                    .unwrap_or_default();
                header.contains("spiffe://cluster.local/ns/shop/sa/frontend")
            }),
        )
        .await;
    table
        .row("STRICT", "no plaintext from outside, 200 inside", day.plaintext())
        .await;
    table
        .row(
            "a broken VirtualService",
            "refused by kubectl with the field",
            day.refusal(),
        )
        .await;
    day.cluster.apply(SHOP, SUBSETS).unwrap();
    day.cluster.apply(SHOP, CANARY).unwrap();
    table
        .row(
            "canary 80:20",
            "of 200 requests 20 to 60 to v2",
            day.called("count=200", |o| {
                all(200)(o)
                    && o.versions
                        .get("v2")
                        .is_some_and(|count| (20..=60).contains(count))
            }),
        )
        .await;
    table.row("status", "Reconciled is True", day.status()).await;
    day.cluster.apply(SHOP, FAULT).unwrap();
    table
        .row(
            "fault injection",
            "418 with the header",
            day.called("count=5&header=x-fault:abort", |o| {
                o.statuses.get("418") == Some(&5)
            }),
        )
        .await;
    table
        .row(
            "… and no other request",
            "200 from v1",
            day.called("count=5", |o| all(5)(o) && o.versions.get("v1") == Some(&5)),
        )
        .await;
    day.cluster.apply(SHOP, DENY).unwrap();
    table
        .row(
            "AuthorizationPolicy by account",
            "403 for /private",
            day.called("count=5&path=/private", |o| o.statuses.get("403") == Some(&5)),
        )
        .await;
    table
        .row("… and no other path", "200", day.called("count=5", all(5)))
        .await;
    table
        .row(
            "ingress over HTTPS",
            "200 with a certificate of a Secret",
            day.ingress(),
        )
        .await;
    table
        .row("upgrade under load", "no request fails", async { day.upgrade() })
        .await;
    table
        .row("uninstall", "nothing is left", async { day.uninstall() })
        .await;
    let failed = table.failed().len();
    let text = table.render();
    println!("{text}");
    if failed > 0 {
        let pods = day
            .cluster
            .kubectl(&["get", "pods", "--all-namespaces", "--output", "wide"]);
        eprintln!("{}", pods.unwrap_or_default());
    }
    assert_eq!(failed, 0, "{text}");
}
