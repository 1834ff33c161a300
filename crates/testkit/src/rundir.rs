//! The folder of one run: state and logs, kept when the run failed.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;

/// A folder under the system's temporary folder; removed on drop, unless the run failed or `ARGOSY_KEEP` is set.
#[derive(Debug)]
pub struct Rundir {
    path: PathBuf,
    failed: AtomicBool,
}

impl Rundir {
    /// Makes a new one. `name` says in its path whose it is. Paths stay short: Unix sockets allow 107 bytes.
    ///
    /// # Errors
    /// When the temporary folder is not writable.
    pub fn new(name: &str) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix(&format!("{name}-"))
            .tempdir()
            .context("cannot make a folder")?;
        Ok(Self {
            path: dir.keep(),
            failed: AtomicBool::new(false),
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A folder in it, made when missing.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn dir(&self, name: &str) -> anyhow::Result<PathBuf> {
        let path = self.path.join(name);
        std::fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(path)
    }

    /// The run failed: keep the folder.
    pub fn failed(&self) {
        self.failed.store(true, Ordering::Relaxed);
    }
}

impl Drop for Rundir {
    fn drop(&mut self) {
        let keep = self.failed.load(Ordering::Relaxed) || std::thread::panicking();
        if keep || std::env::var_os("ARGOSY_KEEP").is_some() {
            eprintln!("state and logs of this run: {}", self.path.display());
        } else if let Err(error) = std::fs::remove_dir_all(&self.path) {
            eprintln!("cannot remove {}: {error}", self.path.display());
        }
    }
}
