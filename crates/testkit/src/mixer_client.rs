//! A client of Istio's Mixer API that is made of Istio 1.4's own Go types.

use std::path::PathBuf;

use crate::fetch;

/// The client, and Istio's global dictionary.
#[derive(Debug, Clone)]
pub struct MixerClient {
    /// The executable; its flags are in `scripts/mixer-client/main.go`.
    pub binary: PathBuf,
    /// The words, as YAML.
    pub dictionary: PathBuf,
}

impl MixerClient {
    /// What `scripts/fetch-mixer-client` names, built into the tool cache when it is not there.
    ///
    /// # Errors
    /// What the script says: no Go, no module proxy.
    pub fn find() -> anyhow::Result<Self> {
        let mut paths = fetch::paths("mixer-client", &[], "Mixer client")?.into_iter();
        match (paths.next(), paths.next()) {
            (Some(binary), Some(dictionary)) => Ok(Self { binary, dictionary }),
            _ => anyhow::bail!("scripts/fetch-mixer-client named no two paths"),
        }
    }
}
