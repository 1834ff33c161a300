//! The ProxyConfigs of the cluster, followed by a watch. Until they have been read once the injector is not ready: pods would get
//! other settings than they are to have. A cluster without that kind has none.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;

use config::{Kind, Object};
use futures::StreamExt;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Config, Error, Event};
use kube::{Client, ResourceExt};
use runtime::Context;

use super::Ground;

type Name = (String, String);

/// Follows the ProxyConfigs until the context's shutdown.
pub async fn follow(client: Client, ground: Arc<Ground>, context: Context) {
    let ready = context.readiness.condition("proxyconfigs");
    ready.set_not_ready("ProxyConfigs are not read yet");
    let kind = GroupVersionKind::gvk(Kind::ProxyConfig.group(), "v1beta1", Kind::ProxyConfig.as_str());
    let api: Api<DynamicObject> = Api::all_with(client, &ApiResource::from_gvk(&kind));
    let mut events = pin!(watcher::watcher(api, Config::default()).backoff(kubernetes::Pauses::default()));
    let mut table = Table::default();
    let mut told = String::new();
    let mut is_read = false;
    while let Some(Some(event)) = context.shutdown.run_until_cancelled(events.next()).await {
        match event {
            Ok(event) => {
                told.clear();
                if table.apply(event) {
                    ground.objects.store(Arc::new(table.objects()));
                    ready.set_ready();
                    is_read = true;
                }
            }
            Err(error) if is_absent(&error) => ready.set_ready(),
            Err(error) => {
                let error = runtime::context::describe(&error);
                if !is_read {
                    ready.set_not_ready(format!("the API server does not tell ProxyConfigs: {error}"));
                }
                if error != told {
                    tracing::warn!(error, "ProxyConfigs cannot be watched; those that are known stay");
                    told = error;
                }
            }
        }
    }
}

/// Whether the cluster has no such kind.
fn is_absent(error: &Error) -> bool {
    let (Error::InitialListFailed(cause) | Error::WatchStartFailed(cause)) = error else {
        return false;
    };
    matches!(cause, kube::Error::Api(status) if status.code == 404)
}

/// What the watch has told: pure.
#[derive(Default)]
struct Table {
    known: BTreeMap<Name, Object>,
    /// What a list has told that is not at its end.
    listed: Option<BTreeMap<Name, Object>>,
}

impl Table {
    /// Takes an event; whether the objects are to be told.
    fn apply(&mut self, event: Event<DynamicObject>) -> bool {
        match event {
            Event::Init => self.listed = Some(BTreeMap::new()),
            Event::InitApply(object) => {
                if let (Some(listed), Some(object)) = (&mut self.listed, read(&object)) {
                    listed.insert(name(&object), object);
                }
            }
            Event::InitDone => self.known = self.listed.take().unwrap_or_default(),
            Event::Apply(object) => match read(&object) {
                Some(object) => _ = self.known.insert(name(&object), object),
                None => return false,
            },
            Event::Delete(object) => {
                let name = (object.namespace().unwrap_or_default(), object.name_any());
                self.known.remove(&name);
            }
        }
        self.listed.is_none()
    }

    fn objects(&self) -> Vec<Object> {
        self.known.values().cloned().collect()
    }
}

fn name(object: &Object) -> Name {
    (object.meta.namespace.clone(), object.meta.name.clone())
}

/// An object by the rules of its kind. A broken one is left out, and the last good one stays.
fn read(object: &DynamicObject) -> Option<Object> {
    let value = serde_json::to_value(object).ok()?;
    match config::decode(&value) {
        Ok((object, _)) => Some(object),
        Err(findings) => {
            let what = findings.first().map(ToString::to_string).unwrap_or_default();
            tracing::warn!(name = object.name_any(), "a ProxyConfig is left out: {what}");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(name: &str, concurrency: &str) -> DynamicObject {
        let spec: serde_json::Value = serde_json::from_str(concurrency).unwrap();
        let object = json!({"apiVersion": "networking.istio.io/v1beta1", "kind": "ProxyConfig",
            "metadata": {"name": name, "namespace": "shop"}, "spec": {"concurrency": spec}});
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn a_list_counts_at_its_end_and_a_broken_object_not_at_all() {
        let mut table = Table::default();
        let names = |table: &Table| {
            table
                .objects()
                .iter()
                .map(|o| o.meta.name.clone())
                .collect::<Vec<_>>()
        };
        assert!(!table.apply(Event::Init));
        assert!(!table.apply(Event::InitApply(object("a", "1"))));
        assert!(!table.apply(Event::InitApply(object("broken", "\"x\""))));
        assert_eq!(names(&table), [""; 0]);
        assert!(table.apply(Event::InitDone));
        assert_eq!(names(&table), ["a"]);
        assert!(table.apply(Event::Apply(object("b", "2"))));
        assert!(!table.apply(Event::Apply(object("b", "\"x\""))));
        assert!(table.apply(Event::Delete(object("a", "1"))));
        assert_eq!(names(&table), ["b"]);
    }
}
