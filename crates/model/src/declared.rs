//! Which objects declare which services, and which of them choose workloads by which labels: what has to be made again when an
//! object or a workload changes.

use std::collections::{BTreeMap, BTreeSet};

use config::{Kind, Object, ObjectKey, Spec};
use imbl::OrdSet;

use crate::service::ServiceId;
use crate::service_build::hosts;

/// Objects that declare services.
#[derive(Debug, Clone, Default)]
pub(crate) struct Declared {
    by_service: OrdSet<(ServiceId, ObjectKey)>,
    /// By namespace and one pair of the selector.
    by_selector: OrdSet<(String, String, String, ObjectKey)>,
}

/// Comes before every key of the same first part.
const FIRST: ObjectKey = ObjectKey {
    kind: Kind::VirtualService,
    namespace: String::new(),
    name: String::new(),
};

impl Declared {
    /// Takes an object, or that it is gone. Gives the services that are touched.
    pub(crate) fn set(
        &mut self,
        before: Option<&Object>,
        now: Option<&Object>,
        domain: &str,
    ) -> BTreeSet<ServiceId> {
        let mut touched = BTreeSet::new();
        for object in before.into_iter() {
            for id in ids(object, domain) {
                self.by_service.remove(&(id.clone(), object.key()));
                touched.insert(id);
            }
            selector_entry(object).map(|entry| self.by_selector.remove(&entry));
        }
        for object in now.into_iter() {
            for id in ids(object, domain) {
                self.by_service.insert((id.clone(), object.key()));
                touched.insert(id);
            }
            selector_entry(object).map(|entry| self.by_selector.insert(entry));
        }
        touched
    }

    /// The objects that declare a service.
    pub(crate) fn of(&self, id: &ServiceId) -> impl Iterator<Item = &ObjectKey> {
        let found = self.by_service.range((id.clone(), FIRST)..);
        found.take_while(move |(of, _)| of == id).map(|(_, key)| key)
    }

    /// All services that are declared in a namespace.
    pub(crate) fn in_namespace<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = &'a ServiceId> {
        let all = self.by_service.iter().map(|(id, _)| id);
        all.filter(move |id| id.namespace == namespace)
    }

    /// Objects of a namespace whose selectors may choose a workload with these labels: one pair of each was compared.
    pub(crate) fn selecting<'a>(
        &'a self,
        namespace: &'a str,
        labels: &'a BTreeMap<String, String>,
    ) -> impl Iterator<Item = &'a ObjectKey> {
        labels.iter().flat_map(move |(key, value)| {
            let first = (namespace.to_owned(), key.clone(), value.clone(), FIRST);
            self.by_selector
                .range(first..)
                .take_while(move |(ns, k, v, _)| ns == namespace && k == key && v == value)
                .map(|(_, _, _, key)| key)
        })
    }
}

/// The services that an object declares.
pub(crate) fn ids(object: &Object, domain: &str) -> impl Iterator<Item = ServiceId> {
    let namespace = object.meta.namespace.clone();
    hosts(object, domain)
        .into_iter()
        .map(move |host| ServiceId::new(host, namespace.clone()))
}

/// The entry under which an object with a selector is found: its last pair, which tells more than `app` often does.
fn selector_entry(object: &Object) -> Option<(String, String, String, ObjectKey)> {
    let selector = match &object.spec {
        Spec::Service(service) => &service.spec.selector,
        Spec::ServiceEntry(entry) => &entry.workload_selector.as_ref()?.labels,
        _ => return None,
    };
    let (key, value) = selector.last_key_value()?;
    Some((
        object.meta.namespace.clone(),
        key.clone(),
        value.clone(),
        object.key(),
    ))
}
