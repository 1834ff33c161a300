//! What a folder's files say, kept through bad edits: the last good version of each object stays until a good
//! one replaces it or the object is taken out.
//!
//! Pure: it is given the files' contents and knows neither the file system nor the time.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};
use std::sync::Arc;

use config::{Finding, Kind, Object, ObjectKey, Origin, Parsed, Severity, Status};
use xxhash_rust::xxh3::xxh3_64;

/// Namespace of objects that name none, as with `kubectl apply`.
const DEFAULT_NAMESPACE: &str = "default";

/// Name, at the top of the folder, of the file that holds the MeshConfig.
pub(crate) const MESH_FILE: &str = "mesh.yaml";

/// Likewise of the file that holds MeshNetworks.
const NETWORKS_FILE: &str = "mesh-networks.yaml";

/// Namespace that the MeshConfig is shown under; Istio keeps it there too.
pub(crate) const MESH_NAMESPACE: &str = "istio-system";

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

/// More objects than this that became others at once are not put into the list one by one: it is made anew.
const FEW: usize = if cfg!(test) { 4 } else { 64 };

/// Some files of the folder by their path in it; `None` for one that is gone.
pub type Part = BTreeMap<String, Option<Content>>;

/// Objects of a source, or of all sources together, and what is wrong with them.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// What is served: in order of keys, one object a key. An object that did not change is the same `Arc` as in the state
    /// before.
    pub objects: Vec<Arc<Object>>,
    /// What a person should know, by file and line where there are files.
    pub findings: Vec<Finding>,
    /// What controllers have written about objects.
    pub statuses: Arc<BTreeMap<ObjectKey, Status>>,
    /// Kinds that the source is not allowed to see, which is not the same as that there are none.
    pub unseen: Vec<Kind>,
}

impl State {
    /// The objects of a kind. They are found by halves: no other object is looked at.
    #[must_use]
    pub fn of(&self, kind: Kind) -> &[Arc<Object>] {
        let start = self.objects.partition_point(|object| object.kind < kind);
        let rest = self.objects.get(start..).unwrap_or_default();
        let len = rest.partition_point(|object| object.kind <= kind);
        rest.get(..len).unwrap_or_default()
    }

    /// How many objects there are of each kind, likewise; of kinds that there are none of nothing is said.
    pub fn counts(&self) -> impl Iterator<Item = (Kind, usize)> {
        let counts = Kind::ALL.iter().map(|kind| (*kind, self.of(*kind).len()));
        counts.filter(|(_, count)| *count > 0)
    }
}

#[derive(Debug, Default)]
struct File {
    hash: u64,
    objects: BTreeMap<ObjectKey, Arc<Object>>,
    findings: Vec<Finding>,
    statuses: BTreeMap<ObjectKey, Status>,
}

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
    served: Vec<Arc<Object>>,
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
            self.served = served.map(|(_, object)| object.clone()).collect();
            return;
        }
        for key in unsettled {
            let place = self.served.binary_search_by(|object| order(object, &key));
            let held = self.index.get(&key).and_then(|held| held.first());
            match (place, held) {
                (Ok(at), Some((_, object))) => {
                    if let Some(slot) = self.served.get_mut(at) {
                        slot.clone_from(object);
                    }
                }
                (Ok(at), None) => _ = self.served.remove(at),
                (Err(at), Some((_, object))) => self.served.insert(at, object.clone()),
                (Err(_), None) => {}
            }
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

impl File {
    fn read(&mut self, hash: u64, parsed: Parsed) {
        let kept = self.keep(&parsed);
        let mut objects = BTreeMap::new();
        let mut findings = parsed.findings;
        for object in parsed.objects {
            let key = object.key();
            let same = self.objects.get(&key).filter(|old| ***old == object).cloned();
            let object = same.unwrap_or_else(|| Arc::new(object));
            match objects.entry(key) {
                Entry::Vacant(free) => _ = free.insert(object),
                Entry::Occupied(first) => findings.push(duplicate(first.key(), &object, first.get())),
            }
        }
        for (key, object) in kept {
            findings.push(still_served(&key, &object));
            objects.entry(key).or_insert(object);
        }
        *self = Self {
            hash,
            objects,
            findings,
            statuses: parsed.statuses,
        };
    }

    /// Objects of the version before that the new one broke: those that an error names, and, where an error
    /// names none (the YAML does not parse), all that the new version does not hold.
    fn keep(&self, parsed: &Parsed) -> Vec<(ObjectKey, Arc<Object>)> {
        let errors = || {
            parsed
                .findings
                .iter()
                .filter(|finding| finding.severity == Severity::Error)
        };
        let broken: BTreeSet<&ObjectKey> = errors().filter_map(|finding| finding.object.as_ref()).collect();
        let any_unnamed = errors().any(|finding| finding.object.is_none());
        let present: BTreeSet<ObjectKey> = parsed.objects.iter().map(Object::key).collect();
        let lost = |key: &ObjectKey| !present.contains(key) && (any_unnamed || broken.contains(key));
        self.objects
            .iter()
            .filter(|(key, _)| lost(key))
            .map(|(key, object)| (key.clone(), object.clone()))
            .collect()
    }
}

/// An object's place by a key, in the order of keys.
fn order(object: &Object, key: &ObjectKey) -> Ordering {
    let names = (object.meta.namespace.as_str(), object.meta.name.as_str());
    (object.kind.cmp(&key.kind)).then_with(|| names.cmp(&(&*key.namespace, &*key.name)))
}

/// `shown` is the path for messages.
fn parse(path: &str, shown: &str, bytes: &[u8]) -> Parsed {
    match path {
        MESH_FILE => config::parse_mesh_config(shown, bytes, MESH_NAMESPACE),
        NETWORKS_FILE => config::parse_mesh_networks(shown, bytes, MESH_NAMESPACE),
        _ => config::parse(shown, bytes, DEFAULT_NAMESPACE),
    }
}

fn error(path: &str, message: String, help: &str) -> Finding {
    Finding {
        severity: Severity::Error,
        object: None,
        path: String::new(),
        message,
        help: Some(help.to_owned()),
        origin: Origin {
            file: Some(path.into()),
            ..Origin::default()
        },
    }
}

fn folder_unreadable(reason: &str) -> Finding {
    of_folder(
        Severity::Error,
        format!("the configuration folder cannot be read: {reason}"),
        "the last good state is still served; bring the folder back",
    )
}

fn folder_empty(had_files: bool) -> Finding {
    let message = "the configuration folder is empty: it holds no .yaml, .yml or .json file".to_owned();
    if had_files {
        let help = "the last good state is still served; bring the files back (or leave one file without objects, to serve nothing)";
        of_folder(Severity::Error, message, help)
    } else {
        of_folder(
            Severity::Warning,
            message,
            "put the mesh's configuration there; `argosy init` makes a sample",
        )
    }
}

fn of_folder(severity: Severity, message: String, help: &str) -> Finding {
    Finding {
        severity,
        object: None,
        path: String::new(),
        message,
        help: Some(help.to_owned()),
        origin: Origin::default(),
    }
}

fn duplicate(key: &ObjectKey, second: &Object, first: &Object) -> Finding {
    Finding {
        severity: Severity::Error,
        object: Some(key.clone()),
        path: "metadata.name".to_owned(),
        message: format!("is defined a second time; the first is at {}", first.origin),
        help: Some("the first is served; remove or rename one of the two".to_owned()),
        origin: second.origin.clone(),
    }
}

/// The finding that an object is served in an older version.
pub(crate) fn still_served(key: &ObjectKey, object: &Object) -> Finding {
    Finding {
        severity: Severity::Info,
        object: Some(key.clone()),
        path: String::new(),
        message: "the last good version is still served".to_owned(),
        help: Some("correct the errors above, or remove the object".to_owned()),
        origin: object.origin.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: NAME, namespace: shop}\nspec:\n  ports:\n  - {name: http, port: 7080}\n";

    fn service(name: &str) -> String {
        GOOD.replace("NAME", name)
    }

    fn scan(files: &[(&str, &str)]) -> Scan {
        files
            .iter()
            .map(|(path, text)| ((*path).to_owned(), Content::Bytes(text.as_bytes().to_vec())))
            .collect()
    }

    fn names(store: &Store) -> Vec<String> {
        store
            .state()
            .objects
            .iter()
            .map(|object| object.meta.name.clone())
            .collect()
    }

    /// Applies each folder in turn; the names served at the end and the errors shown.
    fn check(history: &[&[(&str, &str)]], served: &[&str], errors: &[&str]) {
        let mut store = Store::default();
        for files in history {
            store.apply(scan(files));
        }
        assert_eq!(names(&store), served);
        let shown: Vec<String> = store
            .state()
            .findings
            .iter()
            .filter(|finding| finding.severity == Severity::Error)
            .map(ToString::to_string)
            .collect();
        assert_eq!(shown.len(), errors.len(), "{shown:?}");
        for (seen, expected) in shown.iter().zip(errors) {
            assert!(seen.contains(expected), "{seen} does not say {expected}");
        }
    }

    #[test]
    fn a_file_that_goes_takes_its_objects_along() {
        let (a, b) = (service("a"), service("b"));
        check(
            &[&[("a.yaml", &a), ("b.yaml", &b)], &[("b.yaml", &b)]],
            &["b"],
            &[],
        );
    }

    #[test]
    fn an_emptied_folder_is_an_accident_and_a_file_without_objects_is_not() {
        let a = service("a");
        check(&[&[("a.yaml", &a)], &[]], &["a"], &["folder is empty"]);
        check(&[&[("a.yaml", &a)], &[], &[("a.yaml", &a)]], &["a"], &[]);
        check(
            &[&[("a.yaml", &a)], &[("b.yaml", "# nothing is meant\n")]],
            &[],
            &[],
        );
        check(&[&[]], &[], &[]);
        let mut store = Store::default();
        assert!(
            store.apply(Scan::new()),
            "a folder that is empty from the start is told"
        );
        assert!(!store.apply(Scan::new()), "once");
        assert_eq!(store.state().findings[0].severity, Severity::Warning);
    }

    #[test]
    fn a_broken_object_is_lost_alone_and_keeps_its_last_good_version() {
        let both = format!("{}---\n{}", service("a"), service("b"));
        let broken = format!("{}---\n{}", service("a").replace("7080", "70800"), service("c"));
        check(
            &[&[("x.yaml", &both)], &[("x.yaml", &broken)]],
            &["a", "c"],
            &["Service shop/a"],
        );
    }

    #[test]
    fn a_file_that_no_longer_parses_keeps_all() {
        let good = format!("{}---\n{}", service("a"), service("b"));
        check(
            &[&[("x.yaml", &good)], &[("x.yaml", "kind: [Service\n")]],
            &["a", "b"],
            &["x.yaml"],
        );
    }

    #[test]
    fn an_object_in_two_files_is_served_from_the_first_by_path() {
        let (first, second) = (service("a"), service("a").replace("7080", "7081"));
        for history in [
            vec![vec![("1.yaml", first.as_str()), ("2.yaml", second.as_str())]],
            vec![
                vec![("2.yaml", second.as_str())],
                vec![("1.yaml", &first), ("2.yaml", &second)],
            ],
        ] {
            let history: Vec<&[(&str, &str)]> = history.iter().map(Vec::as_slice).collect();
            check(&history, &["a"], &["2.yaml"]);
        }
    }

    #[test]
    fn after_a_restart_a_broken_file_still_serves_what_it_held() {
        let both = format!("{}---\n{}", service("a"), service("b"));
        let mut store = Store::default();
        store.apply(scan(&[("x.yaml", &both), ("gone.yaml", &service("c"))]));
        let mut restarted = Store::default().remembering(store.state().objects);
        restarted.apply(scan(&[("x.yaml", &both.replace("7080", "seventy"))]));
        assert_eq!(
            names(&restarted),
            ["a", "b"],
            "and what was removed meanwhile is gone"
        );
    }

    #[test]
    fn a_lost_folder_changes_nothing_until_it_is_back() {
        let mut store = Store::default();
        store.apply(scan(&[("a.yaml", &service("a"))]));
        assert!(store.folder_lost("no such folder"));
        assert!(!store.folder_lost("no such folder"), "told once");
        assert_eq!(names(&store), ["a"]);
        assert!(
            store
                .state()
                .findings
                .iter()
                .any(|finding| finding.to_string().contains("no such folder"))
        );
        assert!(store.apply(scan(&[("a.yaml", &service("a"))])));
        assert!(store.state().findings.is_empty());
    }

    #[test]
    fn a_file_that_becomes_unreadable_keeps_its_objects() {
        let mut store = Store::default();
        store.apply(scan(&[("a.yaml", &service("a"))]));
        let unreadable = || Scan::from([("a.yaml".to_owned(), Content::Unreadable("denied".to_owned()))]);
        assert!(store.apply(unreadable()));
        assert!(!store.apply(unreadable()), "told once");
        assert_eq!(names(&store), ["a"]);
        assert!(store.apply(scan(&[("a.yaml", &service("b"))])));
        assert_eq!(names(&store), ["b"]);
    }

    #[test]
    fn some_files_give_what_all_files_give() {
        let (a, b) = (service("a"), service("b"));
        let part = |files: &[(&str, Option<&str>)]| -> Part {
            let content = |text: &str| Content::Bytes(text.as_bytes().to_vec());
            let files = files.iter();
            files
                .map(|(path, text)| ((*path).to_owned(), text.map(content)))
                .collect()
        };
        let mut store = Store::default();
        store.apply(scan(&[("a.yaml", &a)]));
        assert!(store.apply_part(part(&[("b.yaml", Some(&b)), ("never.yaml", None)])));
        assert_eq!(names(&store), ["a", "b"]);
        assert!(!store.apply_part(part(&[("b.yaml", Some(&b))])), "the same");
        assert!(store.apply_part(part(&[("a.yaml", None)])));
        assert_eq!(names(&store), ["b"]);
        assert!(store.apply_part(part(&[("b.yaml", None)])));
        assert_eq!(names(&store), ["b"], "an emptied folder is an accident");
        assert!(store.is_in_doubt());
    }

    /// What a store that has only ever seen these files serves and says.
    fn fresh(files: &BTreeMap<String, String>) -> State {
        let content = |text: &String| Content::Bytes(text.as_bytes().to_vec());
        let mut store = Store::default();
        store.apply(
            files
                .iter()
                .map(|(path, text)| (path.clone(), content(text)))
                .collect(),
        );
        store.state()
    }

    proptest::proptest! {
        #![proptest_config(proptest::test_runner::Config { cases: 48, failure_persistence: None, ..Default::default() })]

        /// Files come, change, repeat one another's objects and go, few objects at once or more than [`FEW`].
        #[test]
        fn histories_leave_what_one_look_finds(
            events in proptest::collection::vec((0..4_u8, proptest::collection::vec(0..9_u8, 0..7), 0..2_u8), 1..20),
        ) {
            let mut files = BTreeMap::from([("keep.yaml".to_owned(), "# none\n".to_owned())]);
            let mut store = Store::default();
            store.apply(scan(&[("keep.yaml", "# none\n")]));
            for (file, objects, port) in events {
                let path = format!("{file}.yaml");
                let one = |object: &u8| service(&format!("s{object}")).replace("7080", &format!("708{port}"));
                let text = objects.iter().map(one).collect::<Vec<_>>().join("---\n");
                let content = (!text.is_empty()).then(|| Content::Bytes(text.clone().into_bytes()));
                match content {
                    Some(_) => files.insert(path.clone(), text),
                    None => files.remove(&path),
                };
                store.apply_part(Part::from([(path, content)]));
                let (state, expected) = (store.state(), fresh(&files));
                proptest::prop_assert_eq!(state.objects, expected.objects);
                proptest::prop_assert_eq!(state.findings, expected.findings);
            }
        }
    }

    #[test]
    fn kinds_are_found_and_counted() {
        let text = format!(
            "{}---\n{}---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: shop}}\n",
            service("a"),
            service("b")
        );
        let mut store = Store::default();
        store.apply(scan(&[("x.yaml", &text)]));
        let state = store.state();
        let counts: BTreeMap<Kind, usize> = state.counts().collect();
        assert_eq!(counts, BTreeMap::from([(Kind::Namespace, 1), (Kind::Service, 2)]));
        assert_eq!(state.of(Kind::Service)[1].meta.name, "b");
        assert!(state.of(Kind::Pod).is_empty());
    }

    #[test]
    fn an_unchanged_file_is_not_news() {
        let mut store = Store::default();
        let text = service("a");
        assert!(store.apply(scan(&[("a.yaml", &text)])));
        assert!(!store.apply(scan(&[("a.yaml", &text)])));
        assert!(!store.apply(Scan::from([("a.yaml".to_owned(), Content::Same)])));
    }

    #[test]
    fn an_object_that_a_file_no_longer_repeats_is_served_from_the_other() {
        let (first, second) = (service("a"), service("a").replace("7080", "7081"));
        check(
            &[
                &[("1.yaml", &first), ("2.yaml", &second)],
                &[("1.yaml", "# none\n"), ("2.yaml", &second)],
            ],
            &["a"],
            &[],
        );
    }

    #[test]
    fn what_an_edit_leaves_alone_is_the_same_in_memory() {
        let both = format!("{}---\n{}", service("a"), service("b"));
        let mut store = Store::default();
        store.apply(scan(&[("x.yaml", &both)]));
        let before = store.state().objects;
        store.apply(scan(&[("x.yaml", &format!("{both}---\n{}", service("c")))]));
        let after = store.state().objects;
        assert_eq!(after.len(), 3);
        assert!(before.iter().zip(&after).all(|(was, is)| Arc::ptr_eq(was, is)));
    }

    #[test]
    fn of_several_folders_each_remembers_its_own_and_names_itself() {
        let mut store = Store::of_folder("base/");
        store.apply(scan(&[("x.yaml", &service("a"))]));
        let served = store.state().objects;
        assert_eq!(served[0].origin.file.as_deref(), Some("base/x.yaml"));
        let broken = service("a").replace("7080", "seventy");
        let serves = |folder: &str| {
            let mut restarted = Store::of_folder(folder).remembering(served.clone());
            restarted.apply(scan(&[("x.yaml", &broken)]));
            names(&restarted)
        };
        assert_eq!(serves("base"), ["a"]);
        assert!(serves("over").is_empty());
    }

    #[test]
    fn what_controllers_wrote_comes_and_goes_with_its_object() {
        let text = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: a, namespace: shop}\nspec: {hosts: [a.example], ports: [{number: 80, name: http}], resolution: DNS}\nstatus: {addresses: [{value: 240.0.0.1}]}\n";
        let mut store = Store::default();
        store.apply(scan(&[("x.yaml", text)]));
        let statuses = store.state().statuses;
        assert_eq!(statuses.values().next().unwrap().addresses, ["240.0.0.1"]);
        store.apply(scan(&[("x.yaml", "# none\n")]));
        assert!(store.state().statuses.is_empty());
    }
}
