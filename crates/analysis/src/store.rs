//! The objects that are analysed, by kind, namespace and name, as they come and go.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use config::{Kind, Object, ObjectKey, Spec, Status};

use crate::Facts;

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

/// The objects to analyse, what controllers have written about them, and facts about their cluster.
#[derive(Debug, Default)]
pub struct Store {
    kinds: BTreeMap<Kind, Named>,
    statuses: HashMap<ObjectKey, Status>,
    facts: Facts,
    mark: u64,
}

impl Store {
    /// Holds an object in place of the one with its key. Objects of Kubernetes' own namespaces are not held. Says whether
    /// analysis could tell the difference: a new resourceVersion alone, or a pod's new state, is none.
    pub fn insert(&mut self, object: Arc<Object>) -> bool {
        if is_ignored(&object) {
            return false;
        }
        let named = self.kinds.entry(object.kind).or_default();
        let held = match named.get_mut(object.meta.namespace.as_str()) {
            Some(names) => names.get_mut(object.meta.name.as_str()),
            None => None,
        };
        if let Some(held) = held {
            held.mark = self.mark;
            let changed = !Arc::ptr_eq(&held.object, &object) && !is_same(&held.object, &object);
            held.object = object;
            return changed;
        }
        let (namespace, name) = (object.meta.namespace.clone(), object.meta.name.clone());
        let mark = self.mark;
        named
            .entry(namespace)
            .or_default()
            .insert(name, Held { object, mark });
        true
    }

    /// Lets an object go, and its status. Says whether it was held.
    pub fn remove(&mut self, key: &ObjectKey) -> bool {
        self.statuses.remove(key);
        let names = self
            .kinds
            .get_mut(&key.kind)
            .and_then(|named| named.get_mut(&key.namespace));
        names.is_some_and(|names| names.remove(&key.name).is_some())
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

    /// Ends a complete list: lets go what was not inserted since [`Self::mark`], and says which kinds that were.
    pub(crate) fn sweep(&mut self) -> Vec<Kind> {
        let mark = self.mark;
        let mut swept = Vec::new();
        for (kind, named) in &mut self.kinds {
            let mut gone = false;
            for names in named.values_mut() {
                let before = names.len();
                names.retain(|_, held| held.mark == mark);
                gone |= names.len() != before;
            }
            if gone {
                swept.push(*kind);
            }
        }
        swept
    }

    /// Statuses of which `keep` holds.
    pub(crate) fn retain_statuses(&mut self, keep: impl Fn(&ObjectKey) -> bool) -> Vec<Kind> {
        let mut gone = Vec::new();
        self.statuses.retain(|key, _| {
            let stays = keep(key);
            if !stays {
                gone.push(key.kind);
            }
            stays
        });
        gone
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
        assert_eq!(store.sweep(), [Kind::Namespace]);
        assert!(
            store.get(Kind::Namespace, "", "a").is_none() && store.get(Kind::Namespace, "", "b").is_some()
        );
    }
}
