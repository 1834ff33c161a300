//! Keeps the last good objects on disk, so that a restart does not lose what a bad edit replaced.
//!
//! It knows where and how; which object is the last good one is `store`'s matter.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use config::Object;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::BEHIND;
use crate::merge::Layer;

/// Name of the file in the state folder.
const FILE: &str = "last-good.pb";
/// Largest file that is read back, in bytes.
const MAX_FILE: u64 = 512 << 20;

/// Of the time between two writes, how many times as long it is as a write takes.
const IDLE: u32 = 20;

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
    pub fn load(&self) -> Result<Vec<Arc<Object>>, LastGoodError> {
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
        Ok(objects.into_iter().filter_map(usable).map(Arc::new).collect())
    }

    /// Writes them whole or not at all. Blocks on the file system.
    ///
    /// # Errors
    /// When the disk or the rights refuse; then the old file stays.
    pub fn save<'a>(&self, objects: impl IntoIterator<Item = &'a Arc<Object>>) -> Result<(), LastGoodError> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        let bytes = feed::encode_all(objects);
        let write = || {
            make(folder)?;
            let mut file = tempfile::NamedTempFile::new_in(folder)?;
            file.write_all(&bytes)?;
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

/// Keeps what the sources say, until `shutdown` and then once more. It is beside the way of a change to its subscribers: where
/// writing takes long it is done seldom, and what came in between is written at once.
pub(crate) async fn keep(
    last_good: LastGood,
    mut layers: watch::Receiver<Vec<Layer>>,
    shutdown: CancellationToken,
) {
    while shutdown
        .run_until_cancelled(layers.changed())
        .await
        .is_some_and(|changed| changed.is_ok())
    {
        _ = shutdown.run_until_cancelled(tokio::time::sleep(BEHIND)).await;
        let start = Instant::now();
        save(&last_good, &mut layers).await;
        _ = shutdown
            .run_until_cancelled(tokio::time::sleep(start.elapsed() * IDLE))
            .await;
    }
    if layers.has_changed().unwrap_or(true) {
        save(&last_good, &mut layers).await;
    }
}

async fn save(last_good: &LastGood, layers: &mut watch::Receiver<Vec<Layer>>) {
    let (last_good, layers) = (last_good.clone(), layers.borrow_and_update().clone());
    if layers.is_empty() {
        return;
    }
    let all = move || last_good.save(layers.iter().flat_map(|layer| layer.state.objects.iter()));
    if let Ok(Err(error)) = tokio::task::spawn_blocking(all).await {
        tracing::warn!(%error, "the last good objects are not kept for a restart");
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
        assert!(matches!(kept.save([]), Err(LastGoodError::File { .. })));
        assert!(!folder.exists());
    }

    #[tokio::test]
    async fn what_came_last_is_kept_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let kept = LastGood::new(&dir.path().join("state"));
        let (layers, seen) = watch::channel(Vec::new());
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(keep(kept.clone(), seen, shutdown.clone()));
        for port in 1..200 {
            let text = format!(
                "apiVersion: v1\nkind: Service\nmetadata: {{name: a, namespace: shop}}\nspec:\n  ports: [{{name: http, port: {port}}}]\n"
            );
            let objects = config::parse("x.yaml", text.as_bytes(), "default").objects;
            let state = crate::store::State {
                objects: Arc::new(objects.into_iter().map(Arc::new).collect()),
                ..Default::default()
            };
            layers.send_replace(vec![Layer {
                name: "x".into(),
                state: Arc::new(state),
            }]);
            tokio::task::yield_now().await;
        }
        let last = layers.borrow()[0].state.objects.clone();
        shutdown.cancel();
        task.await.unwrap();
        assert_eq!(kept.load().unwrap(), *last);
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
        let object = Arc::new(object);
        kept.save([&object]).unwrap();
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
