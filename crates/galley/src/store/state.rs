//! What a source, or all of them together, say at one moment; and the list of objects in it, which changes object by object.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use config::{Finding, Kind, Object, ObjectKey, Status};

/// Objects in order of keys, one object a key. Who holds a state shares the list.
pub type Objects = Arc<Vec<Arc<Object>>>;

/// Objects of a source, or of all sources together, and what is wrong with them.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// What is served: in order of keys, one object a key. An object that did not change is the same `Arc` as in the state
    /// before.
    pub objects: Objects,
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

/// More objects than this that became others at once are not put into the list one by one: it is made anew.
pub(crate) const FEW: usize = if cfg!(test) { 4 } else { 64 };

/// Puts an object in its place, or takes the one of that key out.
pub(crate) fn set(objects: &mut Objects, key: &ObjectKey, object: Option<&Arc<Object>>) {
    let place = objects.binary_search_by(|object| order(object, key));
    let objects = Arc::make_mut(objects);
    match (place, object) {
        (Ok(at), Some(object)) => {
            if let Some(slot) = objects.get_mut(at) {
                slot.clone_from(object);
            }
        }
        (Ok(at), None) => _ = objects.remove(at),
        (Err(at), Some(object)) => objects.insert(at, object.clone()),
        (Err(_), None) => {}
    }
}

/// An object's place by a key, in the order of keys.
fn order(object: &Object, key: &ObjectKey) -> Ordering {
    let names = (object.meta.namespace.as_str(), object.meta.name.as_str());
    (object.kind.cmp(&key.kind)).then_with(|| names.cmp(&(&*key.namespace, &*key.name)))
}
