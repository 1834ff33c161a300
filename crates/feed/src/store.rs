//! The subscriber's copy of the feed: objects by key, complete once every kind's first state has arrived.
//!
//! Pure: it is given what arrived and knows no connection.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use config::{Kind, Object, ObjectKey};

use crate::message::{DecodeError, decode};

/// All objects of the subscribed kinds at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct State {
    /// By key. An object that did not change is the same `Arc` as in the state before.
    pub objects: BTreeMap<ObjectKey, Arc<Object>>,
}

impl State {
    /// Kinds of which an object was added, changed or removed since `earlier`.
    #[must_use]
    pub fn changed_kinds(&self, earlier: &Self) -> BTreeSet<Kind> {
        let differs = |key: &ObjectKey, object: &Arc<Object>, other: &Self| {
            !other
                .objects
                .get(key)
                .is_some_and(|other| Arc::ptr_eq(object, other))
        };
        let changed = self
            .objects
            .iter()
            .filter(|(key, object)| differs(key, object, earlier));
        let gone = earlier
            .objects
            .iter()
            .filter(|(key, _)| !self.objects.contains_key(*key));
        changed.chain(gone).map(|(key, _)| key.kind).collect()
    }
}

/// Collects what arrives.
#[derive(Debug)]
pub struct Store {
    state: Arc<State>,
    awaited: BTreeSet<Kind>,
}

impl Store {
    /// A store that waits for the first state of each of these kinds.
    #[must_use]
    pub fn new(kinds: impl IntoIterator<Item = Kind>) -> Self {
        Self {
            state: Arc::default(),
            awaited: kinds.into_iter().collect(),
        }
    }

    /// Takes resources of one kind. An object that cannot be read is left as it was, and returned as an error;
    /// `complete` says that the kind's first state ends here.
    pub fn apply<'a>(
        &mut self,
        kind: Kind,
        upserts: impl IntoIterator<Item = (&'a str, &'a [u8])>,
        removed: impl IntoIterator<Item = &'a str>,
        complete: bool,
    ) -> Vec<DecodeError> {
        let objects = &mut Arc::make_mut(&mut self.state).objects;
        for name in removed {
            if let Some(key) = ObjectKey::from_resource_name(kind, name) {
                objects.remove(&key);
            }
        }
        let mut errors = Vec::new();
        for (name, bytes) in upserts {
            match decode(name, bytes) {
                Ok(object) => _ = objects.insert(object.key(), Arc::new(object)),
                Err(error) => errors.push(error),
            }
        }
        if complete {
            self.awaited.remove(&kind);
        }
        errors
    }

    /// The objects; `None` before every kind's first state is complete.
    #[must_use]
    pub fn state(&self) -> Option<Arc<State>> {
        self.awaited.is_empty().then(|| self.state.clone())
    }

    /// Kinds whose first state is not complete.
    #[must_use]
    pub fn awaited(&self) -> &BTreeSet<Kind> {
        &self.awaited
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::encode;

    fn service(name: &str, port: u16) -> Object {
        let text = format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: shop}}\nspec:\n  ports: [{{name: http, port: {port}}}]\n"
        );
        config::parse("x.yaml", text.as_bytes(), "default")
            .objects
            .remove(0)
    }

    fn put(store: &mut Store, objects: &[Object], removed: &[&str], complete: bool) -> Vec<DecodeError> {
        let encoded: Vec<_> = objects
            .iter()
            .map(|o| (o.key().resource_name(), encode(o)))
            .collect();
        let upserts = encoded
            .iter()
            .map(|(name, bytes)| (name.as_str(), bytes.as_ref()));
        store.apply(Kind::Service, upserts, removed.iter().copied(), complete)
    }

    fn names(store: &Store) -> Vec<String> {
        store
            .state()
            .unwrap()
            .objects
            .keys()
            .map(ObjectKey::resource_name)
            .collect()
    }

    #[test]
    fn nothing_is_shown_before_the_first_state_is_complete() {
        let mut store = Store::new([Kind::Service]);
        assert!(put(&mut store, &[service("a", 80)], &[], false).is_empty());
        assert!(store.state().is_none());
        put(&mut store, &[service("b", 80)], &[], true);
        assert_eq!(names(&store), ["shop/a", "shop/b"]);
    }

    #[test]
    fn an_object_travels_unchanged() {
        let mut store = Store::new([Kind::Service]);
        let object = service("a", 80);
        put(&mut store, std::slice::from_ref(&object), &[], true);
        assert_eq!(*store.state().unwrap().objects[&object.key()], object);
    }

    #[test]
    fn an_unreadable_object_keeps_its_last_version_and_harms_no_other() {
        let mut store = Store::new([Kind::Service]);
        put(&mut store, &[service("a", 80)], &[], true);
        let good = encode(&service("b", 80));
        let upserts: [(&str, &[u8]); 3] = [("shop/a", b"\xff\xff"), ("shop/b", &good), ("shop/c", &good)];
        let errors = store.apply(Kind::Service, upserts, [], false);
        assert_eq!(names(&store), ["shop/a", "shop/b"]);
        let told: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert!(
            told[0].starts_with("shop/a:") && told[1].starts_with("shop/c: holds Service shop/b"),
            "{told:?}"
        );
    }

    #[test]
    fn changes_are_known_by_kind() {
        let mut store = Store::new([Kind::Service]);
        put(&mut store, &[service("a", 80), service("b", 80)], &[], true);
        let before = store.state().unwrap();
        assert!(before.changed_kinds(&before).is_empty());
        put(&mut store, &[], &["shop/b"], false);
        let after = store.state().unwrap();
        assert_eq!(after.changed_kinds(&before), BTreeSet::from([Kind::Service]));
        assert_eq!(names(&store), ["shop/a"]);
    }
}
