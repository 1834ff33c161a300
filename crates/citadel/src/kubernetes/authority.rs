//! The authority in a Secret, so that all replicas have the same one. The folder of `--ca-dir` is a copy that this process
//! works on: what the Secret holds is written into it, and a step that was taken in it goes into the Secret, unless somebody
//! else has written meanwhile (compare-and-swap on resourceVersion); then the Secret's word counts.
//!
//! A Secret `cacerts` beside it is an authority that was plugged in, by Istio's names; it is read and never written. What its
//! Citadels note of it (what was revoked, which root is not to be trusted) is in a Secret of its own, kept in the same way.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ObjectMeta, PostParams};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher;
use kube::{Api, Client};
use runtime::readiness::Condition;
use zeroize::{Zeroize, Zeroizing};

use super::meters::Meters;
use super::{answer, code, istio_root, mark};
use crate::ca::files::{self, FileError};
use crate::ca::{CERT_FILE, KEY_FILE};

/// Name of the Secret unless told.
pub(crate) const OWN_SECRET: &str = "argosy-ca-secret";
/// Name of the Secret of an authority that is plugged in, as in Istio.
pub(crate) const PLUGGED_SECRET: &str = "cacerts";
/// Its keys, which become files; the certificates before the key, so that a set is not taken for complete halfway.
const PLUGGED_KEYS: [&str; 5] = [
    "root-cert.pem",
    "cert-chain.pem",
    "ca-cert.pem",
    "ca-crl.pem",
    "ca-key.pem",
];
/// What the name of the Secret of notes ends with.
const NOTES: &str = "-notes";
/// The Secret's type, so that nobody takes it for a credential.
const TYPE: &str = "argosy.io/ca";
/// How often the folder is looked at for steps that were taken in it.
const LOOK: Duration = Duration::from_millis(500);
/// How long a first start tries to reach the API server before it gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why the Secret cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The API server.
    #[error("Secret {namespace}/{name}: {reason}")]
    Api {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// What the API server said.
        reason: String,
    },
    /// The Secret lacks what an authority needs.
    #[error(
        "Secret {namespace}/{name} has no {key}: put it back from a backup, or delete the Secret (and the folder of --ca-dir, where it lasts) to have a new root made, which no workload trusts yet"
    )]
    Lacks {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// The key.
        key: &'static str,
    },
    /// There are notes on an authority that was plugged in, and neither that nor another one.
    #[error(
        "Secret {namespace}/{notes} has notes on an authority that was plugged in{}, but there is no Secret {PLUGGED_SECRET}: put that back, or delete {notes} to have a new root made, which no workload trusts yet",
        of_root(.root.as_deref())
    )]
    PluggedMissing {
        /// The namespace.
        namespace: String,
        /// The name of the Secret of notes.
        notes: String,
        /// SHA-256 of its root, where the notes say it.
        root: Option<String>,
    },
    /// The folder has an authority that was plugged in, which is gone from the cluster.
    #[error(
        "{dir} has an authority that was plugged in, but there is no Secret {namespace}/{PLUGGED_SECRET}: put that back, {dir} has its files; or empty {dir} to have a new root made, which no workload trusts yet. Where it was plugged in by files, say so with an empty --ca-secret"
    )]
    PluggedLeft {
        /// The namespace.
        namespace: String,
        /// The folder.
        dir: PathBuf,
    },
    /// The root that Istio made cannot be used.
    #[error(
        "Secret {namespace}/{name}, the root that Istio made, cannot be taken over: {reason}; put it right, or delete it to have a new root made"
    )]
    Istio {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A file of the copy.
    #[error(transparent)]
    File(#[from] FileError),
}

fn of_root(fingerprint: Option<&str>) -> String {
    fingerprint.map_or_else(String::new, |root| {
        format!(" (its root has the SHA-256 fingerprint {root})")
    })
}

/// The values by name; wiped when dropped.
pub(super) type Values = BTreeMap<String, Zeroizing<Vec<u8>>>;

/// What a Secret holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holds {
    /// The authority, with notes on it.
    Authority,
    /// Notes on an authority that was plugged in.
    Notes,
}

impl Holds {
    /// Whether a file of the folder belongs into the Secret: not locks, not what is half written.
    fn has(self, name: &str) -> bool {
        let key = self == Self::Authority && name.ends_with(".pem");
        !name.starts_with('.') && (key || name.ends_with(".json"))
    }

    /// What it cannot be without.
    fn wants(self) -> &'static [&'static str] {
        match self {
            Self::Authority => &[KEY_FILE, CERT_FILE],
            Self::Notes => &[],
        }
    }
}

/// The authority's Secret, and the folder that is its copy.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    api: Api<Secret>,
    namespace: String,
    name: String,
    dir: PathBuf,
    holds: Holds,
}

/// What the folder was made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// `cacerts`.
    Plugged,
    /// The own Secret, of that resourceVersion.
    Own(String),
    /// There is no Secret yet.
    Nothing,
}

impl Store {
    pub(crate) fn new(client: Client, namespace: &str, name: &str, dir: &Path) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            dir: dir.to_owned(),
            holds: Holds::Authority,
        }
    }

    fn notes_name(&self) -> String {
        format!("{}{NOTES}", self.name)
    }

    /// The Secret of notes beside it, whose copy is in the folder `dir`.
    fn notes(&self, dir: &Path) -> Self {
        Self {
            name: self.notes_name(),
            dir: dir.to_owned(),
            holds: Holds::Notes,
            ..self.clone()
        }
    }

    /// Makes the folder what the cluster says. Waits for the API server as long as it takes where `ready` hears why, else for a while.
    ///
    /// # Errors
    /// When the API server does not answer, or the folder cannot be written.
    pub(crate) async fn pull(&self, ready: Option<&Condition>) -> Result<Origin, SecretError> {
        let start = std::time::Instant::now();
        loop {
            match self.pull_once().await {
                Err(error @ SecretError::Api { .. }) if ready.is_some() || start.elapsed() < PATIENCE => {
                    if let Some(ready) = ready {
                        ready.set_not_ready(format!("the API server does not give the authority: {error}"));
                    }
                    tracing::warn!(%error, "the authority's Secret cannot be read yet");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                result => return result,
            }
        }
    }

    async fn pull_once(&self) -> Result<Origin, SecretError> {
        Ok(self.pull_values().await?.0)
    }

    async fn pull_values(&self) -> Result<(Origin, Values), SecretError> {
        if self.holds == Holds::Authority
            && let Some(secret) = self.get(PLUGGED_SECRET).await?
        {
            let values = plugged(secret);
            self.write(&values, true)?;
            return Ok((Origin::Plugged, values));
        }
        match self.get(&self.name).await? {
            None => {
                self.refuse_remains().await?;
                Ok((Origin::Nothing, Values::new()))
            }
            Some(secret) => self.take(secret),
        }
    }

    /// A cluster with notes on an authority that was plugged in is no new one.
    async fn refuse_remains(&self) -> Result<(), SecretError> {
        let notes = self.notes_name();
        if self.holds != Holds::Authority {
            return Ok(());
        }
        let Some(secret) = self.get(&notes).await? else {
            return Ok(());
        };
        Err(SecretError::PluggedMissing {
            namespace: self.namespace.clone(),
            notes,
            root: mark::root(&secret),
        })
    }

    /// What a folder still has of an authority that was plugged in is none of its own, and goes into no Secret.
    pub(crate) fn plugged_left(&self) -> SecretError {
        SecretError::PluggedLeft {
            namespace: self.namespace.clone(),
            dir: self.dir.clone(),
        }
    }

    /// Writes the mark where there is none.
    fn mark(&self, text: &str) -> Result<(), SecretError> {
        let path = self.dir.join(mark::FILE);
        if path.exists() {
            return Ok(());
        }
        files::private_dir(&self.dir)?;
        let _lock = files::lock(&self.dir)?;
        Ok(files::write_atomic(&path, text.as_bytes(), 0o600)?)
    }

    /// Writes the own Secret's values into the folder, and gives them.
    fn take(&self, mut secret: Secret) -> Result<(Origin, Values), SecretError> {
        let version = secret.metadata.resource_version.take().unwrap_or_default();
        let values = values(secret);
        if let Some(key) = self.lacks(&values) {
            return Err(self.lacking(key));
        }
        self.write(&values, false)?;
        Ok((Origin::Own(version), values))
    }

    /// What an authority cannot be without, and is not there.
    fn lacks(&self, values: &Values) -> Option<&'static str> {
        let mut wants = self.holds.wants().iter().copied();
        wants.find(|key| !values.contains_key(*key))
    }

    fn lacking(&self, key: &'static str) -> SecretError {
        SecretError::Lacks {
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            key,
        }
    }

    async fn get(&self, name: &str) -> Result<Option<Secret>, SecretError> {
        answer(self.api.get_opt(name))
            .await
            .map_err(|reason| self.failed(name, reason))
    }

    fn failed(&self, name: &str, reason: String) -> SecretError {
        SecretError::Api {
            namespace: self.namespace.clone(),
            name: name.to_owned(),
            reason,
        }
    }

    /// Writes what differs, keys last; what is not in the Secret leaves the folder, unless the set is a plugged one.
    fn write(&self, values: &Values, plugged: bool) -> Result<(), SecretError> {
        files::private_dir(&self.dir)?;
        // Steps of a rotation are taken under the same lock.
        let _lock = files::lock(&self.dir)?;
        let held = self.read()?;
        let is_key = |name: &str| name.ends_with("key.pem");
        let mut names: Vec<&String> = values.keys().collect();
        names.sort_by_key(|name| is_key(name));
        for name in names {
            if let Some(value) = values.get(name).filter(|value| held.get(name) != Some(value)) {
                files::write_atomic(&self.dir.join(name), value, 0o600)?;
            }
        }
        if !plugged {
            for name in held.keys().filter(|name| !values.contains_key(*name)) {
                _ = std::fs::remove_file(self.dir.join(name));
            }
        }
        Ok(())
    }

    /// All files of the folder that make up the authority.
    fn read(&self) -> Result<Values, SecretError> {
        let mut values = Values::new();
        let Ok(entries) = std::fs::read_dir(&self.dir) else {
            return Ok(values);
        };
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if self.holds.has(&name)
                && let Some(bytes) = files::read(&entry.path())?
            {
                values.insert(name, Zeroizing::new(bytes));
            }
        }
        Ok(values)
    }

    /// Takes Istio's root over, where there is one and the folder has no root of its own.
    ///
    /// # Errors
    /// When the API server does not answer, or the root cannot be used.
    pub(crate) async fn inherit(&self) -> Result<(), SecretError> {
        if self.read()?.contains_key(KEY_FILE) {
            return Ok(());
        }
        let Some(secret) = self.get(istio_root::SECRET).await? else {
            return Ok(());
        };
        let files = istio_root::files(secret).map_err(|reason| SecretError::Istio {
            namespace: self.namespace.clone(),
            name: istio_root::SECRET,
            reason,
        })?;
        self.write(&files, false)?;
        tracing::warn!(target: "citadel::audit", "the root of Secret {} was taken over", istio_root::SECRET);
        Ok(())
    }

    /// Creates the Secret from the folder. Of several replicas that do one succeeds: `None` for the others.
    ///
    /// # Errors
    /// When the API server refuses, or the folder cannot be read or lacks something.
    pub(crate) async fn create(&self) -> Result<Option<String>, SecretError> {
        let values = self.read()?;
        match self.lacks(&values) {
            Some(key) => Err(self.lacking(key)),
            None => self.create_of(&values).await,
        }
    }

    async fn create_of(&self, values: &Values) -> Result<Option<String>, SecretError> {
        let secret = self.secret(values, None);
        let created = answer(async {
            match self.api.create(&PostParams::default(), &secret).await {
                Err(error) if code(&error) == Some(409) => Ok(None),
                created => created.map(Some),
            }
        });
        let created = created.await.map_err(|reason| self.failed(&self.name, reason))?;
        wipe(secret);
        Ok(created.map(|secret| secret.metadata.resource_version.unwrap_or_default()))
    }

    /// Puts the values into the Secret when that is still of `version`: the new version, or `None` when somebody else has
    /// written.
    async fn replace(&self, values: &Values, version: &str) -> Result<Option<String>, SecretError> {
        let secret = self.secret(values, Some(version));
        let replaced = answer(async {
            let params = PostParams::default();
            match self.api.replace(&self.name, &params, &secret).await {
                Err(error) if matches!(code(&error), Some(404 | 409)) => Ok(None),
                replaced => replaced.map(Some),
            }
        });
        let replaced = replaced.await.map_err(|reason| self.failed(&self.name, reason))?;
        wipe(secret);
        Ok(replaced.map(|secret| secret.metadata.resource_version.unwrap_or_default()))
    }

    fn secret(&self, values: &Values, version: Option<&str>) -> Secret {
        let data = values
            .iter()
            .map(|(name, value)| (name.clone(), ByteString(value.to_vec())))
            .collect();
        Secret {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                namespace: Some(self.namespace.clone()),
                resource_version: version.map(str::to_owned),
                ..ObjectMeta::default()
            },
            type_: Some(TYPE.to_owned()),
            data: Some(data),
            ..Secret::default()
        }
    }

    /// Keeps folder and Secret the same until dropped; notes on a plugged-in authority are in `notes`.
    pub(crate) async fn keep(self, origin: Origin, notes: PathBuf, meters: Meters) {
        let watch = |name: &str| {
            watcher::watch_object(self.api.clone(), name)
                .backoff(::kubernetes::Pauses::default())
                .boxed()
        };
        let notes = self.notes(&notes);
        let (mut own, mut plugged, mut noted) =
            (watch(&self.name), watch(PLUGGED_SECRET), watch(&notes.name));
        let mut looks = tokio::time::interval(LOOK);
        let mut notes = Copy {
            told: Values::new(),
            store: notes,
            origin: Origin::Nothing,
            mark: None,
        };
        let mut copy = Copy {
            told: self.read().unwrap_or_default(),
            store: self,
            origin,
            mark: None,
        };
        loop {
            let is_plugged = copy.origin == Origin::Plugged;
            let done = tokio::select! {
                Some(event) = noted.next() => match event {
                    // What was noted while there was an own root is nobody's business.
                    Ok(secret) if is_plugged => notes.hear(secret),
                    Ok(_) => Ok(()),
                    Err(error) => {
                        watch_failed(&meters, &error);
                        Ok(())
                    }
                },
                Some(event) = plugged.next() => match event {
                    Ok(Some(secret)) => {
                        let values = self::plugged(secret);
                        notes.mark = mark::of(&values);
                        copy.plug(&values)
                    }
                    Ok(None) => Ok(()),
                    Err(error) => {
                        watch_failed(&meters, &error);
                        Ok(())
                    }
                },
                Some(event) = own.next() => match event {
                    Ok(secret) => copy.hear(secret),
                    Err(error) => {
                        watch_failed(&meters, &error);
                        Ok(())
                    }
                },
                _ = looks.tick() => match is_plugged {
                    true => notes.push().await,
                    false => copy.push().await,
                },
            };
            if let Err(error) = done {
                meters.failed("authority");
                tracing::error!(%error, "the authority's folder and its Secret differ for now");
            }
        }
    }
}

fn watch_failed(meters: &Meters, error: &watcher::Error) {
    meters.failed("authority");
    let error = runtime::context::describe(error);
    tracing::debug!(error, "the watch of the authority's Secret has failed");
}

/// The folder as a copy of the Secret.
struct Copy {
    store: Store,
    origin: Origin,
    /// What the Secret holds, as far as is known. What the folder has beyond it is a step that was taken there.
    told: Values,
    /// Of notes: the mark that is to be among them.
    mark: Option<String>,
}

impl Copy {
    /// Takes an authority that was plugged in.
    fn plug(&mut self, values: &Values) -> Result<(), SecretError> {
        if self.origin != Origin::Plugged {
            tracing::warn!(target: "citadel::audit", "an authority was plugged in by Secret {PLUGGED_SECRET}; the own root is not used any more");
        }
        self.origin = Origin::Plugged;
        self.store.write(values, true)
    }

    /// Takes what the watch of the own Secret tells.
    fn hear(&mut self, secret: Option<Secret>) -> Result<(), SecretError> {
        let known = match &self.origin {
            Origin::Plugged => return Ok(()),
            Origin::Own(version) => Some(version),
            Origin::Nothing => None,
        };
        match secret {
            Some(secret) if secret.metadata.resource_version.as_ref() != known => {
                (self.origin, self.told) = self.store.take(secret)?;
            }
            Some(_) => {}
            // It was deleted. What is in force stays, and is put back.
            None => self.origin = Origin::Nothing,
        }
        Ok(())
    }

    /// Puts steps that were taken in the folder into the Secret.
    async fn push(&mut self) -> Result<(), SecretError> {
        if self.origin == Origin::Plugged {
            return Ok(());
        }
        if let Some(mark) = &self.mark {
            self.store.mark(mark)?;
        }
        let now = self.store.read()?;
        let written = match &self.origin {
            Origin::Own(_) if now == self.told => return Ok(()),
            // A file was lost: the Secret has it still.
            Origin::Own(_) if self.store.lacks(&now).is_some() => None,
            Origin::Nothing if now.is_empty() => return Ok(()),
            Origin::Own(version) => self.store.replace(&now, version).await?,
            _ => match self.store.lacks(&now) {
                Some(key) => return Err(self.store.lacking(key)),
                None => self.store.create_of(&now).await?,
            },
        };
        (self.origin, self.told) = match written {
            Some(version) => (Origin::Own(version), now),
            // Somebody else was first.
            None => self.store.pull_values().await?,
        };
        Ok(())
    }
}

pub(super) fn values(secret: Secret) -> Values {
    let data = secret.data.unwrap_or_default().into_iter();
    data.filter(|(name, _)| Holds::Authority.has(name))
        .map(|(name, value)| (name, Zeroizing::new(value.0)))
        .collect()
}

fn plugged(secret: Secret) -> Values {
    let mut values = values(secret);
    values.retain(|name, _| PLUGGED_KEYS.contains(&name.as_str()));
    values
}

fn wipe(secret: Secret) {
    for mut value in secret.data.unwrap_or_default().into_values() {
        value.0.zeroize();
    }
}
