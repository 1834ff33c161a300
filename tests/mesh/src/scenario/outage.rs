//! Services that die or are ended under load, and Mixer away for longer than its callers wait.

use std::time::Duration;

use serde_json::Value;
use testkit::wait;

use super::churn::Churn;
use super::{PATIENCE, RATE, Siege, browse, budget, until_call};
use crate::control::{Layout, Service};
use crate::mesh::{Call, Mesh};
use crate::table::{Seen, Table};

pub(super) async fn rows(mesh: &mut Mesh, table: &mut Table) {
    if mesh.control.layout == Layout::OneProcess {
        table
            .row(
                "argosy run killed and restarted under load",
                "no failed request",
                killed(mesh, Service::Pilot),
            )
            .await;
        let expected = "exit status 0, no failed request";
        table
            .row(
                "argosy run ended and restarted under load",
                expected,
                ended(mesh, Service::Pilot),
            )
            .await;
    } else {
        for service in [Service::Pilot, Service::Galley, Service::Citadel, Service::Mixer] {
            let name = format!("{} killed and restarted under load", service.name());
            table.row(&name, "no failed request", killed(mesh, service)).await;
        }
        for service in Service::ALL {
            let name = format!("{} ended and restarted under load", service.name());
            table
                .row(&name, "exit status 0, no failed request", ended(mesh, service))
                .await;
        }
        let expected = "proxies keep what they have; no failed request";
        table
            .row(
                "Pilot back while Galley is away",
                expected,
                pilot_without_galley(mesh),
            )
            .await;
        let expected = "it holds when Galley and Pilot are back";
        table
            .row(
                "an edit while Galley and Pilot are away",
                expected,
                edit_while_away(mesh),
            )
            .await;
        let expected = "refused beyond the deadline; with policyCheckFailOpen: true let pass";
        table.row("Mixer away for long", expected, mixer_away(mesh)).await;
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
            "an edit after all that moves traffic",
            "x-preview goes to v2",
            edit_after(mesh),
        )
        .await;
}

/// Starts again what is not running, whatever happened before.
async fn restore(mesh: &mut Mesh) -> anyhow::Result<()> {
    for service in Service::ALL {
        if !mesh.control.running(service) {
            mesh.control.launch(service)?;
        }
    }
    for service in Service::ALL {
        mesh.control.ready(service).await?;
    }
    Ok(())
}

async fn killed(mesh: &mut Mesh, service: Service) -> anyhow::Result<Seen> {
    let rate = budget("ARGOSY_KILL_RATE", u64::from(RATE));
    let mut churn = Churn::begin(&mesh.folder, 1)?;
    let siege = Siege::lay(mesh, u32::try_from(rate)?);
    let mut result = siege.answered(rate / 2).await;
    for _ in 0..budget("ARGOSY_KILL_ROUNDS", 1) {
        if result.is_ok() {
            result = kill_once(mesh, service, &siege, &mut churn, rate).await;
        }
    }
    churn.end()?;
    restore(mesh).await?;
    let lifted = siege.lift().await;
    result.map(|()| lifted)
}

/// Away for about a second of requests; the configuration changes meanwhile, and again as it comes back.
async fn kill_once(
    mesh: &mut Mesh,
    service: Service,
    siege: &Siege,
    churn: &mut Churn,
    rate: u64,
) -> anyhow::Result<()> {
    mesh.control.kill(service)?;
    churn.step()?;
    siege.sent(rate).await?;
    mesh.control.launch(service)?;
    churn.step()?;
    mesh.control.ready(service).await?;
    siege.answered(rate).await
}

async fn ended(mesh: &mut Mesh, service: Service) -> anyhow::Result<Seen> {
    let siege = Siege::lay(mesh, RATE);
    let status = async {
        siege.answered(50).await?;
        let status = mesh.control.stop(service).await?;
        siege.sent(50).await?;
        anyhow::Ok(status)
    };
    let status = status.await;
    restore(mesh).await?;
    let answered = siege.answered(50).await;
    let lifted = siege.lift().await;
    let status = status?;
    answered?;
    Ok(Seen::new(
        status.success() && lifted.ok,
        format!("{status}; {}", lifted.text),
    ))
}

/// A Pilot that knows nothing must say nothing: an empty configuration would be the end of all traffic.
async fn pilot_without_galley(mesh: &mut Mesh) -> anyhow::Result<Seen> {
    let siege = Siege::lay(mesh, RATE);
    let away = async {
        siege.answered(50).await?;
        mesh.control.kill(Service::Galley)?;
        mesh.control.kill(Service::Pilot)?;
        mesh.control.launch(Service::Pilot)?;
        siege.answered(3 * u64::from(RATE)).await?;
        let page = mesh.control.ask(Service::Pilot, "GET", "/readyz").send().await?;
        anyhow::Ok(format!(
            "{}: {}",
            page.status,
            page.text().trim().replace('\n', ", ")
        ))
    };
    let ready = away.await;
    restore(mesh).await?;
    let lifted = siege.lift().await;
    let ready = ready?;
    Ok(Seen::new(
        lifted.ok && ready.starts_with("503"),
        format!("{}; Pilot's /readyz meanwhile {ready}", lifted.text),
    ))
}

async fn edit_while_away(mesh: &mut Mesh) -> anyhow::Result<Seen> {
    mesh.control.kill(Service::Galley)?;
    mesh.control.kill(Service::Pilot)?;
    let before = mesh.folder.edit("traffic.yaml", PREVIEW_V3, PREVIEW_V2);
    restore(mesh).await?;
    let before = before?;
    let took = until_call(mesh, "v2 to answer", PATIENCE, &preview(), |seen| {
        seen.version("v2") == 1
    })
    .await;
    mesh.folder.write("traffic.yaml", &before)?;
    let took = took?;
    until_call(mesh, "v3 to answer", PATIENCE, &preview(), |seen| {
        seen.version("v3") == 1
    })
    .await?;
    Ok(Seen::new(
        true,
        format!("{} ms after they were ready", took.as_millis()),
    ))
}

const PREVIEW_V3: &str = "route:\n        - destination: {host: catalog, subset: v3}";
const PREVIEW_V2: &str = "route:\n        - destination: {host: catalog, subset: v2}";

fn preview() -> Call {
    Call::to("catalog", "/").header("x-preview", "true")
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
    let before = mesh.folder.edit("traffic.yaml", PREVIEW_V3, PREVIEW_V2)?;
    let took = until_call(mesh, "v2 to answer", PATIENCE, &preview(), |seen| {
        seen.version("v2") == 1
    })
    .await;
    mesh.folder.write("traffic.yaml", &before)?;
    let took = took?;
    until_call(mesh, "v3 to answer", PATIENCE, &preview(), |seen| {
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
