//! Services that die under load, and Mixer away for longer than its callers wait.

use std::time::Duration;

use serde_json::Value;
use testkit::load::Load;
use testkit::wait;

use super::change::load;
use super::{PATIENCE, browse, until_call};
use crate::control::Service;
use crate::mesh::{Call, Mesh};
use crate::table::{Seen, Table};

/// Requests per second while services are killed.
const RATE: u32 = 100;

pub(super) async fn rows(mesh: &mut Mesh, table: &mut Table) {
    for service in [Service::Pilot, Service::Galley, Service::Citadel, Service::Mixer] {
        let name = format!("{} killed and restarted under load", service.name());
        table.row(&name, "no failed request", killed(mesh, service)).await;
    }
    table
        .row(
            "all proxies again with the new Pilot",
            "every proxy SYNCED",
            synced(mesh),
        )
        .await;
    table
        .row(
            "an edit after the kills moves traffic",
            "x-preview goes to v2",
            edit_after(mesh),
        )
        .await;
    let expected = "refused beyond the deadline; with policyCheckFailOpen: true let pass";
    table.row("Mixer away for long", expected, mixer_away(mesh)).await;
}

/// How often each service is killed; more for a soak.
fn rounds() -> u32 {
    std::env::var("ARGOSY_KILL_ROUNDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(1)
}

async fn killed(mesh: &mut Mesh, service: Service) -> anyhow::Result<Seen> {
    let load = load(mesh, RATE);
    let mut result = answered(&load, 50).await;
    for _ in 0..rounds() {
        if result.is_ok() {
            result = kill_once(mesh, service, &load).await;
        }
    }
    let tally = load.finish().await;
    if mesh.control.ready(service).await.is_err() {
        mesh.control.restart(service).await?;
    }
    result?;
    let text = format!(
        "{} requests, {} failed, slowest {} ms",
        tally.done,
        tally.failed,
        tally.slowest.as_millis()
    );
    let failures = if tally.failed == 0 {
        String::new()
    } else {
        format!(" {:?}", tally.failures)
    };
    Ok(Seen::new(tally.failed == 0, text + &failures))
}

async fn kill_once(mesh: &mut Mesh, service: Service, load: &Load) -> anyhow::Result<()> {
    mesh.control.kill(service)?;
    // Away while requests come in; Mixer's callers wait for it, so only the others' requests are answered meanwhile.
    if service != Service::Mixer {
        answered(load, 100).await?;
    }
    mesh.control.restart(service).await?;
    answered(load, 100).await
}

/// Waits until so many more requests are done.
async fn answered(load: &Load, more: u64) -> anyhow::Result<()> {
    let goal = load.tally().done + more;
    let look = || {
        let done = load.tally().done;
        std::future::ready(if done >= goal {
            Ok(())
        } else {
            Err(format!("{done} of {goal}"))
        })
    };
    wait::until("requests to be answered", PATIENCE, look)
        .await
        .map(drop)
}

async fn synced(mesh: &Mesh) -> anyhow::Result<Seen> {
    let wanted = mesh.workloads().count();
    let look = || async {
        let page = mesh.control.admin(Service::Pilot, "/debug/syncz").await?.text();
        let named = mesh
            .workloads()
            .filter(|workload| page.contains(&workload.entry.name))
            .count();
        anyhow::ensure!(named == wanted, "{named} of {wanted} proxies are connected");
        anyhow::ensure!(
            !page.contains("\"STALE\"") && !page.contains("\"REJECTED\""),
            page
        );
        Ok(())
    };
    wait::until("every proxy", PATIENCE, look).await?;
    Ok(Seen::new(true, format!("{wanted} of {wanted} SYNCED")))
}

async fn edit_after(mesh: &Mesh) -> anyhow::Result<Seen> {
    let before = mesh.folder.edit(
        "traffic.yaml",
        "route:\n        - destination: {host: catalog, subset: v3}",
        "route:\n        - destination: {host: catalog, subset: v2}",
    )?;
    let call = Call::to("catalog", "/").header("x-preview", "true");
    let took = until_call(mesh, "v2 to answer", PATIENCE, &call, |seen| {
        seen.version("v2") == 1
    })
    .await;
    mesh.folder.write("traffic.yaml", &before)?;
    let took = took?;
    until_call(mesh, "v3 to answer", PATIENCE, &call, |seen| {
        seen.version("v3") == 1
    })
    .await?;
    Ok(Seen::new(true, format!("after {} ms", took.as_millis())))
}

async fn mixer_away(mesh: &mut Mesh) -> anyhow::Result<Seen> {
    mesh.control.kill(Service::Mixer)?;
    let seen = away_seen(mesh).await;
    mesh.control.restart(Service::Mixer).await?;
    let seen = seen?;
    let call = Call::to("catalog", "/");
    until_call(mesh, "Mixer to be asked again", PATIENCE, &call, |seen| {
        seen.status("200") == 1
    })
    .await?;
    Ok(seen)
}

async fn away_seen(mesh: &Mesh) -> anyhow::Result<Seen> {
    let closed = browse(mesh).await?;
    let before = mesh.folder.edit(
        "mesh.yaml",
        "policyCheckFailOpen: false",
        "policyCheckFailOpen: true",
    )?;
    let look = || async {
        let open = browse(mesh).await?;
        anyhow::ensure!(open.status("200") == 1, "{}", open.statuses());
        Ok(open)
    };
    let open = wait::until("requests to pass", PATIENCE, look).await;
    mesh.folder.write("mesh.yaml", &before)?;
    let (open, _) = open?;
    let refused = closed
        .first_status()
        .is_some_and(|status| status == 403 || status == 503);
    let body = closed.first_body();
    let body = if *body == Value::Null {
        String::new()
    } else {
        closed.first_text()
    };
    let (shut, let_pass) = (closed.first_took(), open.first_took());
    let ok = refused && shut >= Duration::from_millis(500);
    Ok(Seen::new(
        ok,
        format!(
            "{} after {:.1} s {body}; open: {} after {:.1} s",
            closed.statuses(),
            shut.as_secs_f32(),
            open.statuses(),
            let_pass.as_secs_f32()
        ),
    ))
}
