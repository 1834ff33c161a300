//! Edits of the folder while requests come in: a good one, a broken one, one that Envoy refuses.

use std::net::TcpListener;

use serde_json::Value;
use testkit::wait;

use super::{
    CHANGE_BOUND, PATIENCE, RATE, Siege, finding_about, no_finding_about, one_line, text, until_call,
};
use crate::control::Service;
use crate::mesh::{Call, Mesh};
use crate::table::{Seen, Table};

pub(super) async fn rows(mesh: &Mesh, table: &mut Table) {
    table
        .row(
            "an edit moves traffic",
            "all to v3 within 5 s (aim 1 s), none failed",
            good_edit(mesh),
        )
        .await;
    let expected = "nothing changes; file, line, object, field and reason are told";
    table.row("a broken edit", expected, broken_edit(mesh)).await;
    let expected = "isolated, told with its object by Pilot, a metric and Galley";
    table
        .row("a NACK by Envoy (port in use)", expected, nack(mesh))
        .await;
}

async fn good_edit(mesh: &Mesh) -> anyhow::Result<Seen> {
    let siege = Siege::lay(mesh, RATE);
    let before = mesh.folder.edit(
        "traffic.yaml",
        "subset: v1}\n          weight: 90",
        "subset: v3}\n          weight: 90",
    )?;
    let moved = async {
        let call = Call::to("catalog", "/").times(10);
        let there = |seen: &crate::mesh::Outcome| seen.version("v1") == 0 && seen.version("v3") > 0;
        let took = until_call(mesh, "v3 to answer", PATIENCE, &call, there).await?;
        mesh.folder.write("traffic.yaml", &before)?;
        let back = until_call(mesh, "v1 to answer", PATIENCE, &call, |seen| {
            seen.version("v3") == 0
        })
        .await?;
        anyhow::Ok((took, back))
    };
    let moved = moved.await;
    mesh.folder.write("traffic.yaml", &before)?;
    let lifted = siege.lift().await;
    let (there, back) = moved?;
    let ok = there <= CHANGE_BOUND && back <= CHANGE_BOUND && lifted.ok;
    let text = format!(
        "there after {} ms, back after {} ms",
        there.as_millis(),
        back.as_millis()
    );
    Ok(Seen::new(ok, format!("{text}; {}", lifted.text)))
}

async fn broken_edit(mesh: &Mesh) -> anyhow::Result<Seen> {
    let before = mesh.folder.edit("traffic.yaml", "weight: 90", "weight: ninety")?;
    let seen = broken_edit_seen(mesh, &before).await;
    mesh.folder.write("traffic.yaml", &before)?;
    let gone = no_finding_about(mesh, "traffic.yaml").await;
    let seen = seen?;
    gone.map(|()| seen)
}

async fn broken_edit_seen(mesh: &Mesh, before: &str) -> anyhow::Result<Seen> {
    let finding = finding_about(mesh, "traffic.yaml").await?;
    let line = before
        .lines()
        .position(|line| line.contains("weight: 90"))
        .map_or(0, |index| index + 1);
    let told = finding.get("line").and_then(Value::as_u64) == Some(line as u64)
        && text(&finding, "object") == "VirtualService shop/catalog"
        && text(&finding, "path").ends_with("route[0].weight")
        && !text(&finding, "message").is_empty();
    let logged = mesh
        .control
        .output(Service::Galley)
        .contains(&format!("traffic.yaml:{line}"));
    let outcome = mesh
        .call("frontend-v1", &Call::to("catalog", "/").times(60))
        .await?;
    let same =
        outcome.version("v1") > outcome.version("v2") && outcome.version("v1") + outcome.version("v2") == 60;
    let log = if logged { "" } else { "; not in the log" };
    Ok(Seen::new(
        told && logged && same,
        format!("{}; {}{log}", one_line(&finding), outcome.versions()),
    ))
}

/// A Gateway for a port that another process has: Envoy refuses the listener, and nothing else.
async fn nack(mesh: &Mesh) -> anyhow::Result<Seen> {
    const FILE: &str = "taken.yaml";
    let address = mesh.block.addr(1, 8081);
    let taken = TcpListener::bind(address)?;
    let gateway = format!(
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: taken, namespace: istio-system}}\n\
         spec:\n  selector: {{istio: ingressgateway}}\n  servers:\n  - port: {{number: 8081, name: http, protocol: HTTP}}\n    \
         bind: {}\n    hosts: [\"*\"]\n",
        address.ip()
    );
    mesh.folder.write(FILE, gateway)?;
    let seen = nack_seen(mesh).await;
    drop(taken);
    mesh.folder.remove(FILE)?;
    let seen = seen?;
    let cleared = || async {
        let rejected = rejections(mesh).await?;
        anyhow::ensure!(rejected.is_empty(), "{rejected:?}");
        Ok(())
    };
    wait::until("nothing to be rejected any longer", PATIENCE, cleared).await?;
    Ok(seen)
}

async fn nack_seen(mesh: &Mesh) -> anyhow::Result<Seen> {
    let look = || async {
        rejections(mesh)
            .await?
            .pop()
            .ok_or_else(|| anyhow::anyhow!("nothing is rejected"))
    };
    let (rejection, _) = wait::until("a rejection in /debug/syncz", PATIENCE, look).await?;
    let named = rejection.to_string().contains("Gateway istio-system/taken");
    let metrics = mesh.control.admin(Service::Pilot, "/metrics").await?.text();
    let metric = metrics
        .lines()
        .find(|line| line.contains("name=\"taken\"") && line.ends_with(" 1"));
    let (counts, _) = wait::until("Galley to hear of the rejection", PATIENCE, || distribution(mesh)).await?;
    let answer = mesh.ingress("/catalog").await?;
    let ok = named && metric.is_some() && answer.status == 200;
    let message: String = text(&rejection, "message").chars().take(70).collect();
    let objects = rejection.get("objects").map(Value::to_string).unwrap_or_default();
    let metric = metric.unwrap_or("no metric");
    Ok(Seen::new(
        ok,
        format!(
            "{objects}: {message}; {metric}; Galley: {counts}; the other server: {}",
            answer.status
        ),
    ))
}

/// What Galley knows of the rejected Gateway: how many proxies of those that depend on it reject it, and other objects that
/// all proxies have.
async fn distribution(mesh: &Mesh) -> anyhow::Result<String> {
    let page = mesh
        .control
        .admin(Service::Galley, "/debug/distribution")
        .await?
        .json()?;
    let objects = page.get("objects").and_then(Value::as_array);
    let all: Vec<&Value> = objects.into_iter().flatten().collect();
    let count = |object: &Value, field: &str| object.get(field).and_then(Value::as_u64).unwrap_or_default();
    let rejected = all
        .iter()
        .find(|object| text(object, "object") == "Gateway istio-system/taken");
    let rejected =
        rejected.filter(|object| count(object, "rejected") > 0 && !text(object, "reason").is_empty());
    let rejected = rejected.ok_or_else(|| anyhow::anyhow!("no rejection in {page}"))?;
    let route = all
        .iter()
        .find(|object| text(object, "object") == "VirtualService shop/catalog");
    let accepted = route.is_some_and(|object| {
        count(object, "proxies") > 0 && count(object, "accepted") == count(object, "proxies")
    });
    anyhow::ensure!(accepted, "VirtualService shop/catalog is not everywhere: {page}");
    Ok(format!(
        "rejected by {} of {}",
        count(rejected, "rejected"),
        count(rejected, "proxies")
    ))
}

/// Every entry of a `rejected` list in `/debug/syncz`.
async fn rejections(mesh: &Mesh) -> anyhow::Result<Vec<Value>> {
    let page = mesh.control.admin(Service::Pilot, "/debug/syncz").await?.json()?;
    let mut found = Vec::new();
    gather(&page, &mut found);
    Ok(found)
}

fn gather(value: &Value, found: &mut Vec<Value>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::Array(list) if name == "rejected" => found.extend(list.iter().cloned()),
                    other => gather(other, found),
                }
            }
        }
        Value::Array(list) => list.iter().for_each(|value| gather(value, found)),
        _ => {}
    }
}
