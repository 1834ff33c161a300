//! What a folder's files say, kept through bad edits: the last good version of each object stays until a good
//! one replaces it or the object is taken out.
//!
//! Pure: it is given the files' contents and knows neither the file system nor the time.

mod file;
mod findings;
mod state;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use config::{Finding, Object, ObjectKey, Status};
use xxhash_rust::xxh3::xxh3_64;

use file::{File, parse};
use findings::{duplicate, error, folder_empty, folder_unreadable};

pub(crate) use file::{MESH_FILE, MESH_NAMESPACE};
pub(crate) use findings::still_served;
pub(crate) use state::{FEW, set};
pub use state::{Objects, State};

/// A file as the last scan met it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Its bytes.
    Bytes(Vec<u8>),
    /// It has not changed since the scan before.
    Same,
    /// It is there and could not be read; the reason.
    Unreadable(String),
}

/// All files of the folder by their path in it.
pub type Scan = BTreeMap<String, Content>;

/// Some files of the folder by their path in it; `None` for one that is gone.
pub type Part = BTreeMap<String, Option<Content>>;

/// A file's path, and the object as it defines it.
type Held = (Arc<str>, Arc<Object>);

/// The files' objects and findings.
#[derive(Debug, Default)]
pub struct Store {
    /// What stands before a file's path in messages: nothing for the only folder.
    prefix: String,
    files: BTreeMap<Arc<str>, File>,
    /// Who defines an object, by path. The first is served.
    index: BTreeMap<ObjectKey, Vec<Held>>,
    /// Objects that several files define.
    repeated: BTreeSet<ObjectKey>,
    /// What is served, in order of keys: the first of each in `index`, but for what is `unsettled`.
    served: Objects,
    /// Objects whose place in `index` has changed since `served` was brought up to it.
    unsettled: BTreeSet<ObjectKey>,
    /// Files that something is to be said of.
    spoken_of: BTreeSet<Arc<str>>,
    statuses: Arc<BTreeMap<ObjectKey, Status>>,
    /// What is wrong with the folder as a whole.
    folder: Option<Finding>,
}

impl Store {
    /// A store of one of several folders: messages show `PREFIX/PATH` of a file.
    #[must_use]
    pub fn of_folder(prefix: &str) -> Self {
        Self {
            prefix: format!("{}/", prefix.trim_end_matches('/')),
            ..Self::default()
        }
    }

    /// The store, remembering the objects that were served before a restart: where a file is broken now, what it held then
    /// is still served. Objects of other sources are passed over.
    #[must_use]
    pub fn remembering(mut self, objects: impl IntoIterator<Item = Arc<Object>>) -> Self {
        let mut files: BTreeMap<Arc<str>, BTreeMap<ObjectKey, Arc<Object>>> = BTreeMap::new();
        for object in objects {
            let path = object.origin.file.as_deref();
            if let Some(path) = path.and_then(|path| path.strip_prefix(&*self.prefix)) {
                files.entry(path.into()).or_default().insert(object.key(), object);
            }
        }
        for (path, objects) in files {
            self.replace(&path, |file| file.objects = objects);
        }
        self.settle();
        self
    }

    /// Takes a whole scan of the folder: new and changed files are parsed, files that are gone are dropped. A folder
    /// from which every file is gone is taken for an accident (a volume that is not mounted), and nothing is dropped.
    /// Says whether anything changed.
    pub fn apply(&mut self, scan: Scan) -> bool {
        if scan.is_empty() {
            return self.whole(folder_empty(!self.files.is_empty()));
        }
        let gone: Vec<Arc<str>> = self
            .files
            .keys()
            .filter(|path| !scan.contains_key(&***path))
            .cloned()
            .collect();
        let mut changed = !gone.is_empty() || self.folder.take().is_some();
        for path in gone {
            self.drop_file(&path);
        }
        for (path, content) in scan {
            changed |= self.take(&path, content);
        }
        self.settle();
        changed
    }

    /// As [`Self::apply`], where the files beside these are as they were before. Not to be asked while something is wrong with
    /// the folder as a whole ([`Self::is_in_doubt`]).
    pub fn apply_part(&mut self, part: Part) -> bool {
        let is_gone = |(path, content): (&String, &Option<Content>)| {
            content.is_none() && self.files.contains_key(path.as_str())
        };
        let stays = part.values().any(Option::is_some);
        if !stays && part.iter().filter(|file| is_gone(*file)).count() == self.files.len() {
            return self.whole(folder_empty(!self.files.is_empty()));
        }
        let mut changed = false;
        for (path, content) in part {
            changed |= match content {
                Some(content) => self.take(&path, content),
                None if self.files.contains_key(path.as_str()) => {
                    self.drop_file(&path);
                    true
                }
                None => false,
            };
        }
        self.settle();
        changed
    }

    /// Whether the last look found the folder empty or could not read it: then files may be held that are not there.
    #[must_use]
    pub fn is_in_doubt(&self) -> bool {
        self.folder.is_some()
    }

    fn take(&mut self, path: &str, content: Content) -> bool {
        match content {
            Content::Same => false,
            Content::Bytes(bytes) => self.read(path, &bytes),
            Content::Unreadable(reason) => self.unreadable(path, &reason),
        }
    }

    /// The folder itself cannot be read: everything stays as it was and the reason is shown.
    /// Says whether that is news.
    pub fn folder_lost(&mut self, reason: &str) -> bool {
        self.whole(folder_unreadable(reason))
    }

    fn whole(&mut self, finding: Finding) -> bool {
        let news = self.folder.as_ref() != Some(&finding);
        self.folder = Some(finding);
        news
    }

    /// What is served now. Where two files hold the same object the first by path is served, so that every
    /// replica and every restart serves the same; the other is named in a finding.
    #[must_use]
    pub fn state(&self) -> State {
        let mut findings: Vec<Finding> = self.folder.iter().cloned().collect();
        let spoken_of = self.spoken_of.iter().filter_map(|path| self.files.get(path));
        findings.extend(spoken_of.flat_map(|file| &file.findings).cloned());
        for (key, held) in self
            .repeated
            .iter()
            .filter_map(|key| self.index.get_key_value(key))
        {
            if let Some(((_, first), others)) = held.split_first() {
                findings.extend(others.iter().map(|(_, other)| duplicate(key, other, first)));
            }
        }
        State {
            objects: self.served.clone(),
            findings,
            statuses: self.statuses.clone(),
            unseen: Vec::new(),
        }
    }

    /// Takes a file's new content. Says whether it is news.
    fn read(&mut self, path: &str, bytes: &[u8]) -> bool {
        let hash = xxh3_64(bytes);
        if self.files.get(path).is_some_and(|file| file.hash == hash) {
            return false;
        }
        let parsed = parse(path, &format!("{}{path}", self.prefix), bytes);
        self.replace(path, |file| file.read(hash, parsed));
        true
    }

    fn unreadable(&mut self, path: &str, reason: &str) -> bool {
        let finding = error(
            &format!("{}{path}", self.prefix),
            format!("the file cannot be read: {reason}"),
            "what it held before is still served; make it readable for Galley, split it if it is too large, or remove it",
        );
        let file = self.files.entry(path.into()).or_default();
        let news = file.findings != [finding.clone()];
        file.hash = 0;
        file.findings = vec![finding];
        self.spoken_of.insert(path.into());
        news
    }

    fn drop_file(&mut self, path: &str) {
        self.replace(path, |file| *file = File::default());
        self.files.remove(path);
    }

    /// Changes a file and, where its objects became others, what is known across files.
    fn replace(&mut self, path: &str, change: impl FnOnce(&mut File)) {
        let path: Arc<str> = path.into();
        let file = self.files.entry(path.clone()).or_default();
        let (before, statuses) = (file.objects.clone(), file.statuses.clone());
        change(file);
        match file.findings.is_empty() {
            true => _ = self.spoken_of.remove(&path),
            false => _ = self.spoken_of.insert(path.clone()),
        }
        if file.statuses != statuses {
            let all = Arc::make_mut(&mut self.statuses);
            for key in statuses.keys() {
                all.remove(key);
            }
            all.extend(file.statuses.clone());
        }
        let same = |key: &ObjectKey, object: &Arc<Object>, other: &BTreeMap<ObjectKey, Arc<Object>>| {
            other.get(key).is_some_and(|other| Arc::ptr_eq(object, other))
        };
        let after = file.objects.clone();
        for (key, _) in before.iter().filter(|(key, object)| !same(key, object, &after)) {
            self.forget(key, &path);
        }
        for (key, object) in after.iter().filter(|(key, object)| !same(key, object, &before)) {
            self.learn(key, &path, object);
        }
    }

    /// Brings what is served up to the index. A change of few objects costs those.
    fn settle(&mut self) {
        let unsettled = std::mem::take(&mut self.unsettled);
        if unsettled.len() > FEW {
            let served = self.index.values().filter_map(|held| held.first());
            self.served = Arc::new(served.map(|(_, object)| object.clone()).collect());
            return;
        }
        for key in unsettled {
            let held = self.index.get(&key).and_then(|held| held.first());
            set(&mut self.served, &key, held.map(|(_, object)| object));
        }
    }

    fn forget(&mut self, key: &ObjectKey, path: &Arc<str>) {
        let Some(held) = self.index.get_mut(key) else {
            return;
        };
        self.unsettled.insert(key.clone());
        held.retain(|(other, _)| other != path);
        if held.len() < 2 {
            self.repeated.remove(key);
        }
        if held.is_empty() {
            self.index.remove(key);
        }
    }

    fn learn(&mut self, key: &ObjectKey, path: &Arc<str>, object: &Arc<Object>) {
        self.unsettled.insert(key.clone());
        let held = self.index.entry(key.clone()).or_default();
        let at = held.partition_point(|(other, _)| other < path);
        held.insert(at, (path.clone(), object.clone()));
        if held.len() > 1 {
            self.repeated.insert(key.clone());
        }
    }
}
