//! What each service shows of itself, and proxies that die.

use testkit::{process, wait};

use super::{PATIENCE, until_call};
use crate::control::Service;
use crate::mesh::{Call, Mesh};
use crate::table::{Seen, Table};

pub(super) async fn rows(mesh: &mut Mesh, table: &mut Table) {
    for service in Service::ALL {
        let name = format!("{}: /healthz, /readyz, /metrics, /logging", service.name());
        table
            .row(
                &name,
                "all answer; the level changes at run time",
                admin(mesh, service),
            )
            .await;
    }
    table
        .row("agent: its metrics", "Istio's ports and names", metrics(mesh))
        .await;
    table
        .row("an Envoy killed", "its agent starts it again", envoy_killed(mesh))
        .await;
    table
        .row(
            "an agent killed",
            "its Envoy ends with it; a new agent serves",
            agent_killed(mesh),
        )
        .await;
}

async fn admin(mesh: &Mesh, service: Service) -> anyhow::Result<Seen> {
    let control = &mesh.control;
    for path in ["/healthz", "/readyz"] {
        control.admin(service, path).await?;
    }
    let metrics = control.admin(service, "/metrics").await?.text();
    let families = metrics.lines().filter(|line| line.starts_with("# TYPE ")).count();
    let before = control.admin(service, "/logging").await?.text();
    control
        .ask(service, "PUT", "/logging?level=debug")
        .send()
        .await?
        .expect_status(200)?;
    let debug = control.admin(service, "/logging").await?.text();
    let back = format!("/logging?level={}", before.trim());
    control
        .ask(service, "PUT", &back)
        .send()
        .await?
        .expect_status(200)?;
    let refused = control
        .ask(service, "PUT", "/logging?level=loud")
        .send()
        .await?
        .status;
    let ok = families > 0 && debug.contains("debug") && !before.contains("debug") && refused == 400;
    let levels = format!("{} → {} → {}", before.trim(), debug.trim(), before.trim());
    Ok(Seen::new(
        ok,
        format!("{families} metrics; level {levels}; a bad level: {refused}"),
    ))
}

async fn metrics(mesh: &Mesh) -> anyhow::Result<Seen> {
    let address = &mesh.workload("catalog-v1")?.entry.address;
    let url = format!("http://{address}:15020/stats/prometheus");
    let page = mesh.client.get(url).send().await?.expect_status(200)?.text();
    let agent = page.lines().any(|line| line.starts_with("argosy_agent_"));
    let envoy = page.lines().any(|line| line.starts_with("envoy_cluster_"));
    let lines = page.lines().count();
    Ok(Seen::new(
        agent && envoy,
        format!("{lines} lines; the agent's: {agent}, Envoy's: {envoy}"),
    ))
}

async fn envoy_killed(mesh: &mut Mesh) -> anyhow::Result<Seen> {
    let client = mesh.client.clone();
    let workload = mesh.workload_mut("catalog-v3")?;
    let before = workload.envoy_id()?;
    process::kill(before)?;
    let look = || {
        std::future::ready(
            workload
                .envoy_id()
                .ok()
                .filter(|id| *id != before)
                .ok_or("there is none"),
        )
    };
    let (_, took) = wait::until("a new Envoy", PATIENCE, look).await?;
    workload.ready(&client).await?;
    serves(mesh).await?;
    Ok(Seen::new(
        true,
        format!("a new one after {} ms", took.as_millis()),
    ))
}

async fn agent_killed(mesh: &mut Mesh) -> anyhow::Result<Seen> {
    let client = mesh.client.clone();
    let workload = mesh.workload_mut("catalog-v3")?;
    let envoy = workload.envoy_id()?;
    workload.kill_agent();
    let look = || {
        std::future::ready(if process::runs(envoy) {
            Err("it runs")
        } else {
            Ok(())
        })
    };
    let gone = wait::until("its Envoy to end", PATIENCE, look).await;
    workload.restart_agent()?;
    workload.ready(&client).await?;
    gone?;
    serves(mesh).await?;
    Ok(Seen::new(true, "Envoy ended; the new agent serves"))
}

/// Waits until catalog-v3 is reached by others again.
async fn serves(mesh: &Mesh) -> anyhow::Result<()> {
    let call = Call::to("catalog", "/").header("x-preview", "true").times(5);
    until_call(mesh, "v3 to answer", PATIENCE, &call, |seen| {
        seen.version("v3") == 5
    })
    .await
    .map(drop)
}
