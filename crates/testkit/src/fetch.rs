//! Programs that a script of the repository finds or fetches.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

/// What `scripts/fetch-PROGRAM` prints, one path a line; `called` names the part in the error.
pub(crate) fn paths(program: &str, arguments: &[&str], called: &str) -> anyhow::Result<Vec<PathBuf>> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../scripts/fetch-{program}"));
    let output = Command::new(&script)
        .args(arguments)
        .output()
        .with_context(|| format!("cannot run {}", script.display()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "no {called}: {}", said.trim());
    let printed = String::from_utf8_lossy(&output.stdout);
    Ok(printed.lines().map(PathBuf::from).collect())
}

/// The one path that `scripts/fetch-PROGRAM` prints.
pub(crate) fn path(program: &str, called: &str) -> anyhow::Result<PathBuf> {
    let path = paths(program, &[], called)?.into_iter().next();
    path.with_context(|| format!("scripts/fetch-{program} named no path"))
}
