//! Keeps the last good objects on disk, so that a restart does not lose what a bad edit replaced.
//!
//! It knows where and how; which object is the last good one is `store`'s matter.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use config::Object;

/// Name of the file in the state folder.
const FILE: &str = "last-good.pb";
/// Largest file that is read back, in bytes.
const MAX_FILE: u64 = 512 << 20;

/// Why the objects could not be kept or read back.
#[derive(Debug, thiserror::Error)]
pub enum LastGoodError {
    /// The disk or the rights.
    #[error("{}: {source}", path.display())]
    File {
        /// Which file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Somebody else's file, or a damaged one.
    #[error("{} is not what Galley wrote; remove it", path.display())]
    Foreign {
        /// Which file.
        path: PathBuf,
    },
}

/// The file of the last good objects.
#[derive(Debug, Clone)]
pub struct LastGood {
    path: PathBuf,
}

impl LastGood {
    /// In this folder, which is made when first needed. The one above it must be there: where the state is kept in
    /// the configuration folder, and that is gone, it is not for Galley to bring it back.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self {
            path: folder.join(FILE),
        }
    }

    /// The objects of the run before; none at the first. Blocks on the file system.
    ///
    /// # Errors
    /// When the file is there and cannot be used.
    pub fn load(&self) -> Result<Vec<Object>, LastGoodError> {
        let length = match std::fs::metadata(&self.path) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(self.failed(source)),
        };
        let foreign = || LastGoodError::Foreign {
            path: self.path.clone(),
        };
        if length > MAX_FILE {
            return Err(foreign());
        }
        let bytes = std::fs::read(&self.path).map_err(|source| self.failed(source))?;
        let objects = feed::decode_all(&bytes).map_err(|_| foreign())?;
        let usable = |object: Result<Object, feed::DecodeError>| {
            object
                .inspect_err(|error| tracing::warn!(%error, "a kept object is not used"))
                .ok()
        };
        Ok(objects.into_iter().filter_map(usable).collect())
    }

    /// Writes them whole or not at all. Blocks on the file system.
    ///
    /// # Errors
    /// When the disk or the rights refuse; then the old file stays.
    pub fn save(&self, objects: &[Arc<Object>]) -> Result<(), LastGoodError> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        let write = || {
            make(folder)?;
            let mut file = tempfile::NamedTempFile::new_in(folder)?;
            file.write_all(&feed::encode_all(objects))?;
            file.as_file().sync_all()?;
            file.persist(&self.path).map_err(|error| error.error)
        };
        write().map(drop).map_err(|source| self.failed(source))
    }

    fn failed(&self, source: std::io::Error) -> LastGoodError {
        LastGoodError::File {
            path: self.path.clone(),
            source,
        }
    }
}

fn make(folder: &Path) -> std::io::Result<()> {
    match std::fs::create_dir(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_folder_that_is_gone_stays_gone() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("mesh");
        let kept = LastGood::new(&folder.join(".argosy"));
        assert!(matches!(kept.save(&[]), Err(LastGoodError::File { .. })));
        assert!(!folder.exists());
    }

    #[test]
    fn objects_survive_and_foreign_files_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let kept = LastGood::new(&dir.path().join("state"));
        assert!(kept.load().unwrap().is_empty(), "the first run");
        let text = "apiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: shop}\nspec:\n  ports: [{name: http, port: 80}]\n";
        let object = config::parse("x.yaml", text.as_bytes(), "default")
            .objects
            .remove(0);
        kept.save(&[Arc::new(object.clone())]).unwrap();
        assert_eq!(kept.load().unwrap(), [object]);
        std::fs::write(&kept.path, b"\xff\xff").unwrap();
        assert!(
            kept.load()
                .unwrap_err()
                .to_string()
                .contains("last-good.pb is not what Galley wrote")
        );
    }
}
