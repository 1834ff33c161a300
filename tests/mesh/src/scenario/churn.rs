//! Change after change of routes, subsets, ports, endpoints, hosts and services while requests come in by the same routes: none
//! of them fails. What changes is drawn at random from a seed, which is told.

use std::collections::BTreeMap;
use std::fmt::Write;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use testkit::envoy::Admin;
use testkit::wait;

use super::{PATIENCE, RATE, Siege, budget};
use crate::folder::Folder;
use crate::mesh::Mesh;
use crate::table::{Seen, Table};

/// Answers to wait for between two changes: many a change comes while the one before is still under way.
const ANSWERS: u64 = 10;
const ROUTES: &str = "traffic.yaml";
const GATEWAY: &str = "gateway.yaml";
const CATALOG: &str = "catalog.shop.svc.cluster.local";

pub(super) async fn rows(mesh: &Mesh, table: &mut Table) {
    table
        .row(
            "random changes of what requests go by",
            "no failed request, also while what is gone is removed",
            churn(mesh),
        )
        .await;
    table
        .row(
            "what Mixer is asked about taken away and put back",
            "no failed request",
            rules_away(mesh),
        )
        .await;
}

/// A service beside the catalog, of the same workloads, which takes a share of the requests while it exists.
struct Extra {
    number: u32,
    port: u16,
    /// The version whose workloads it has; all of them without.
    version: Option<u32>,
}

/// What the files say.
struct State {
    draws: StdRng,
    /// Part of the names of subsets and hosts, never used again.
    number: u32,
    /// The versions of the two subsets.
    versions: [u32; 2],
    /// The first subset's weight, of 100.
    weight: u32,
    /// A further host of the routes.
    host: Option<u32>,
    extra: Option<Extra>,
}

impl State {
    fn new(seed: u64) -> Self {
        Self {
            draws: StdRng::seed_from_u64(seed),
            number: 0,
            versions: [1, 2],
            weight: 90,
            host: None,
            extra: None,
        }
    }

    fn next(&mut self) -> u32 {
        self.number += 1;
        self.number
    }

    /// Changes one thing, and names it.
    fn change(&mut self) -> &'static str {
        match (self.draws.random_range(0..6), &mut self.extra) {
            (0, _) => {
                self.weight = self.draws.random_range(0..=100);
                "weight"
            }
            (1, _) => {
                self.next();
                self.versions = [self.draws.random_range(1..=3), self.draws.random_range(1..=3)];
                "subset"
            }
            (2, _) => {
                let number = self.next();
                self.host = self.draws.random_bool(0.7).then_some(number);
                "host"
            }
            (3, Some(extra)) => {
                extra.version = self
                    .draws
                    .random_bool(0.7)
                    .then(|| self.draws.random_range(1..=3));
                "endpoints"
            }
            (4, Some(extra)) => {
                extra.port = self.draws.random_range(7081..=7099);
                "port"
            }
            (_, Some(_)) => {
                self.extra = None;
                "service removed"
            }
            (_, None) => {
                self.extra = Some(Extra {
                    number: self.next(),
                    port: 7081,
                    version: None,
                });
                "service added"
            }
        }
    }

    /// All objects, in one file, so that no state between two of them is ever valid configuration.
    fn manifest(&self) -> String {
        let [first, second] = self.versions;
        let number = self.number;
        let mut text = format!(
            "apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: catalog, namespace: shop}}
spec:
  host: {CATALOG}
  subsets:
  - {{name: one-{number}, labels: {{version: v{first}}}}}
  - {{name: two-{number}, labels: {{version: v{second}}}}}
"
        );
        let mut hosts = vec!["catalog".to_owned()];
        hosts.extend(self.host.map(|number| format!("catalog-{number}.example")));
        self.routes(&mut text, "catalog", "shop", &hosts.join(", "), "mesh");
        self.routes(&mut text, "shop", "istio-system", "shop.example.com", "shop");
        if let Some(extra) = &self.extra {
            extra.manifest(&mut text);
        }
        text
    }

    fn routes(&self, text: &mut String, name: &str, namespace: &str, hosts: &str, gateway: &str) {
        let number = self.number;
        // A third of it is the other service's, while there is one.
        let other = if self.extra.is_some() { 33 } else { 0 };
        let first = self.weight * (100 - other) / 100;
        let second = 100 - other - first;
        let _ = write!(
            text,
            "---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  hosts: [{hosts}]
  gateways: [{gateway}]
  http:
  # A retry would hide what a change breaks.
  - retries: {{attempts: 0}}
    route:
    - {{weight: {first}, destination: {{host: {CATALOG}, subset: one-{number}, port: {{number: 7080}}}}}}
    - {{weight: {second}, destination: {{host: {CATALOG}, subset: two-{number}, port: {{number: 7080}}}}}}
"
        );
        if let Some(Extra { number, port, .. }) = &self.extra {
            let _ = writeln!(
                text,
                "    - {{weight: {other}, destination: {{host: extra-{number}.example, port: {{number: {port}}}}}}}"
            );
        }
    }
}

impl Extra {
    fn manifest(&self, text: &mut String) {
        let Self {
            number,
            port,
            version,
        } = self;
        let version = version.map_or(String::new(), |version| format!(", version: v{version}"));
        let _ = write!(
            text,
            "---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: extra-{number}, namespace: shop}}
spec:
  hosts: [extra-{number}.example]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{{number: {port}, targetPort: 8080, name: http, protocol: HTTP}}]
  workloadSelector: {{labels: {{app: catalog{version}}}}}
"
        );
    }
}

/// The folder under change. Its end puts the files back.
pub(super) struct Churn {
    folder: Folder,
    state: State,
    /// What the files said.
    routes: String,
    gateway: String,
    /// How often each kind of change was made.
    made: BTreeMap<&'static str, u64>,
}

impl Churn {
    /// The gateway's routes come into the one file.
    pub(super) fn begin(folder: &Folder, seed: u64) -> anyhow::Result<Self> {
        let (routes, gateway) = (folder.read(ROUTES)?, folder.read(GATEWAY)?);
        let state = State::new(seed);
        folder.write(ROUTES, state.manifest())?;
        folder.write(GATEWAY, gateway.split("---").next().unwrap_or_default())?;
        Ok(Self {
            folder: folder.clone(),
            state,
            routes,
            gateway,
            made: BTreeMap::new(),
        })
    }

    /// Makes the next change.
    pub(super) fn step(&mut self) -> anyhow::Result<()> {
        *self.made.entry(self.state.change()).or_default() += 1;
        self.folder.write(ROUTES, self.state.manifest())
    }

    pub(super) fn end(&self) -> anyhow::Result<()> {
        self.folder.write(GATEWAY, &self.gateway)?;
        self.folder.write(ROUTES, &self.routes)
    }
}

/// The proxies that the load goes through, with what each counts of its clusters.
struct Watched(Vec<(Admin, Clusters)>);

/// Envoy's counts of clusters.
#[derive(Clone, Copy, Default)]
struct Clusters {
    active: u64,
    removed: u64,
}

impl Watched {
    async fn begin(mesh: &Mesh) -> anyhow::Result<Self> {
        let mut all = Vec::new();
        for name in ["ingressgateway", "frontend-v1"] {
            let admin = mesh.workload(name)?.envoy()?;
            let count = clusters(&admin).await?;
            all.push((admin, count));
        }
        Ok(Self(all))
    }

    /// Waits until each has as many clusters as at first, and says how many went meanwhile.
    async fn all_gone(&self) -> anyhow::Result<u64> {
        let mut gone = 0;
        for (admin, first) in &self.0 {
            let look = || async {
                let now = clusters(admin).await?;
                anyhow::ensure!(
                    now.active <= first.active,
                    "{} instead of {}",
                    now.active,
                    first.active
                );
                Ok(now.removed - first.removed)
            };
            gone += wait::until("what is gone to be removed", 2 * PATIENCE, look)
                .await?
                .0;
        }
        Ok(gone)
    }
}

async fn clusters(admin: &Admin) -> anyhow::Result<Clusters> {
    let stats = admin.stats("^cluster_manager").await?;
    let value = |name: &str| stats.get(name).copied().unwrap_or_default();
    Ok(Clusters {
        active: value("cluster_manager.active_clusters"),
        removed: value("cluster_manager.cluster_removed"),
    })
}

/// The load goes on until what went is removed from the proxies too.
async fn churn(mesh: &Mesh) -> anyhow::Result<Seen> {
    let (changes, rate, seed) = (
        budget("ARGOSY_CHANGES", 40),
        budget("ARGOSY_CHANGES_RATE", 100),
        budget("ARGOSY_CHANGES_SEED", 1),
    );
    let watched = Watched::begin(mesh).await?;
    let mut churn = Churn::begin(&mesh.folder, seed)?;
    let siege = Siege::lay(mesh, u32::try_from(rate)?);
    let work = async {
        for _ in 0..changes {
            churn.step()?;
            siege.answered(ANSWERS).await?;
        }
        anyhow::Ok(())
    };
    let done = work.await;
    churn.end()?;
    let gone = watched.all_gone().await;
    let lifted = siege.lift().await;
    done?;
    let (gone, made) = (gone?, &churn.made);
    Ok(Seen::new(
        lifted.ok && gone > 0,
        format!("seed {seed}: {made:?}, {gone} clusters removed; {}", lifted.text),
    ))
}

/// Connections that stand go on asking for a while.
async fn rules_away(mesh: &Mesh) -> anyhow::Result<Seen> {
    const RULES: &str = "mixer.yaml";
    let rules = mesh.folder.read(RULES)?;
    let siege = Siege::lay(mesh, RATE);
    let work = async {
        for _ in 0..budget("ARGOSY_RULES_AWAY", 2) {
            siege.answered(u64::from(RATE)).await?;
            mesh.folder.write(RULES, "")?;
            siege.answered(3 * u64::from(RATE)).await?;
            mesh.folder.write(RULES, &rules)?;
        }
        siege.answered(u64::from(RATE)).await
    };
    let done = work.await;
    mesh.folder.write(RULES, rules)?;
    let lifted = siege.lift().await;
    done.map(|()| lifted)
}
