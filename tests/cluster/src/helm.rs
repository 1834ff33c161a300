//! `helm`, found or built by `scripts/fetch-kubernetes`, and what it renders.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use anyhow::Context;
use serde_json::Value;

use crate::root;

/// Path of the program. Asked once a process.
///
/// # Errors
/// What the script says: no Go, no module proxy.
pub fn program() -> anyhow::Result<PathBuf> {
    static FOUND: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let found = FOUND.get_or_init(|| find().map_err(|error| format!("{error:#}")));
    found.clone().map_err(anyhow::Error::msg)
}

fn find() -> anyhow::Result<PathBuf> {
    let mut script = Command::new(root().join("scripts/fetch-kubernetes"));
    Ok(PathBuf::from(output(script.arg("helm"))?.trim()))
}

/// Runs a command in the repository's folder, and gives what it prints.
///
/// # Errors
/// It cannot be started, or ends with another status than 0; with what it says on standard error.
pub fn output(command: &mut Command) -> anyhow::Result<String> {
    let shown = format!("{command:?}");
    let output = command
        .current_dir(root())
        .output()
        .with_context(|| format!("cannot run {shown}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    // Charts are parts of one another by symbolic links, and helm tells of each.
    let said: Vec<&str> = said
        .lines()
        .filter(|line| !line.contains("found symbolic link"))
        .collect();
    anyhow::ensure!(output.status.success(), "{shown}: {}", said.join("\n"));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// What `helm ARGUMENTS` prints.
///
/// # Errors
/// As [`output`].
pub fn helm(arguments: &[&str]) -> anyhow::Result<String> {
    output(Command::new(program()?).args(arguments))
}

/// What a chart renders, with the values of `--set`.
///
/// # Errors
/// As [`output`].
pub fn template(release: &str, chart: &str, namespace: &str, set: &[&str]) -> anyhow::Result<String> {
    let chart = format!("helm/{chart}");
    let mut arguments = vec!["template", release, &chart, "--namespace", namespace];
    for value in set {
        arguments.extend(["--set", value]);
    }
    helm(&arguments)
}

/// The objects of a rendered chart.
///
/// # Errors
/// When it is not YAML.
pub fn objects(rendered: &str) -> anyhow::Result<Vec<Value>> {
    let objects: Vec<Value> = serde_saphyr::from_multiple(rendered).context("what the chart renders")?;
    Ok(objects.into_iter().filter(|object| !object.is_null()).collect())
}
