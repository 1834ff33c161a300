//! The operator's day, in a real cluster: Argosy installed by helm, an application given sidecars, the pages of docs/tasks done as
//! they are written, things that go wrong, all of it taken away. Rows of one table; docs/kubernetes.md says what each was seen to do.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

mod day;
mod install;
mod odd;
mod pages;
mod robust;
mod traffic;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use cluster::cluster::Cluster;
use mesh::{Seen, Table};

use crate::day::{Day, Outcome, SHOP, TOOLS};
use crate::pages::Pages;

const IMAGES: [&str; 10] = [
    "galley",
    "pilot",
    "citadel",
    "mixer",
    "injector",
    "argosy",
    "proxy",
    "sample",
    "redis",
    "prometheus",
];

/// How long a change may take to be in force everywhere.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long an emergency's rotation may take: two steps of a minute.
const ROTATION: Duration = Duration::from_secs(240);
const ONE_EACH: &str = "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: frontend}
spec: {host: frontend, trafficPolicy: {connectionPool: {http: {maxRequestsPerConnection: 1}}}}
";

fn all(count: u64) -> impl Fn(&Outcome) -> bool {
    move |outcome| outcome.statuses.get("200") == Some(&count)
}

/// A row that needs the node: its network, its processes or its images. Where the node is another machine's, it is left out.
async fn on_node(
    day: &Day,
    table: &mut Table,
    name: &str,
    expected: &str,
    see: impl Future<Output = anyhow::Result<Seen>>,
) {
    match day.cluster.has_node() {
        true => table.row(name, expected, see).await,
        false => eprintln!("- {name}: left out, for it needs the node of a cluster that runs here"),
    }
}

async fn start(day: &Day, table: &mut Table) {
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
            "rendered manifests, and with all settings on",
            "the API server takes each object",
            async { day.manifests() },
        )
        .await;
    day.cluster.kubectl(&["create", "namespace", TOOLS]).unwrap();
    let both = |o: &Outcome| all(20)(o) && o.versions.len() == 2;
    table
        .row(
            "requests through the sidecars",
            "200 from both versions",
            day.called("count=20", both),
        )
        .await;
}

async fn tasks(day: &Day, table: &mut Table) {
    let mut pages = Pages::read().unwrap();
    let told = "each command prints what the page says";
    // Each request on a connection of its own, so that each shows both certificates.
    day.cluster.apply(SHOP, ONE_EACH).unwrap();
    let handshakes = day
        .load("host=frontend:8080&count=10&timeout=10s&path=/?delay=100ms")
        .unwrap();
    // Before anything may answer something else.
    let shifting = day.catalog().unwrap();
    for (page, title) in [
        ("operations", "Replace the root"),
        ("security", "See who calls"),
        ("security", "Demand mutual TLS"),
        ("traffic", "Split by weight"),
    ] {
        let name = format!("{page}.md: {title}");
        table
            .row(&name, told, async { day.task(&mut pages, page, title, PATIENCE) })
            .await;
    }
    let split = |o: &Outcome| {
        all(200)(o)
            && o.versions
                .get("v2")
                .is_some_and(|count| (20..=60).contains(count))
    };
    table
        .row(
            "… 80:20",
            "of 200 requests 20 to 60 to v2",
            day.called("count=200", split),
        )
        .await;
    let shifted = async {
        let asked = shifting.end()?;
        Ok(Seen::new(asked.only_200(), asked.to_string()))
    };
    table
        .row("… and all that under load", "no request fails", shifted)
        .await;
    on_node(day, table, "STRICT on the wire", "no header is readable", async {
        day.capture()
    })
    .await;
    table
        .row(
            "a broken VirtualService",
            "refused by kubectl with the field",
            day.refusal(),
        )
        .await;
    // The page's chart has the released image's tag.
    if day.cluster.has_node() {
        let (ours, released) = ("localhost/argosy/proxy:dev", "localhost/argosy/proxy:0.1.0");
        day.cluster.tag(ours, released).unwrap();
    }
    for (page, title) in [
        ("traffic", "Route by header"),
        ("traffic", "Reach a service outside"),
        ("traffic", "Go out through a gateway"),
        ("security", "Refuse an account"),
        ("security", "Ask for tokens"),
        ("policies", "Refuse with a message"),
        ("policies", "Limit requests"),
        ("telemetry", "Metrics in Prometheus"),
        ("telemetry", "Access logs"),
        ("operations", "How far a change has come"),
        ("operations", "What a proxy has"),
        ("operations", "Versions"),
    ] {
        let name = format!("{page}.md: {title}");
        table
            .row(&name, told, async { day.task(&mut pages, page, title, PATIENCE) })
            .await;
    }
    on_node(
        day,
        table,
        "ingress over HTTPS",
        "200 with a certificate of a Secret",
        day.ingress(),
    )
    .await;
    on_node(
        day,
        table,
        "an Ingress",
        "200 through the same gateway",
        day.kubernetes_ingress(),
    )
    .await;
    on_node(
        day,
        table,
        "the gateway's Secret replaced, then its pods",
        "the new certificate; no request fails",
        async { day.gateway_renewed() },
    )
    .await;
    // What follows is about requests that must not fail, so none is cut short.
    day.cluster
        .kubectl(&["delete", "virtualservice", "catalog", "--namespace", SHOP])
        .unwrap();
    let (page, title) = ("operations", "See that the root is replaced");
    let name = format!("{page}.md: {title}");
    table
        .row(&name, told, async { day.task(&mut pages, page, title, ROTATION) })
        .await;
    let rotated = async {
        let asked = handshakes.end()?;
        Ok(Seen::new(asked.only_200(), asked.to_string()))
    };
    table
        .row(
            "the root replaced under load",
            "no handshake fails meanwhile",
            rotated,
        )
        .await;
    assert_eq!(pages.left(), Vec::<String>::new(), "sections that were not run");
}

async fn troubles(day: &Day, table: &mut Table) {
    let none = "no request fails";
    // While catalog asks Mixer for a quota, which fails closed.
    on_node(day, table, "services killed", none, async { day.killed() }).await;
    on_node(
        day,
        table,
        "upgrade and rollback",
        "no request, apply or pod fails",
        async { day.upgrade() },
    )
    .await;
    table
        .row(
            "pods evicted",
            "no request, apply or pod fails, budgets hold",
            async { day.evicted() },
        )
        .await;
    table
        .row("workloads replaced", none, async { day.workloads_replaced() })
        .await;
    table
        .row(
            "odd pods",
            "each runs, is asked through its proxy, and keeps what it asked for",
            day.odd(),
        )
        .await;
    table
        .row(
            "a namespace deleted mid-push",
            "no request fails, all proxies up to date",
            async { day.namespace_deleted() },
        )
        .await;
    table
        .row(
            "two revisions",
            "each namespace's proxies at their own Pilot",
            day.revisions(),
        )
        .await;
    table
        .row("Mixer asked no more", none, async { day.ask_no_mixer() })
        .await;
    on_node(
        day,
        table,
        "the API server away, cold start",
        "no request fails; each service says why it is not ready",
        async { day.api_server_away() },
    )
    .await;
    on_node(
        day,
        table,
        "many pods at once",
        "all get configuration and certificates, no request fails",
        async { day.many() },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operators_day() {
    if !Cluster::available().unwrap() {
        return;
    }
    let day = Day {
        cluster: Arc::new(Cluster::up(&IMAGES).unwrap()),
    };
    let mut table = Table::new("Argosy in a cluster");
    start(&day, &mut table).await;
    tasks(&day, &mut table).await;
    troubles(&day, &mut table).await;
    table
        .row("uninstall", "nothing is left", async { day.uninstall() })
        .await;
    table
        .row(
            "charts one by one, in any order",
            "ready; nothing is left",
            async { day.one_by_one() },
        )
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
