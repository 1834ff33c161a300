//! What a folder's files say, kept through bad edits: the last good version of each object stays until a good
//! one replaces it or the object is taken out.
//!
//! Pure: it is given the files' contents and knows neither the file system nor the time.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};
use std::sync::Arc;

use config::{Finding, Object, ObjectKey, Origin, Parsed, Severity, Spec};
use xxhash_rust::xxh3::xxh3_64;

/// Namespace of objects that name none, as with `kubectl apply`.
const DEFAULT_NAMESPACE: &str = "default";

/// Name, at the top of the folder, of the file that holds the MeshConfig.
const MESH_FILE: &str = "mesh.yaml";

/// Namespace that the MeshConfig is shown under; Istio keeps it there too.
const MESH_NAMESPACE: &str = "istio-system";

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

/// Objects of the folder and what is wrong with them.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// What is served, one object a key.
    pub objects: Vec<Arc<Object>>,
    /// What a person should know, by file and line.
    pub findings: Vec<Finding>,
}

#[derive(Debug, Default)]
struct File {
    hash: u64,
    objects: BTreeMap<ObjectKey, Arc<Object>>,
    findings: Vec<Finding>,
}

/// The files' objects and findings.
#[derive(Debug, Default)]
pub struct Store {
    files: BTreeMap<String, File>,
    /// What is wrong with the folder as a whole.
    folder: Option<Finding>,
    /// Trust domain of the mesh's certificates, where it is known.
    trust_domain: Option<String>,
}

impl Store {
    /// A store that remembers the objects that were served before a restart: where a file is broken now, what it held
    /// then is still served.
    #[must_use]
    pub fn remembering(objects: impl IntoIterator<Item = Object>) -> Self {
        let mut store = Self::default();
        for object in objects {
            if let Some(path) = object.origin.file.clone() {
                store.file(&path).objects.insert(object.key(), Arc::new(object));
            }
        }
        store
    }

    /// The store of a mesh whose certificates are of this trust domain: a MeshConfig that says otherwise is told of.
    #[must_use]
    pub fn of_trust_domain(self, name: String) -> Self {
        Self {
            trust_domain: Some(name),
            ..self
        }
    }

    /// Takes a whole scan of the folder: new and changed files are parsed, files that are gone are dropped. A folder
    /// from which every file is gone is taken for an accident (a volume that is not mounted), and nothing is dropped.
    /// Says whether anything changed.
    pub fn apply(&mut self, scan: Scan) -> bool {
        if scan.is_empty() {
            return self.whole(folder_empty(!self.files.is_empty()));
        }
        let before = self.files.len();
        self.files.retain(|path, _| scan.contains_key(path));
        let mut changed = self.files.len() != before || self.folder.take().is_some();
        for (path, content) in scan {
            changed |= match content {
                Content::Same => false,
                Content::Bytes(bytes) => self.file(&path).read(&path, &bytes),
                Content::Unreadable(reason) => self.file(&path).unreadable(&path, &reason),
            };
        }
        changed
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
        let mut seen: BTreeMap<&ObjectKey, &Arc<Object>> = BTreeMap::new();
        let mut findings: Vec<Finding> = self.folder.iter().cloned().collect();
        for file in self.files.values() {
            findings.extend(file.findings.iter().cloned());
            for (key, object) in &file.objects {
                match seen.entry(key) {
                    Entry::Vacant(free) => _ = free.insert(object),
                    Entry::Occupied(first) => findings.push(duplicate(key, object, first.get())),
                }
            }
        }
        let objects: Vec<Arc<Object>> = seen.into_values().cloned().collect();
        let other = self.trust_domain.as_deref();
        findings.extend(other.and_then(|own| other_trust_domain(own, &objects)));
        State { objects, findings }
    }

    fn file(&mut self, path: &str) -> &mut File {
        self.files.entry(path.to_owned()).or_default()
    }
}

impl File {
    fn read(&mut self, path: &str, bytes: &[u8]) -> bool {
        let hash = xxh3_64(bytes);
        if self.hash == hash {
            return false;
        }
        self.hash = hash;
        let parsed = parse(path, bytes);
        let kept = self.keep(&parsed);
        let mut objects = BTreeMap::new();
        let mut findings = parsed.findings;
        for object in parsed.objects.into_iter().map(Arc::new) {
            match objects.entry(object.key()) {
                Entry::Vacant(free) => _ = free.insert(object),
                Entry::Occupied(first) => findings.push(duplicate(first.key(), &object, first.get())),
            }
        }
        for (key, object) in kept {
            findings.push(still_served(&key, &object));
            objects.entry(key).or_insert(object);
        }
        self.objects = objects;
        self.findings = findings;
        true
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

    fn unreadable(&mut self, path: &str, reason: &str) -> bool {
        let finding = error(
            path,
            format!("the file cannot be read: {reason}"),
            "what it held before is still served; make it readable for Galley, split it if it is too large, or remove it",
        );
        let news = self.findings != [finding.clone()];
        self.hash = 0;
        self.findings = vec![finding];
        news
    }
}

fn parse(path: &str, bytes: &[u8]) -> Parsed {
    if path == MESH_FILE {
        config::parse_mesh_config(path, bytes, MESH_NAMESPACE)
    } else {
        config::parse(path, bytes, DEFAULT_NAMESPACE)
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

/// The finding that certificates are of another trust domain than MeshConfig's; proxies would not trust each other.
fn other_trust_domain(own: &str, objects: &[Arc<Object>]) -> Option<Finding> {
    let mesh = objects.iter().find_map(|object| match &object.spec {
        Spec::MeshConfig(mesh) => Some((object, mesh)),
        _ => None,
    });
    let said = mesh.map_or("", |(_, mesh)| mesh.trust_domain.as_str());
    let said = if said.is_empty() { "cluster.local" } else { said };
    (said != own).then(|| Finding {
        severity: Severity::Error,
        object: mesh.map(|(object, _)| object.key()),
        path: "trustDomain".to_owned(),
        message: format!("is {said}, but the mesh's certificates are of {own}, so proxies trust nobody"),
        help: Some(format!(
            "set trustDomain: {own} in {MESH_FILE}, or the other one in identity.yaml"
        )),
        origin: mesh.map(|(object, _)| object.origin.clone()).unwrap_or_default(),
    })
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

fn still_served(key: &ObjectKey, object: &Object) -> Finding {
    Finding {
        severity: Severity::Info,
        object: Some(key.clone()),
        path: String::new(),
        message: "the last good version is still served".to_owned(),
        help: Some("correct the errors above, or remove the object from the file".to_owned()),
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
    fn a_trust_domain_other_than_the_certificates_is_told() {
        let check = |mesh: &str, own: &str, expected: Option<&str>| {
            let mut store = Store::default().of_trust_domain(own.to_owned());
            store.apply(scan(&[("a.yaml", &service("a")), (MESH_FILE, mesh)]));
            let told: Vec<String> = store.state().findings.iter().map(ToString::to_string).collect();
            assert_eq!(told.len(), usize::from(expected.is_some()), "{told:?}");
            assert!(expected.is_none_or(|words| told[0].contains(words)), "{told:?}");
        };
        check("trustDomain: example.org", "example.org", None);
        check("enableAutoMtls: true", "cluster.local", None);
        check(
            "trustDomain: example.org",
            "cluster.local",
            Some("mesh.yaml:1:1: MeshConfig istio-system/istio: trustDomain"),
        );
        check("enableAutoMtls: true", "example.org", Some("is cluster.local"));
        let store = Store::default().of_trust_domain("example.org".to_owned());
        assert!(
            store.state().findings[0]
                .to_string()
                .contains("trustDomain: example.org"),
            "without a file too"
        );
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
        let served: Vec<Object> = store
            .state()
            .objects
            .iter()
            .map(|object| (**object).clone())
            .collect();
        let mut restarted = Store::remembering(served);
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
    fn an_unchanged_file_is_not_news() {
        let mut store = Store::default();
        let text = service("a");
        assert!(store.apply(scan(&[("a.yaml", &text)])));
        assert!(!store.apply(scan(&[("a.yaml", &text)])));
        assert!(!store.apply(Scan::from([("a.yaml".to_owned(), Content::Same)])));
    }
}
