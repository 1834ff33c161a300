//! Secrets from a folder: YAML as `kubectl get secret -o yaml` prints it, in a folder that only its owner may read.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use xxhash_rust::xxh3::xxh3_64;

use super::secret::Document;
use super::{Key, Known, Secret, Secrets};
use crate::ca::files::{self, FileError};

/// How often the folder is looked at.
const INTERVAL: Duration = Duration::from_millis(500);
/// Most files that are read.
const MAX_FILES: usize = 1000;
/// Most documents in a file.
const MAX_DOCUMENTS: usize = 1000;
/// Namespace of Secrets that name none, as with `kubectl apply`.
const DEFAULT_NAMESPACE: &str = "default";

/// A folder of Secrets, where there is one.
#[derive(Debug, Clone)]
pub(crate) struct Folder(pub(crate) Option<PathBuf>);

/// What a folder holds: Secrets, and what is wrong with files, by file.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    pub(crate) secrets: Secrets,
    pub(crate) faults: BTreeMap<PathBuf, String>,
    /// Secrets that several files have, by file: they are told of, and nothing is kept for them.
    pub(crate) twice: BTreeMap<PathBuf, String>,
    hash: u64,
}

impl Folder {
    /// Reads all files. A file that cannot be used is told of, and takes nothing else with it. A folder that is not there
    /// holds nothing.
    ///
    /// # Errors
    /// When the folder cannot be read, or others may read it.
    pub(crate) fn load(&self) -> Result<Loaded, FileError> {
        let mut loaded = Loaded::default();
        let Some(dir) = &self.0 else {
            return Ok(loaded);
        };
        let files = files::private_list(dir, &["yaml", "yml", "json"])?;
        for path in files.into_iter().take(MAX_FILES) {
            match read(&path) {
                Ok((hash, secrets)) => {
                    loaded.hash = loaded.hash.rotate_left(1) ^ hash;
                    loaded.add(&path, secrets);
                }
                Err(reason) => _ = loaded.faults.insert(path, reason),
            }
        }
        Ok(loaded)
    }
}

impl Loaded {
    /// Adds a file's Secrets. One that an earlier file has too stays the earlier one's: which of the two was meant is for people
    /// to say.
    fn add(&mut self, path: &Path, secrets: Secrets) {
        let mut twice = Vec::new();
        for (key, secret) in secrets {
            match self.secrets.entry(key) {
                Entry::Vacant(place) => _ = place.insert(secret),
                Entry::Occupied(place) => {
                    let key = place.key();
                    twice.push(format!("{}/{}", key.namespace, key.name));
                }
            }
        }
        if !twice.is_empty() {
            let names = twice.join(", ");
            self.twice.insert(
                path.to_owned(),
                format!(
                    "an earlier file (by name) has these Secrets too, and counts: {names}; delete one of each"
                ),
            );
        }
    }
}

fn read(path: &Path) -> Result<(u64, Secrets), String> {
    let bytes = files::read_shared(path)
        .map_err(|error| error.to_string())?
        .ok_or("it is gone")?;
    let text = std::str::from_utf8(&bytes).map_err(|_| "not UTF-8 text")?;
    // The parser's words may quote a value.
    let documents: Vec<Document> =
        serde_saphyr::from_multiple(text).map_err(|_| "not YAML of Secrets: kind, metadata.name, data")?;
    if documents.len() > MAX_DOCUMENTS {
        return Err(format!("more than {MAX_DOCUMENTS} documents"));
    }
    let mut secrets = Secrets::new();
    for document in documents.into_iter().filter(|document| document.kind == "Secret") {
        let key = Key {
            namespace: document
                .metadata
                .namespace
                .clone()
                .unwrap_or_else(|| DEFAULT_NAMESPACE.into()),
            name: document.metadata.name.clone(),
        };
        let secret = Secret::try_from(document).map_err(|field| {
            format!(
                "Secret {}/{}: data.{field} is not base64",
                key.namespace, key.name
            )
        })?;
        let name = format!("{}/{}", key.namespace, key.name);
        if secrets.insert(key, Arc::new(secret)).is_some() {
            return Err(format!("Secret {name} is in it twice; delete one of the two"));
        }
    }
    Ok((
        xxh3_64(&bytes) ^ xxh3_64(path.as_os_str().as_encoded_bytes()),
        secrets,
    ))
}

/// Follows a folder.
pub(crate) struct Watcher {
    folder: Folder,
    secrets: watch::Sender<Known>,
    /// What was taken last: the files' hash, and whether files were broken.
    taken: Option<(u64, bool)>,
    /// What was last said of each file, and of the folder; said once.
    complaints: BTreeMap<PathBuf, String>,
    /// Likewise, of Secrets that several files have.
    twice: BTreeMap<PathBuf, String>,
}

/// What is said now and was not before.
fn new<'a>(
    now: &'a BTreeMap<PathBuf, String>,
    before: &'a BTreeMap<PathBuf, String>,
) -> impl Iterator<Item = (&'a PathBuf, &'a String)> {
    now.iter()
        .filter(|(path, reason)| before.get(*path) != Some(*reason))
}

impl Watcher {
    pub(crate) fn new(folder: Folder) -> (Self, watch::Receiver<Known>) {
        let (secrets, seen) = watch::channel(Known::default());
        let watcher = Self {
            folder,
            secrets,
            taken: None,
            complaints: BTreeMap::new(),
            twice: BTreeMap::new(),
        };
        (watcher, seen)
    }

    /// Runs until dropped.
    pub(crate) async fn run(mut self) {
        let mut looks = tokio::time::interval(INTERVAL);
        loop {
            looks.tick().await;
            let folder = self.folder.clone();
            let Ok(result) = tokio::task::spawn_blocking(move || folder.load()).await else {
                return;
            };
            self.take(result);
        }
    }

    /// A file that became unusable keeps its Secrets as they were, until it is gone or good again.
    pub(super) fn take(&mut self, result: Result<Loaded, FileError>) {
        let (loaded, faults) = match result {
            Ok(mut loaded) => {
                let faults = std::mem::take(&mut loaded.faults);
                (Some(loaded), faults)
            }
            Err(error) => (
                None,
                BTreeMap::from([(self.folder.0.clone().unwrap_or_default(), error.to_string())]),
            ),
        };
        for (path, reason) in new(&faults, &self.complaints) {
            tracing::error!(path = %path.display(), reason, "Secrets cannot be read; those of before stay in use");
        }
        let broken = !faults.is_empty();
        self.complaints = faults;
        if let Some(loaded) = &loaded {
            for (path, reason) in new(&loaded.twice, &self.twice) {
                tracing::error!(path = %path.display(), reason, "Secrets are in several files");
            }
            self.twice.clone_from(&loaded.twice);
        }
        if let Some(loaded) = loaded.filter(|loaded| self.taken != Some((loaded.hash, broken))) {
            self.taken = Some((loaded.hash, broken));
            let mut secrets = loaded.secrets;
            if broken {
                for (key, secret) in self.secrets.borrow().secrets.iter() {
                    secrets.entry(key.clone()).or_insert_with(|| secret.clone());
                }
            }
            tracing::info!(secrets = secrets.len(), "Secrets loaded");
            self.secrets.send_replace(Known {
                secrets: Arc::new(secrets),
                complete: true,
            });
        }
    }
}
