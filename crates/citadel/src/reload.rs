//! `identity.yaml` is read again when it, or a key set that it names, changes. A broken one changes nothing.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::identity_file::{self, IdentityConfig, IdentityFileError, Read};
use crate::meters::Meters;

/// How often the files are looked at. They are few and small, and folders of any kind (Secrets, network disks) can be
/// polled.
const INTERVAL: Duration = Duration::from_secs(1);

/// Keeps the configuration in step with its file.
pub(crate) struct Reloader {
    pub(crate) path: PathBuf,
    pub(crate) config: Arc<ArcSwap<IdentityConfig>>,
    pub(crate) seen: Read,
    pub(crate) meters: Meters,
}

impl Reloader {
    /// Runs until dropped.
    pub(crate) async fn run(mut self) {
        // What was last said of a broken file; said once.
        let mut complaint = None;
        loop {
            tokio::time::sleep(INTERVAL).await;
            let path = self.path.clone();
            let Ok(result) = tokio::task::spawn_blocking(move || identity_file::load(&path)).await else {
                continue;
            };
            match self.step(result) {
                Ok(changed) => {
                    if changed || complaint.take().is_some() {
                        tracing::info!(path = %self.path.display(), "identity file loaded");
                    }
                    complaint = None;
                    self.meters.reload_bad.set(0);
                }
                Err(error) => {
                    if complaint.as_ref() != Some(&error) {
                        tracing::error!(%error, "identity file not usable; the version before it stays in force");
                        self.meters.reload_failed.inc();
                    }
                    self.meters.reload_bad.set(1);
                    complaint = Some(error);
                }
            }
        }
    }

    /// Takes what was read; whether that changed anything.
    fn step(&mut self, result: Result<(IdentityConfig, Read), IdentityFileError>) -> Result<bool, String> {
        let (config, read) = result.map_err(|e| e.to_string())?;
        if read == self.seen {
            return Ok(false);
        }
        let config_now = self.config.load();
        if config.trust_domain_aliases != config_now.trust_domain_aliases {
            return Err(format!(
                "{}: trustDomainAliases: they cannot change while Citadel runs; restart it",
                self.path.display()
            ));
        }
        let current = &config_now.trust_domain;
        if config.trust_domain != *current {
            return Err(format!(
                "{}: trustDomain: {} cannot replace {current} while Citadel runs; restart it with a root of that domain",
                self.path.display(),
                config.trust_domain
            ));
        }
        self.config.store(Arc::new(config));
        self.seen = read;
        Ok(true)
    }
}
