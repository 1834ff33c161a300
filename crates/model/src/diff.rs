//! What changed between two snapshots, by meaning: an annotation that nobody reads, a resourceVersion, a status or a list in
//! another order where order means nothing is no change.

use std::collections::BTreeSet;
use std::sync::Arc;

use config::{Object, ObjectKey, Spec};

use crate::snapshot::Snapshot;

/// The objects by which two snapshots differ.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diff {
    /// In the new snapshot only.
    pub added: BTreeSet<ObjectKey>,
    /// In the old snapshot only.
    pub removed: BTreeSet<ObjectKey>,
    /// In both, with another meaning.
    pub changed: BTreeSet<ObjectKey>,
}

impl Diff {
    /// From `old` to `new`.
    pub fn between(old: &Snapshot, new: &Snapshot) -> Diff {
        let mut diff = Diff::default();
        for (key, object) in new.objects() {
            match old.objects().get(key) {
                None => drop(diff.added.insert(key.clone())),
                Some(before) if !same_meaning(before, object) => drop(diff.changed.insert(key.clone())),
                Some(_) => {}
            }
        }
        let gone = old
            .objects()
            .keys()
            .filter(|key| !new.objects().contains_key(*key));
        diff.removed.extend(gone.cloned());
        diff
    }

    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }

    /// All keys, whatever happened to them.
    pub fn keys(&self) -> impl Iterator<Item = &ObjectKey> {
        self.added.iter().chain(&self.removed).chain(&self.changed)
    }

    /// Whether only endpoints moved: EndpointSlices, WorkloadEntries and Pods. Such changes need no debounce.
    pub fn only_endpoints(&self) -> bool {
        use config::Kind::{EndpointSlice, Pod, WorkloadEntry};
        self.keys()
            .all(|key| matches!(key.kind, EndpointSlice | Pod | WorkloadEntry))
    }
}

/// Whether two objects of one key mean the same to the mesh.
pub fn same_meaning(a: &Arc<Object>, b: &Arc<Object>) -> bool {
    Arc::ptr_eq(a, b)
        || (a.meta.labels == b.meta.labels
            && a.meta.created == b.meta.created
            && annotations(a).eq(annotations(b))
            && same_spec(&a.spec, &b.spec))
}

/// Istio's annotations; those of other tools mean nothing here.
fn annotations(object: &Object) -> impl Iterator<Item = (&String, &String)> {
    object.meta.annotations.iter().filter(|(key, _)| {
        let domain = key.split('/').next().unwrap_or_default();
        key.contains('/') && (domain == "istio.io" || domain.ends_with(".istio.io"))
    })
}

fn same_spec(a: &Spec, b: &Spec) -> bool {
    match (a, b) {
        (Spec::EndpointSlice(a), Spec::EndpointSlice(b)) => {
            a.address_type == b.address_type
                && same_set(&a.ports, &b.ports)
                && same_set(&a.endpoints, &b.endpoints)
        }
        (Spec::Service(a), Spec::Service(b)) => a.spec == b.spec,
        (Spec::ServiceEntry(a), Spec::ServiceEntry(b)) if same_set(&a.endpoints, &b.endpoints) => {
            let without = |entry: &config::networking::ServiceEntry| config::networking::ServiceEntry {
                endpoints: Vec::new(),
                ..entry.clone()
            };
            without(a) == without(b)
        }
        (a, b) => a == b,
    }
}

/// Whether two lists hold the same values, each as often, in whatever order.
fn same_set<T: PartialEq>(a: &[T], b: &[T]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    if a == b {
        return true;
    }
    let mut left: Vec<&T> = b.iter().collect();
    a.iter()
        .all(|value| match left.iter().position(|other| *other == value) {
            Some(at) => {
                left.swap_remove(at);
                true
            }
            None => false,
        })
}
