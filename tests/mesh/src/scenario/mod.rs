//! The scenario: what a mesh must do, each row seen at a real Envoy.
//!
//! Rows that edit the folder put back what they changed, so that each module can be driven alone.

mod bad_input;
mod change;
mod outage;
mod policy;
mod security;
mod start;
mod tokens;
mod traffic;

use std::time::Duration;

use serde_json::Value;
use testkit::wait;

use crate::control::{Layout, Service};
use crate::mesh::{Call, Mesh, Outcome};
use crate::table::{Seen, Table};

/// The aim is a second; beyond five, a change took too long.
const CHANGE_BOUND: Duration = Duration::from_secs(5);
/// For what has no promise of speed.
const PATIENCE: Duration = Duration::from_secs(60);

/// Drives all rows. Killing single services needs them to be processes of their own.
pub async fn drive(mesh: &mut Mesh, table: &mut Table) {
    traffic::rows(mesh, table).await;
    security::rows(mesh, table).await;
    policy::rows(mesh, table).await;
    change::rows(mesh, table).await;
    bad_input::rows(mesh, table).await;
    start::rows(mesh, table).await;
    if mesh.control.layout == Layout::Separate {
        outage::rows(mesh, table).await;
    }
    let ended = mesh.ended();
    table
        .row("everything still runs", "no process ended by itself", async {
            Ok(Seen::new(
                ended.is_empty(),
                if ended.is_empty() {
                    "all run".into()
                } else {
                    ended.join("\n")
                },
            ))
        })
        .await;
    if !table.failed().is_empty() {
        mesh.failed();
    }
}

/// Drives the rows of one part, by its name; `None` when there is no such part.
pub async fn drive_part(mesh: &mut Mesh, table: &mut Table, part: &str) -> Option<()> {
    match part {
        "traffic" => traffic::rows(mesh, table).await,
        "security" => security::rows(mesh, table).await,
        "policy" => policy::rows(mesh, table).await,
        "change" => change::rows(mesh, table).await,
        "bad_input" => bad_input::rows(mesh, table).await,
        "start" => start::rows(mesh, table).await,
        "outage" => outage::rows(mesh, table).await,
        _ => return None,
    }
    if !table.failed().is_empty() {
        mesh.failed();
    }
    Some(())
}

/// A plain request of the frontend to the catalog.
async fn browse(mesh: &Mesh) -> anyhow::Result<Outcome> {
    mesh.call("frontend-v1", &Call::to("catalog", "/")).await
}

/// Waits until a request of the frontend meets a condition.
async fn until_call(
    mesh: &Mesh,
    what: &str,
    bound: Duration,
    call: &Call,
    good: impl Fn(&Outcome) -> bool,
) -> anyhow::Result<Duration> {
    let look = || async {
        let outcome = mesh.call("frontend-v1", call).await?;
        let text = format!(
            "{} by {}: {}",
            outcome.statuses(),
            outcome.versions(),
            outcome.first_text()
        );
        anyhow::ensure!(good(&outcome), text);
        Ok(())
    };
    Ok(wait::until(what, bound, look).await?.1)
}

/// What Galley finds wrong with the configuration.
async fn findings(mesh: &Mesh) -> anyhow::Result<Vec<Value>> {
    let page = mesh
        .control
        .admin(Service::Galley, "/debug/config")
        .await?
        .json()?;
    Ok(page
        .get("findings")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default())
}

/// Waits for a finding about a file.
async fn finding_about(mesh: &Mesh, file: &str) -> anyhow::Result<Value> {
    let look = || async {
        let all = findings(mesh).await?;
        let found = all.iter().find(|finding| text(finding, "file") == file).cloned();
        found.ok_or_else(|| anyhow::anyhow!("{} findings, none about it", all.len()))
    };
    Ok(wait::until(&format!("a finding about {file}"), PATIENCE, look)
        .await?
        .0)
}

/// Waits until there is no finding about a file any longer.
async fn no_finding_about(mesh: &Mesh, file: &str) -> anyhow::Result<()> {
    let look = || async {
        let about: Vec<String> = findings(mesh)
            .await?
            .iter()
            .filter(|one| text(one, "file") == file)
            .map(Value::to_string)
            .collect();
        anyhow::ensure!(about.is_empty(), about.join("; "));
        Ok(())
    };
    wait::until(&format!("no finding about {file}"), PATIENCE, look)
        .await
        .map(drop)
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// One line of a finding, for people.
fn one_line(finding: &Value) -> String {
    let line = finding.get("line").and_then(Value::as_u64).unwrap_or(0);
    let (object, path) = (text(finding, "object"), text(finding, "path"));
    let (message, help) = (text(finding, "message"), text(finding, "help"));
    let parts: Vec<String> = [object, path, message, help]
        .iter()
        .map(ToString::to_string)
        .collect();
    let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    format!("{}:{line}: {}", text(finding, "file"), parts.join(": "))
}
