//! Mixer: a denier, a quota, what is reported.

use std::time::{Duration, Instant};

use testkit::http::Client;
use testkit::wait;

use super::{PATIENCE, until_call};
use crate::mesh::{Call, Mesh};
use crate::table::{Seen, Table};

/// The sample's quota: so many requests in so long.
const QUOTA: u64 = 5;
const WINDOW: Duration = Duration::from_secs(3);

pub(super) async fn rows(mesh: &Mesh, table: &mut Table) {
    table
        .row(
            "Mixer: a rule with a denier",
            "403 with the handler's message, others 200",
            denier(mesh),
        )
        .await;
    table
        .row(
            "Mixer: a quota runs out",
            "5 × 200, then 429; another user 200",
            runs_out(mesh),
        )
        .await;
    table
        .row(
            "Mixer: the quota comes back",
            "200 again within seconds",
            comes_back(mesh),
        )
        .await;
    table
        .row(
            "Mixer: istio_requests_total",
            "each request from stock-v1 to catalog-v3 counted once",
            counted(mesh),
        )
        .await;
}

async fn denier(mesh: &Mesh) -> anyhow::Result<Seen> {
    let mallory = Call::to("catalog", "/").header("x-user", "mallory");
    let denied = mesh.call("frontend-v1", &mallory).await?;
    let other = mesh
        .call("frontend-v1", &Call::to("catalog", "/").header("x-user", "alice"))
        .await?;
    let text = denied.first_text();
    let ok =
        denied.status("403") == 1 && text.contains("mallory is not welcome here") && other.status("200") == 1;
    Ok(Seen::new(
        ok,
        format!("{}: {text}; alice: {}", denied.statuses(), other.statuses()),
    ))
}

fn limited(user: &str) -> Call {
    Call::to("catalog", "/limited").header("x-user", user)
}

async fn runs_out(mesh: &Mesh) -> anyhow::Result<Seen> {
    let started = Instant::now();
    let outcome = mesh.call("frontend-v1", &limited("alice").times(10)).await?;
    let windows = started.elapsed().as_secs() / WINDOW.as_secs() + 1;
    let other = mesh.call("frontend-v1", &limited("bob")).await?;
    // Ten requests may take longer than the quota's window on a slow machine; then a second five are granted.
    let (granted, refused) = (outcome.status("200"), outcome.status("429"));
    let in_bounds = (QUOTA..=QUOTA * windows).contains(&granted);
    let ok = in_bounds && refused > 0 && granted + refused == 10 && other.status("200") == 1;
    Ok(Seen::new(
        ok,
        format!("{}; bob: {}", outcome.statuses(), other.statuses()),
    ))
}

async fn comes_back(mesh: &Mesh) -> anyhow::Result<Seen> {
    let spent = mesh.call("frontend-v1", &limited("carol").times(10)).await?;
    let took = until_call(
        mesh,
        "the quota",
        Duration::from_secs(20),
        &limited("carol"),
        |seen| seen.status("200") == 1,
    )
    .await?;
    let ok = spent.status("429") > 0;
    Ok(Seen::new(
        ok,
        format!("{}, then 200 after {:.1} s", spent.statuses(), took.as_secs_f32()),
    ))
}

/// The two workloads meet in this row alone, so that counts of other rows, which may arrive late, do not matter.
async fn counted(mesh: &Mesh) -> anyhow::Result<Seen> {
    const COUNT: u64 = 30;
    let call = Call::to("catalog", "/")
        .header("x-preview", "true")
        .times(COUNT as usize);
    let before = requests(mesh).await?;
    let mut text = String::new();
    // A second time: what was counted twice of the first would have arrived with it.
    for round in 1..=2 {
        let outcome = mesh.call("stock-v1", &call).await?;
        anyhow::ensure!(
            outcome.version("v3") == COUNT,
            "not all of them arrived: {}",
            outcome.statuses()
        );
        let look = || async {
            let more = requests(mesh).await? - before;
            anyhow::ensure!(more >= COUNT * round, "{more} of {} reported", COUNT * round);
            Ok(more)
        };
        let (more, took) = wait::until("the reports", PATIENCE, look).await?;
        text = format!(
            "{more} of {} reported after {:.1} s",
            COUNT * round,
            took.as_secs_f32()
        );
        if more != COUNT * round {
            return Ok(Seen::new(false, text));
        }
    }
    Ok(Seen::new(true, text))
}

/// Good requests from stock-v1 to catalog-v3 over mTLS, as the called side's proxy reported them to Mixer.
async fn requests(mesh: &Mesh) -> anyhow::Result<u64> {
    const WANTED: [&str; 7] = [
        "reporter=\"destination\"",
        "source_workload=\"stock-v1\"",
        "source_principal=\"cluster.local/ns/shop/sa/stock\"",
        "destination_workload=\"catalog-v3\"",
        "destination_service=\"catalog.shop.svc.cluster.local\"",
        "response_code=\"200\"",
        "connection_security_policy=\"mutual_tls\"",
    ];
    let url = format!("http://{}/metrics", mesh.control.addresses.prometheus);
    let page = Client::default()
        .get(url)
        .send()
        .await?
        .expect_status(200)?
        .text();
    let counts = page
        .lines()
        .filter(|line| line.starts_with("istio_requests_total{"));
    let counts = counts.filter(|line| WANTED.iter().all(|label| line.contains(label)));
    let value = |line: &str| line.rsplit(' ').next()?.parse::<f64>().ok();
    Ok(counts.filter_map(value).sum::<f64>().round() as u64)
}
