//! Where the executables are.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::Context;

/// The executables of an API server.
#[derive(Debug, Clone)]
pub struct Binaries {
    pub(super) etcd: PathBuf,
    pub(super) apiserver: PathBuf,
}

impl Binaries {
    /// Those that `scripts/fetch-kubernetes` names, built into the tool cache when there are none. Asked once a process.
    ///
    /// # Errors
    /// What the script says: no Go, no module proxy.
    pub fn find() -> anyhow::Result<Self> {
        static FOUND: OnceLock<Result<Binaries, String>> = OnceLock::new();
        let found = FOUND.get_or_init(|| fetch().map_err(|error| format!("{error:#}")));
        found.clone().map_err(anyhow::Error::msg)
    }
}

fn fetch() -> anyhow::Result<Binaries> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/fetch-kubernetes");
    let output = Command::new(&script)
        .args(["etcd", "kube-apiserver"])
        .output()
        .with_context(|| format!("cannot run {}", script.display()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "no Kubernetes: {}", said.trim());
    let paths = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut paths = paths.lines().map(PathBuf::from);
    let (Some(etcd), Some(apiserver)) = (paths.next(), paths.next()) else {
        anyhow::bail!("{} named no two paths", script.display());
    };
    Ok(Binaries { etcd, apiserver })
}
