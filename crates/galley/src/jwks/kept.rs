//! Keys on disk, for the next start: an issuer that is away then keeps the keys that it had.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::fill::{DEFAULT_TIMEOUT, Source};
use super::keys;

/// Name of the file in the state folder.
const FILE: &str = "jwks.json";
/// Largest file that is read back, in bytes.
const MAX_FILE: u64 = 64 << 20;

#[derive(Debug, Serialize, Deserialize)]
struct Line {
    issuer: String,
    uri: String,
    jwks: String,
}

/// The file of the last good keys.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    path: PathBuf,
}

impl Kept {
    pub(super) fn new(folder: &Path) -> Self {
        Self {
            path: folder.join(FILE),
        }
    }

    /// What was kept; nothing where there is no file, or one that is not ours. Blocks on the file system.
    pub(super) fn load(&self) -> BTreeMap<Source, Arc<str>> {
        match std::fs::metadata(&self.path) {
            Ok(meta) if meta.len() <= MAX_FILE => {}
            Ok(_) => {
                tracing::warn!(path = %self.path.display(), "too large to be the keys that were kept");
                return BTreeMap::new();
            }
            Err(_) => return BTreeMap::new(),
        }
        let read = std::fs::read(&self.path).map_err(|error| error.to_string());
        let lines: Vec<Line> = match read.and_then(|b| serde_json::from_slice(&b).map_err(|e| e.to_string()))
        {
            Ok(lines) => lines,
            Err(error) => {
                tracing::warn!(path = %self.path.display(), error, "the keys that were kept cannot be read");
                return BTreeMap::new();
            }
        };
        let usable = |line: Line| {
            let jwks = keys::usable(line.jwks.as_bytes()).ok()?;
            let source = Source {
                issuer: line.issuer,
                uri: line.uri,
                timeout: DEFAULT_TIMEOUT,
            };
            Some((source, jwks.into()))
        };
        lines.into_iter().filter_map(usable).collect()
    }

    /// Writes the file whole or not at all. Blocks on the file system.
    pub(super) fn save(&self, keys: &[(Source, Arc<str>)]) -> std::io::Result<()> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        let lines = keys.iter().map(|(source, jwks)| Line {
            issuer: source.issuer.clone(),
            uri: source.uri.clone(),
            jwks: jwks.to_string(),
        });
        let text = serde_json::to_vec(&lines.collect::<Vec<_>>())?;
        match std::fs::create_dir(folder) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(&text)?;
        file.as_file().sync_all()?;
        file.persist(&self.path).map_err(|error| error.error)?;
        Ok(())
    }
}
