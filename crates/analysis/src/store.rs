//! The objects that are analysed, by kind, namespace and name, as they come and go.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use config::{Kind, Object, ObjectKey, Spec, Status};

use crate::Facts;
use crate::term::{Term, TermId, places, terms};

/// Namespaces of Kubernetes itself, whose objects are not analysed (Istio, pkg/kube/inject).
const IGNORED_NAMESPACES: &[&str] = &[
    "kube-system",
    "kube-public",
    "kube-node-lease",
    "local-path-storage",
];

/// An object, and the last [`Store::mark`] that it was given after.
#[derive(Debug)]
struct Held {
    object: Arc<Object>,
    mark: u64,
}

/// Objects of one kind by namespace, then name.
type Named = BTreeMap<String, BTreeMap<String, Held>>;

/// What happened to one object; at least one of the two is there.
#[derive(Debug)]
pub(crate) struct Change {
    old: Option<Arc<Object>>,
    new: Option<Arc<Object>>,
}

impl Change {
    /// The object, in its newest version.
    pub(crate) fn object(&self) -> Option<&Object> {
        self.new.as_deref().or(self.old.as_deref())
    }

    /// What the change concerns.
    pub(crate) fn terms(&self) -> Vec<TermId> {
        let both = self.old.iter().chain(&self.new);
        let mut concerned: Vec<TermId> = both.flat_map(|object| terms(object)).collect();
        if let Some(object) = self.object() {
            concerned.extend(places(object));
            if self.old.is_none() || self.new.is_none() {
                concerned.push(Term::Names(object.kind).id());
            }
        }
        concerned
    }
}

/// The objects to analyse, what controllers have written about them, and facts about their cluster.
#[derive(Debug, Default)]
pub struct Store {
    kinds: BTreeMap<Kind, Named>,
    /// Objects by each of their terms, in order of kind, namespace and name.
    found: HashMap<TermId, Vec<Arc<Object>>>,
    statuses: HashMap<ObjectKey, Status>,
    facts: Facts,
    mark: u64,
}

impl Store {
    /// Holds an object in place of the one with its key. Objects of Kubernetes' own namespaces are not held. Says whether
    /// analysis could tell the difference: a new resourceVersion alone, or a pod's new state, is none.
    pub fn insert(&mut self, object: Arc<Object>) -> bool {
        self.put(object).is_some()
    }

    /// As [`Self::insert`]; gives the change.
    pub(crate) fn put(&mut self, object: Arc<Object>) -> Option<Change> {
        if is_ignored(&object) {
            return None;
        }
        let mark = self.mark;
        let named = self.kinds.entry(object.kind).or_default();
        let held = match named.get_mut(object.meta.namespace.as_str()) {
            Some(names) => names.get_mut(object.meta.name.as_str()),
            None => None,
        };
        let Some(held) = held else {
            let (namespace, name) = (object.meta.namespace.clone(), object.meta.name.clone());
            let new = Held {
                object: object.clone(),
                mark,
            };
            named.entry(namespace).or_default().insert(name, new);
            list(&mut self.found, &object);
            return Some(Change {
                old: None,
                new: Some(object),
            });
        };
        held.mark = mark;
        if Arc::ptr_eq(&held.object, &object) {
            return None;
        }
        let old = std::mem::replace(&mut held.object, object.clone());
        let is_news = !is_same(&old, &object);
        unlist(&mut self.found, &old);
        list(&mut self.found, &object);
        is_news.then_some(Change {
            old: Some(old),
            new: Some(object),
        })
    }

    /// Lets an object go, and its status. Says whether it was held.
    pub fn remove(&mut self, key: &ObjectKey) -> bool {
        self.take(key).is_some()
    }

    /// As [`Self::remove`]; gives the change.
    pub(crate) fn take(&mut self, key: &ObjectKey) -> Option<Change> {
        self.statuses.remove(key);
        let names = self.kinds.get_mut(&key.kind)?.get_mut(&key.namespace)?;
        let old = names.remove(&key.name)?.object;
        unlist(&mut self.found, &old);
        Some(Change {
            old: Some(old),
            new: None,
        })
    }

    /// What controllers have written about an object, or that there is nothing. Says whether that is news.
    pub fn set_status(&mut self, key: &ObjectKey, status: Option<&Status>) -> bool {
        if self.statuses.get(key) == status {
            return false;
        }
        match status {
            Some(status) => self.statuses.insert(key.clone(), status.clone()),
            None => self.statuses.remove(key),
        };
        true
    }

    /// Facts about the cluster; says whether they are news.
    pub fn set_facts(&mut self, facts: Facts) -> bool {
        let news = self.facts != facts;
        self.facts = facts;
        news
    }

    /// Begins a complete list: what is not inserted from here to [`Self::sweep`] is gone.
    pub(crate) fn mark(&mut self) {
        self.mark += 1;
    }

    /// Ends a complete list: lets go what was not put since [`Self::mark`].
    pub(crate) fn sweep(&mut self) -> Vec<Change> {
        let (mark, found) = (self.mark, &mut self.found);
        let mut swept = Vec::new();
        for names in self.kinds.values_mut().flat_map(BTreeMap::values_mut) {
            names.retain(|_, held| {
                let stays = held.mark == mark;
                if !stays {
                    unlist(found, &held.object);
                    swept.push(Change {
                        old: Some(held.object.clone()),
                        new: None,
                    });
                }
                stays
            });
        }
        swept
    }

    /// Lets go the statuses of which `keep` does not hold, and names their objects.
    pub(crate) fn retain_statuses(&mut self, keep: impl Fn(&ObjectKey) -> bool) -> Vec<ObjectKey> {
        let gone = self.statuses.extract_if(|key, _| !keep(key));
        gone.map(|(key, _)| key).collect()
    }

    /// How many objects are held.
    pub fn len(&self) -> usize {
        self.kinds
            .values()
            .flat_map(BTreeMap::values)
            .map(BTreeMap::len)
            .sum()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The objects of a kind, by namespace and name.
    pub(crate) fn of(&self, kind: Kind) -> impl Iterator<Item = &Object> {
        self.kinds
            .get(&kind)
            .into_iter()
            .flat_map(BTreeMap::values)
            .flat_map(BTreeMap::values)
            .map(|held| &*held.object)
    }

    /// The objects of a kind in a namespace, by name.
    pub(crate) fn of_namespace(
        &self,
        kind: Kind,
        namespace: &str,
    ) -> impl Iterator<Item = &Object> + use<'_> {
        let names = self.kinds.get(&kind).and_then(|named| named.get(namespace));
        names
            .into_iter()
            .flat_map(BTreeMap::values)
            .map(|held| &*held.object)
    }

    /// The namespaces that hold objects of a kind.
    pub(crate) fn namespaces(&self, kind: Kind) -> impl Iterator<Item = &str> {
        let named = self.kinds.get(&kind).into_iter().flatten();
        let held = named.filter(|(_, names)| !names.is_empty());
        held.map(|(namespace, _)| namespace.as_str())
    }

    /// The objects with that term (perhaps with others among them, see [`TermId`]), by kind, namespace and name.
    pub(crate) fn found(&self, term: TermId) -> &[Arc<Object>] {
        self.found.get(&term).map_or(&[], Vec::as_slice)
    }

    /// One object.
    pub(crate) fn get(&self, kind: Kind, namespace: &str, name: &str) -> Option<&Object> {
        let held = self.kinds.get(&kind)?.get(namespace)?.get(name)?;
        Some(&*held.object)
    }

    /// What controllers have written about an object.
    pub(crate) fn status(&self, key: &ObjectKey) -> Option<&Status> {
        self.statuses.get(key)
    }

    /// Facts about the cluster.
    pub(crate) fn facts(&self) -> &Facts {
        &self.facts
    }
}

/// Later objects replace earlier ones with the same key.
impl Extend<Arc<Object>> for Store {
    fn extend<I: IntoIterator<Item = Arc<Object>>>(&mut self, objects: I) {
        for object in objects {
            self.insert(object);
        }
    }
}

impl FromIterator<Arc<Object>> for Store {
    fn from_iter<I: IntoIterator<Item = Arc<Object>>>(objects: I) -> Self {
        let mut store = Self::default();
        store.extend(objects);
        store
    }
}

/// Lists an object by its terms.
fn list(found: &mut HashMap<TermId, Vec<Arc<Object>>>, object: &Arc<Object>) {
    for term in terms(object) {
        let all = found.entry(term).or_default();
        match all.binary_search_by(|other| by_key(other, object)) {
            Ok(place) => all.splice(place..=place, [object.clone()]).for_each(drop),
            Err(place) => all.insert(place, object.clone()),
        }
    }
}

/// Takes an object from the lists of its terms.
fn unlist(found: &mut HashMap<TermId, Vec<Arc<Object>>>, object: &Object) {
    for term in terms(object) {
        if let Some(all) = found.get_mut(&term) {
            if let Ok(place) = all.binary_search_by(|other| by_key(other, object)) {
                all.remove(place);
            }
            if all.is_empty() {
                found.remove(&term);
            }
        }
    }
}

/// The order of objects' keys.
pub(crate) fn by_key(a: &Object, b: &Object) -> Ordering {
    (a.kind.cmp(&b.kind))
        .then_with(|| a.meta.namespace.cmp(&b.meta.namespace))
        .then_with(|| a.meta.name.cmp(&b.meta.name))
}

fn is_ignored(object: &Object) -> bool {
    let namespace = match object.kind {
        Kind::Namespace => &object.meta.name,
        _ => &object.meta.namespace,
    };
    IGNORED_NAMESPACES.contains(&namespace.as_str())
}

/// Whether analysis sees the same in both: what it reads, and where it was written, which messages show.
fn is_same(a: &Object, b: &Object) -> bool {
    let meta = a.meta.labels == b.meta.labels && a.meta.annotations == b.meta.annotations;
    let body = match (&a.spec, &b.spec) {
        (Spec::Pod(a), Spec::Pod(b)) => a.spec == b.spec,
        (Spec::Service(a), Spec::Service(b)) => a.spec == b.spec,
        (a, b) => a == b,
    };
    meta && body && a.origin == b.origin
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(yaml: &str) -> Object {
        config::parse("x.yaml", yaml.as_bytes(), "default")
            .objects
            .remove(0)
    }

    #[test]
    fn only_what_analysis_reads_is_a_change() {
        let pod = object(
            "{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {containers: [{name: a, image: a}]}}",
        );
        let mut store = Store::default();
        assert!(store.insert(Arc::new(pod.clone())));
        let mut newer = pod.clone();
        newer.meta.resource_version = "2".to_owned();
        if let Spec::Pod(body) = &mut newer.spec {
            body.status.phase = "Running".to_owned();
        }
        assert!(!store.insert(Arc::new(newer.clone())), "state alone");
        newer.meta.labels.insert("app".to_owned(), "a".to_owned());
        assert!(store.insert(Arc::new(newer)), "a label");
        assert!(store.remove(&pod.key()) && !store.remove(&pod.key()));
    }

    #[test]
    fn objects_are_found_by_what_they_say_now() {
        let pod = |labels: &str| {
            let yaml = format!(
                "{{apiVersion: v1, kind: Pod, metadata: {{name: a, labels: {labels}}}, spec: {{containers: [{{name: a, image: a}}]}}}}"
            );
            Arc::new(object(&yaml))
        };
        let mut store: Store = [pod("{app: a, tier: web}")].into_iter().collect();
        let count = |store: &Store, value: &str| store.found(Term::Label("app", value).id()).len();
        assert_eq!((count(&store, "a"), count(&store, "b")), (1, 0));
        store.insert(pod("{app: b, tier: web}"));
        assert_eq!((count(&store, "a"), count(&store, "b")), (0, 1));
        store.remove(&pod("{}").key());
        assert!(store.found.is_empty(), "{:?}", store.found);
    }

    #[test]
    fn a_list_sweeps_what_it_lacks() {
        let named = |name: &str| {
            let yaml = format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}}}}}");
            Arc::new(object(&yaml))
        };
        let mut store: Store = [named("a"), named("b"), named("kube-system")]
            .into_iter()
            .collect();
        assert_eq!(store.len(), 2, "Kubernetes' own are left out");
        store.mark();
        store.insert(named("b"));
        let swept = store.sweep();
        let names: Vec<&str> = swept
            .iter()
            .filter_map(|change| Some(change.object()?.meta.name.as_str()))
            .collect();
        assert_eq!(names, ["a"]);
        assert!(
            store.get(Kind::Namespace, "", "a").is_none() && store.get(Kind::Namespace, "", "b").is_some()
        );
    }
}
