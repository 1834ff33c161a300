//! Routing: the way in, splits, matches, retries, timeouts, faults, mirrors, gRPC.

use std::time::Duration;

use serde_json::Value;
use testkit::wait;

use super::PATIENCE;
use crate::mesh::{Call, Mesh};
use crate::table::{Seen, Table};

/// Envoy's timers count from the time at which its event loop's turn began, and so may end early by this much.
const EARLY: Duration = Duration::from_millis(20);

pub(super) async fn rows(mesh: &Mesh, table: &mut Table) {
    table
        .row(
            "ingress gateway",
            "200 by catalog for its host, 404 for another",
            ingress(mesh),
        )
        .await;
    table
        .row("split by weight", "90 % v1, 10 % v2, no v3", split(mesh))
        .await;
    table
        .row(
            "route by header",
            "x-preview: true goes to v3 alone",
            by_header(mesh),
        )
        .await;
    table
        .row("a retry hides a fault", "200 at the third attempt", retry(mesh))
        .await;
    table
        .row("a timeout shows a slow answer", "504 after 300 ms", timeout(mesh))
        .await;
    table.row("injected delay", "200 after 700 ms", delay(mesh)).await;
    table
        .row("injected abort", "418, the application not reached", abort(mesh))
        .await;
    table
        .row(
            "mirroring",
            "v1 answers, v2 receives a copy of each",
            mirror(mesh),
        )
        .await;
    table.row("gRPC", "stock answers over HTTP/2", grpc(mesh)).await;
}

async fn ingress(mesh: &Mesh) -> anyhow::Result<Seen> {
    let known = mesh.ingress("/catalog").await?;
    let service = known
        .json()
        .ok()
        .and_then(|body| body.get("service")?.as_str().map(str::to_owned));
    let unknown = mesh
        .client
        .get(mesh.ingress_url("/catalog"))
        .header("host", "other.example.com")
        .send()
        .await?;
    let service = service.unwrap_or_else(|| known.text());
    let ok = known.status == 200 && service == "catalog" && unknown.status == 404;
    Ok(Seen::new(
        ok,
        format!("{} by {service}; {}", known.status, unknown.status),
    ))
}

async fn split(mesh: &Mesh) -> anyhow::Result<Seen> {
    const COUNT: u64 = 400;
    let outcome = mesh
        .call("frontend-v1", &Call::to("catalog", "/").times(COUNT as usize))
        .await?;
    // 40 are expected of v2, with a standard deviation of 6: beyond five of them is no chance.
    let (v1, v2) = (outcome.version("v1"), outcome.version("v2"));
    let ok = v1 + v2 == COUNT && (10..=70).contains(&v2) && outcome.status("200") == COUNT;
    Ok(Seen::new(
        ok,
        format!("{} ({})", outcome.versions(), outcome.statuses()),
    ))
}

async fn by_header(mesh: &Mesh) -> anyhow::Result<Seen> {
    let call = Call::to("catalog", "/").header("x-preview", "true").times(20);
    let outcome = mesh.call("frontend-v1", &call).await?;
    Ok(Seen::new(outcome.version("v3") == 20, outcome.versions()))
}

async fn retry(mesh: &Mesh) -> anyhow::Result<Seen> {
    let outcome = mesh
        .call("frontend-v1", &Call::to("catalog", &unique("/retried?fail=2")))
        .await?;
    let attempt = outcome.first_body().get("attempt").and_then(Value::as_u64);
    // The same fault where nothing retries.
    let bare = mesh
        .call("frontend-v1", &Call::to("orders", &unique("/?fail=2")))
        .await?;
    let ok = outcome.status("200") == 1 && attempt == Some(3) && bare.status("503") == 1;
    let text = format!("{} at attempt {}", outcome.statuses(), attempt.unwrap_or(0));
    Ok(Seen::new(ok, format!("{text} (elsewhere: {})", bare.statuses())))
}

async fn timeout(mesh: &Mesh) -> anyhow::Result<Seen> {
    let outcome = mesh
        .call("frontend-v1", &Call::to("catalog", "/hurried?delay=5s"))
        .await?;
    let took = outcome.first_took();
    let ok = outcome.status("504") == 1
        && took + EARLY >= Duration::from_millis(300)
        && took < Duration::from_secs(4);
    Ok(Seen::new(
        ok,
        format!("{} after {} ms", outcome.statuses(), took.as_millis()),
    ))
}

async fn delay(mesh: &Mesh) -> anyhow::Result<Seen> {
    let outcome = mesh.call("frontend-v1", &Call::to("catalog", "/delayed")).await?;
    let took = outcome.first_took();
    let ok = outcome.status("200") == 1 && took + EARLY >= Duration::from_millis(700);
    Ok(Seen::new(
        ok,
        format!("{} after {} ms", outcome.statuses(), took.as_millis()),
    ))
}

async fn abort(mesh: &Mesh) -> anyhow::Result<Seen> {
    let before = mesh.received("catalog-v1", "/aborted").await?;
    let outcome = mesh
        .call("frontend-v1", &Call::to("catalog", "/aborted").times(5))
        .await?;
    let reached = mesh.received("catalog-v1", "/aborted").await? - before;
    let ok = outcome.status("418") == 5 && reached == 0;
    Ok(Seen::new(
        ok,
        format!("{}; {reached} reached it", outcome.statuses()),
    ))
}

async fn mirror(mesh: &Mesh) -> anyhow::Result<Seen> {
    const COUNT: u64 = 20;
    let before = mesh.received("catalog-v2", "/mirrored").await?;
    let outcome = mesh
        .call(
            "frontend-v1",
            &Call::to("catalog", "/mirrored").times(COUNT as usize),
        )
        .await?;
    // Copies travel on their own; nobody waits for them but this row.
    let look = || async {
        let copies = mesh.received("catalog-v2", "/mirrored").await? - before;
        anyhow::ensure!(copies >= COUNT, "{copies} copies");
        Ok(copies)
    };
    let (copies, _) = wait::until("the copies", PATIENCE, look).await?;
    let ok = outcome.version("v1") == COUNT && copies == COUNT;
    Ok(Seen::new(
        ok,
        format!("answers: {}; copies at v2: {copies}", outcome.versions()),
    ))
}

async fn grpc(mesh: &Mesh) -> anyhow::Result<Seen> {
    let outcome = mesh.call("frontend-v1", &Call::grpc("stock:7090")).await?;
    let service = outcome
        .first_body()
        .get("service")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let ok = outcome.first_status() == Some(0) && service == "stock";
    let status = outcome
        .first_status()
        .map_or("no status".to_owned(), |code| format!("status {code}"));
    Ok(Seen::new(
        ok,
        format!(
            "{status} by {}",
            if ok {
                "stock".to_owned()
            } else {
                outcome.first_text()
            }
        ),
    ))
}

/// A path whose failures are counted for it alone.
fn unique(path: &str) -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!(
        "{path}&id=row-{}-{}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    )
}
