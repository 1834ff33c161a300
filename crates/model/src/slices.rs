//! EndpointSlices by the Service that they belong to.

use std::sync::Arc;

use config::kube::EndpointSlice;
use config::{Object, ObjectKey, Spec};
use imbl::OrdMap;

/// Label of an EndpointSlice that names its Service.
const SERVICE_LABEL: &str = "kubernetes.io/service-name";

/// All slices.
#[derive(Debug, Clone, Default)]
pub(crate) struct Slices {
    /// By namespace, the Service's name and the slice's.
    all: OrdMap<(String, String, String), Arc<Object>>,
}

impl Slices {
    /// Takes a slice, or that the slice of this key is gone. Gives the names of the Services that are touched.
    pub(crate) fn set(
        &mut self,
        key: &ObjectKey,
        before: Option<&Object>,
        now: Option<&Arc<Object>>,
    ) -> impl Iterator<Item = String> {
        let old = before.and_then(service).map(str::to_owned);
        let new = now.and_then(|object| service(object)).map(str::to_owned);
        let id = |service: &String| (key.namespace.clone(), service.clone(), key.name.clone());
        if let Some(old) = &old {
            self.all.remove(&id(old));
        }
        if let (Some(new), Some(object)) = (&new, now) {
            self.all.insert(id(new), Arc::clone(object));
        }
        old.into_iter().chain(new)
    }

    /// The slices of a Service, by name.
    pub(crate) fn of<'a>(
        &'a self,
        namespace: &'a str,
        service: &'a str,
    ) -> impl Iterator<Item = (&'a Object, &'a EndpointSlice)> {
        let first = (namespace.to_owned(), service.to_owned(), String::new());
        self.all
            .range(first..)
            .take_while(move |((ns, name, _), _)| ns == namespace && name == service)
            .filter_map(|(_, object)| match &object.spec {
                Spec::EndpointSlice(slice) => Some((&**object, &**slice)),
                _ => None,
            })
    }
}

fn service(slice: &Object) -> Option<&str> {
    slice.meta.labels.get(SERVICE_LABEL).map(String::as_str)
}
