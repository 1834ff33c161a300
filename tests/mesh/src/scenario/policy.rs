//! Mixer: a denier, a quota, what is reported.

use std::time::Duration;

use testkit::http::Client;
use testkit::wait;

use super::{PATIENCE, until_call};
use crate::mesh::{Call, Mesh};
use crate::table::{Seen, Table};

/// The sample's quota: so many requests in so long.
const QUOTA: u64 = 5;

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
            "counts frontend-v1 → catalog-v1 exactly",
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
    let outcome = mesh.call("frontend-v1", &limited("alice").times(10)).await?;
    let other = mesh.call("frontend-v1", &limited("bob")).await?;
    // Ten requests may take longer than the quota's window on a slow machine; then a second five are granted.
    let (granted, refused) = (outcome.status("200"), outcome.status("429"));
    let ok = granted >= QUOTA && refused > 0 && granted + refused == 10 && other.status("200") == 1;
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

async fn counted(mesh: &Mesh) -> anyhow::Result<Seen> {
    const COUNT: u64 = 30;
    let before = requests(mesh).await?;
    let call = Call::to("catalog", "/retried").times(COUNT as usize);
    let outcome = mesh.call("frontend-v1", &call).await?;
    anyhow::ensure!(
        outcome.version("v1") == COUNT,
        "not all of them arrived: {}",
        outcome.statuses()
    );
    let look = || async {
        let more = requests(mesh).await? - before;
        anyhow::ensure!(more >= COUNT, "{more} of {COUNT} reported");
        Ok(more)
    };
    let (more, took) = wait::until("the reports", PATIENCE, look).await?;
    let ok = more == COUNT;
    Ok(Seen::new(
        ok,
        format!("{more} of {COUNT} reported after {:.1} s", took.as_secs_f32()),
    ))
}

/// Good requests from frontend-v1 to catalog-v1 over mTLS, as the called side's proxy reported them to Mixer.
async fn requests(mesh: &Mesh) -> anyhow::Result<u64> {
    let url = format!("http://{}/metrics", mesh.control.addresses.prometheus);
    let page = Client::default()
        .get(url)
        .send()
        .await?
        .expect_status(200)?
        .text();
    const WANTED: [&str; 7] = [
        "reporter=\"destination\"",
        "source_workload=\"frontend-v1\"",
        "source_principal=\"cluster.local/ns/shop/sa/frontend\"",
        "destination_workload=\"catalog-v1\"",
        "destination_service=\"catalog.shop.svc.cluster.local\"",
        "response_code=\"200\"",
        "connection_security_policy=\"mutual_tls\"",
    ];
    let counts = page
        .lines()
        .filter(|line| line.starts_with("istio_requests_total{"));
    let counts: Vec<&str> = counts
        .filter(|line| WANTED.iter().all(|label| line.contains(label)))
        .collect();
    let value = |line: &&str| line.rsplit(' ').next()?.parse::<f64>().ok();
    Ok(counts.iter().filter_map(value).sum::<f64>().round() as u64)
}
