//! The scenario: what a mesh must do, each row seen at a real Envoy.
//!
//! Rows that edit the folder put back what they changed, so that each module can be driven alone.

mod bad_input;
mod change;
mod churn;
mod keys;
mod outage;
mod policy;
mod proxies;
mod security;
mod start;
mod tokens;
mod traffic;

use std::time::Duration;

use serde_json::Value;
use testkit::load::{Load, Plan, Tally};
use testkit::wait;

use crate::control::{Layout, Options, Service};
use crate::mesh::{Call, Mesh, Outcome};
use crate::table::{Seen, Table};

/// So many requests a second while something is killed.
const RATE: u32 = 100;
/// The aim is a second; beyond five, a change took too long.
const CHANGE_BOUND: Duration = Duration::from_secs(5);
/// For what has no promise of speed.
const PATIENCE: Duration = Duration::from_secs(60);

/// How the scenario wants its mesh: certificates live so short that they are renewed while it is driven, and what is gone from the
/// configuration so short that it is removed meanwhile.
pub fn options(layout: Layout) -> Options {
    Options {
        layout,
        leaf_ttl: "40s",
        removal_delay: "2s",
        kubeconfig: None,
    }
}

/// The parts of the scenario, in their order.
pub const PARTS: [&str; 10] = [
    "traffic",
    "security",
    "keys",
    "policy",
    "change",
    "churn",
    "bad-input",
    "start",
    "proxies",
    "outage",
];

/// Drives these parts, of [`PARTS`].
pub async fn drive(mesh: &mut Mesh, table: &mut Table, parts: &[&str]) {
    let renewals = security::Renewals::begin(mesh).await;
    for part in parts {
        match *part {
            "traffic" => traffic::rows(mesh, table).await,
            "security" => security::rows(mesh, table).await,
            "keys" => keys::rows(mesh, table).await,
            "policy" => policy::rows(mesh, table).await,
            "change" => change::rows(mesh, table).await,
            "churn" => churn::rows(mesh, table).await,
            "bad-input" => bad_input::rows(mesh, table).await,
            "start" => start::rows(mesh, table).await,
            "proxies" => proxies::rows(mesh, table).await,
            "outage" => outage::rows(mesh, table).await,
            other => {
                let unknown = async { Err(anyhow::anyhow!("the parts are {}", PARTS.join(", "))) };
                table.row(other, "a part of the scenario", unknown).await;
            }
        }
    }
    let expected = "each of them, with no Envoy restarted for it";
    table
        .row(
            "certificates renewed at half-life",
            expected,
            security::renewed(mesh, renewals),
        )
        .await;
    let ended = mesh.ended();
    let all_run = async {
        Ok(Seen::new(
            ended.is_empty(),
            if ended.is_empty() {
                "all run".into()
            } else {
                ended.join("\n")
            },
        ))
    };
    table
        .row("everything still runs", "no process ended by itself", all_run)
        .await;
    if !table.failed().is_empty() {
        mesh.failed();
    }
}

/// A number from the environment, for a soak.
fn budget(name: &str, unless: u64) -> u64 {
    let given = std::env::var(name).ok().and_then(|text| text.parse().ok());
    given.unwrap_or(unless)
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

/// Steady load on the catalog by both ways: through the ingress gateway, and through the frontend's sidecar.
struct Siege {
    loads: [Load; 2],
}

impl Siege {
    /// Starts it, at so many requests a second in sum.
    fn lay(mesh: &Mesh, rate: u32) -> Self {
        let plan = |url: String, host: &str| Plan {
            url,
            headers: vec![("host".to_owned(), host.to_owned())],
            rate: rate / 2,
            timeout: Duration::from_secs(15),
        };
        let egress = format!("http://{}/catalog", mesh.block.addr(10, 7080));
        let loads = [
            plan(mesh.ingress_url("/catalog"), "shop.example.com"),
            plan(egress, "catalog"),
        ];
        Self {
            loads: loads.map(Load::start),
        }
    }

    fn tally(&self) -> Tally {
        let [first, second] = &self.loads;
        first.tally().with(&second.tally())
    }

    /// Waits until so many more requests were sent.
    async fn sent(&self, more: u64) -> anyhow::Result<()> {
        self.until("requests to be sent", more, |tally| tally.sent).await
    }

    /// Waits until so many more requests were answered.
    async fn answered(&self, more: u64) -> anyhow::Result<()> {
        self.until("requests to be answered", more, |tally| tally.done)
            .await
    }

    async fn until(&self, what: &str, more: u64, count: impl Fn(&Tally) -> u64) -> anyhow::Result<()> {
        let goal = count(&self.tally()) + more;
        let look = || {
            let now = count(&self.tally());
            std::future::ready(if now >= goal {
                Ok(())
            } else {
                Err(format!("{now} of {goal}"))
            })
        };
        wait::until(what, PATIENCE, look).await.map(drop)
    }

    /// Ends it, and says what came of it: good when no request failed.
    async fn lift(self) -> Seen {
        let [first, second] = self.loads;
        let tally = first.finish().await.with(&second.finish().await);
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
        Seen::new(tally.failed == 0 && tally.done > 0, text + &failures)
    }
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
