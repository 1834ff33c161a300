//! What must be there when a process starts: its port, its Envoy, a token that Citadel believes.
//!
//! Agents are tried with a workload of their own, so that the others are not disturbed.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use testkit::http::Client;
use testkit::{Process, wait};

use super::tokens::Issuer;
use super::{PATIENCE, browse};
use crate::control::{Layout, Service};
use crate::folder::{Entry, Folder};
use crate::mesh::Mesh;
use crate::table::{Seen, Table};

const FILE: &str = "visitor.yaml";
const ACCOUNT: &str = "visitor";

pub(super) async fn rows(mesh: &Mesh, table: &mut Table) {
    table
        .row(
            "bad input: port in use",
            "the process ends and names the address",
            port_in_use(mesh),
        )
        .await;
    if let Err(error) = mesh.folder.write(FILE, visitor_yaml(mesh)) {
        return table
            .row("a workload to try agents with", "written", async { Err(error) })
            .await;
    }
    let expected = "the agent names the path";
    table
        .row("bad input: Envoy missing", expected, envoy_missing(mesh))
        .await;
    let expected = "refused; the agent says that it has expired";
    table
        .row(
            "bad input: expired token",
            expected,
            bad_token(mesh, "expired", -3600, -600, "it expired at"),
        )
        .await;
    let expected = "refused; the agent says that it is not trusted";
    table
        .row("bad input: foreign token", expected, foreign_token(mesh))
        .await;
    let expected = "a token from 50 s ahead and one expired 50 s ago are believed";
    table.row("clock skew of a minute", expected, skew(mesh)).await;
    let _ = mesh.folder.remove(FILE);
}

/// Another mesh's process on an address of this one.
async fn port_in_use(mesh: &Mesh) -> anyhow::Result<Seen> {
    let service = Service::Citadel;
    let mut spec = mesh.control.spec(service)?;
    "citadel-again".clone_into(&mut spec.name);
    let address = mesh.control.addresses.citadel.to_string();
    // Its admin address is taken as well, unless all services are one process.
    let admin = mesh.control.addresses.admin(service).to_string();
    let mut process = spec.start()?;
    let status = process.ended(PATIENCE).await?;
    let output = process.output();
    let line = output
        .lines()
        .find(|line| line.contains(&address) || line.contains(&admin))
        .unwrap_or_default();
    let browsed = browse(mesh).await?;
    let ok = !status.success() && !line.is_empty() && line.contains("in use") && browsed.status("200") == 1;
    let layout = if mesh.control.layout == Layout::Separate {
        ""
    } else {
        " (beside argosy run)"
    };
    Ok(Seen::new(
        ok,
        format!(
            "{status}{layout}: {}",
            if line.is_empty() { &output } else { line }
        ),
    ))
}

fn visitor(mesh: &Mesh) -> Entry {
    Entry {
        namespace: "shop".to_owned(),
        name: "visitor-v1".to_owned(),
        address: mesh.block.ip(60).to_string(),
        account: ACCOUNT.to_owned(),
        app: Some((ACCOUNT.to_owned(), "v1".to_owned())),
    }
}

fn visitor_yaml(mesh: &Mesh) -> String {
    let Entry {
        namespace,
        name,
        address,
        account,
        ..
    } = visitor(mesh);
    format!(
        "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\n\
         metadata: {{name: {name}, namespace: {namespace}}}\n\
         spec:\n  address: {address}\n  serviceAccount: {account}\n  labels: {{app: visitor, version: v1}}\n\
         ---\n\
         apiVersion: networking.istio.io/v1\nkind: Sidecar\n\
         metadata: {{name: {name}, namespace: {namespace}}}\n\
         spec:\n  workloadSelector: {{labels: {{app: visitor}}}}\n  egress:\n  \
         - port: {{number: 7080, protocol: HTTP, name: http}}\n    bind: {address}\n    captureMode: NONE\n    hosts: [\"./*\"]\n"
    )
}

/// Starts the visitor's agent with a token, and another Envoy if one is given.
fn agent(mesh: &Mesh, name: &str, token: &Path, envoy: Option<&Path>) -> anyhow::Result<Process> {
    let mut spec = mesh.agent_spec(&visitor(mesh), &format!("agent-{name}"))?;
    replace(&mut spec.args, "--token", token)?;
    replace(
        &mut spec.args,
        "--state-dir",
        &mesh.dir(&format!("agents/{name}"))?,
    )?;
    if let Some(envoy) = envoy {
        replace(&mut spec.args, "--envoy", envoy)?;
    }
    spec.start()
}

fn replace(args: &mut [std::ffi::OsString], flag: &str, value: &Path) -> anyhow::Result<()> {
    let at = args
        .iter()
        .position(|arg| arg == flag)
        .with_context(|| format!("no {flag}"))?;
    *args.get_mut(at + 1).context("a flag without a value")? = value.into();
    Ok(())
}

/// Waits until a process has written a line with one of the words, and gives it.
async fn says(process: &Process, words: &[&str]) -> anyhow::Result<String> {
    let look = || {
        let output = process.output();
        let found = output
            .lines()
            .find(|line| words.iter().any(|word| line.contains(word)))
            .map(str::to_owned);
        std::future::ready(
            found.with_context(|| format!("it says nothing of {words:?}:\n{}", process.tail())),
        )
    };
    wait::until(process.name(), PATIENCE, look)
        .await
        .map(|(line, _)| line)
}

async fn envoy_missing(mesh: &Mesh) -> anyhow::Result<Seen> {
    let token = Issuer::of(&mesh.folder)?.write(&mesh.dir("tokens")?, "good.jwt", ACCOUNT, 0, 3600)?;
    let missing = mesh.dir("tokens")?.join("no-envoy-here");
    let process = agent(mesh, "no-envoy", &token, Some(&missing))?;
    let line = says(&process, &["no-envoy-here"]).await?;
    let browsed = browse(mesh).await?;
    Ok(Seen::new(browsed.status("200") == 1, line))
}

async fn bad_token(mesh: &Mesh, name: &str, from: i64, until: i64, word: &str) -> anyhow::Result<Seen> {
    let token = Issuer::of(&mesh.folder)?.write(&mesh.dir("tokens")?, name, ACCOUNT, from, until)?;
    refused(mesh, name, &token, word).await
}

/// A token of an issuer of the same name with another key.
async fn foreign_token(mesh: &Mesh) -> anyhow::Result<Seen> {
    let path = mesh.dir("foreign")?.join("mesh");
    let foreign = if path.exists() {
        Folder::at(&path)
    } else {
        Folder::init(&path, &mesh.block)?
    };
    let token = Issuer::of(&foreign)?.write(&mesh.dir("tokens")?, "foreign", ACCOUNT, 0, 3600)?;
    refused(mesh, "foreign", &token, "the token was refused").await
}

async fn refused(mesh: &Mesh, name: &str, token: &Path, word: &str) -> anyhow::Result<Seen> {
    let process = agent(mesh, name, token, None)?;
    let line = says(&process, &[word]).await?;
    let browsed = browse(mesh).await?;
    let ready = status(mesh, Duration::from_secs(5)).await.is_ok();
    Ok(Seen::new(!ready && browsed.status("200") == 1, line))
}

async fn skew(mesh: &Mesh) -> anyhow::Result<Seen> {
    let issuer = Issuer::of(&mesh.folder)?;
    for (name, from, until) in [("ahead", 50, 3600), ("behind", -3600, -50)] {
        let token = issuer.write(&mesh.dir("tokens")?, name, ACCOUNT, from, until)?;
        let mut process = agent(mesh, name, &token, None)?;
        process
            .until("ready", PATIENCE, || status(mesh, Duration::from_secs(5)))
            .await?;
        process.stop(PATIENCE).await?;
    }
    Ok(Seen::new(true, "both agents were ready"))
}

/// Whether the visitor's proxy serves.
async fn status(mesh: &Mesh, timeout: Duration) -> anyhow::Result<()> {
    let url = format!("http://{}/healthz/ready", mesh.block.addr(60, 15020));
    Client::default()
        .get(url)
        .timeout(timeout)
        .send()
        .await?
        .expect_status(200)
        .map(drop)
}
