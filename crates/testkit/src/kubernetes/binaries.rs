//! Where the executables are.

use std::path::PathBuf;
use std::sync::OnceLock;

use crate::fetch;

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
    let mut paths = fetch::paths("kubernetes", &["etcd", "kube-apiserver"], "Kubernetes")?.into_iter();
    let (Some(etcd), Some(apiserver)) = (paths.next(), paths.next()) else {
        anyhow::bail!("scripts/fetch-kubernetes named no two paths");
    };
    Ok(Binaries { etcd, apiserver })
}
