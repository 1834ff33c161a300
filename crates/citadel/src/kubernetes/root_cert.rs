//! The mesh's roots in the ConfigMap `istio-ca-root-cert` of each namespace, where proxies find them that have no certificate
//! yet. New namespaces get one, a deleted or changed one is put right, and all follow a rotation.
//!
//! All replicas do this; they write the same, and only where something differs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tokio::sync::watch;

use super::meters::Meters;
use super::{WATCH_SECONDS, answer, code};
use crate::current::Trust;

/// The ConfigMap's name, as in Istio.
pub(crate) const NAME: &str = "istio-ca-root-cert";
/// Its key with the roots, PEM.
pub(crate) const KEY: &str = "root-cert.pem";
/// What Istio marks its own ConfigMaps with.
const LABEL: (&str, &str) = ("istio.io/config", "true");
/// Kubernetes' own namespaces, which no workload of the mesh is in (Istio, pkg/kube/inject).
const IGNORED: [&str; 4] = [
    "kube-system",
    "kube-public",
    "kube-node-lease",
    "local-path-storage",
];
/// After a failure a namespace is tried again this much later.
const RETRY: Duration = Duration::from_secs(5);

/// What is known of the cluster. Pure.
#[derive(Debug, Default)]
struct Table {
    /// Namespaces that are not about to go.
    namespaces: BTreeSet<String>,
    /// The roots in each namespace's ConfigMap.
    held: BTreeMap<String, String>,
    listing: (BTreeSet<String>, BTreeMap<String, String>),
    /// Whether namespaces and ConfigMaps were listed once.
    listed: (bool, bool),
}

/// What is to be done in a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Create,
    Correct,
}

impl Table {
    fn namespace(&mut self, event: Event<Namespace>) {
        let is_active = |namespace: &Namespace| namespace.metadata.deletion_timestamp.is_none();
        match event {
            Event::Init => self.listing.0.clear(),
            Event::InitApply(namespace) if is_active(&namespace) => {
                _ = self.listing.0.insert(namespace.name_any());
            }
            Event::InitApply(_) => {}
            Event::InitDone => {
                self.namespaces = std::mem::take(&mut self.listing.0);
                self.listed.0 = true;
            }
            Event::Apply(namespace) if is_active(&namespace) => {
                _ = self.namespaces.insert(namespace.name_any());
            }
            Event::Apply(namespace) | Event::Delete(namespace) => {
                _ = self.namespaces.remove(&namespace.name_any());
            }
        }
    }

    fn config_map(&mut self, event: Event<ConfigMap>) {
        let roots = |map: &mut ConfigMap| {
            let data = map.data.as_mut();
            data.and_then(|data| data.remove(KEY)).unwrap_or_default()
        };
        let namespace = |map: &ConfigMap| map.namespace().unwrap_or_default();
        match event {
            Event::Init => self.listing.1.clear(),
            Event::InitApply(mut map) => _ = self.listing.1.insert(namespace(&map), roots(&mut map)),
            Event::InitDone => {
                self.held = std::mem::take(&mut self.listing.1);
                self.listed.1 = true;
            }
            Event::Apply(mut map) => _ = self.held.insert(namespace(&map), roots(&mut map)),
            Event::Delete(map) => _ = self.held.remove(&namespace(&map)),
        }
    }

    /// What is to be done so that each namespace has these roots; nothing before both were listed.
    fn plan(&self, roots: &str) -> Vec<(String, Step)> {
        if self.listed != (true, true) {
            return Vec::new();
        }
        let wanted = self.namespaces.iter();
        wanted
            .filter(|name| !IGNORED.contains(&name.as_str()))
            .filter_map(|name| match self.held.get(name) {
                None => Some((name.clone(), Step::Create)),
                Some(held) if held != roots => Some((name.clone(), Step::Correct)),
                Some(_) => None,
            })
            .collect()
    }
}

/// Keeps the ConfigMaps current until dropped.
pub(crate) async fn keep(client: Client, mut trust: watch::Receiver<Trust>, meters: Meters) {
    let config = || watcher::Config::default().timeout(WATCH_SECONDS);
    let all = Api::<Namespace>::all(client.clone());
    let mut namespaces = watcher::watcher(all, config())
        .backoff(::kubernetes::Pauses::default())
        .boxed();
    let named = config().fields(&format!("metadata.name={NAME}"));
    let mut maps = watcher::watcher(Api::<ConfigMap>::all(client.clone()), named)
        .backoff(::kubernetes::Pauses::default())
        .boxed();
    let mut table = Table::default();
    let mut writer = Writer {
        client,
        meters,
        failed: BTreeMap::new(),
    };
    let mut retry = tokio::time::interval(RETRY);
    loop {
        tokio::select! {
            event = namespaces.next() => match event {
                Some(Ok(event)) => table.namespace(event),
                Some(Err(error)) => writer.watch_failed("namespaces", &error),
                None => return,
            },
            event = maps.next() => match event {
                Some(Ok(event)) => table.config_map(event),
                Some(Err(error)) => writer.watch_failed("configmaps", &error),
                None => return,
            },
            changed = trust.changed() => if changed.is_err() { return },
            _ = retry.tick() => {}
        }
        let roots = trust.borrow().roots.clone();
        writer.write(&mut table, &roots).await;
    }
}

struct Writer {
    client: Client,
    meters: Meters,
    /// Namespaces that could not be written, and when that was.
    failed: BTreeMap<String, Instant>,
}

impl Writer {
    fn watch_failed(&self, watch: &'static str, error: &watcher::Error) {
        self.meters.failed(watch);
        let error = runtime::context::describe(error);
        tracing::debug!(watch, error, "a watch for root ConfigMaps has failed");
    }

    async fn write(&mut self, table: &mut Table, roots: &str) {
        let plan = table.plan(roots);
        let behind = i64::try_from(plan.len()).unwrap_or(i64::MAX);
        self.meters.config_maps_behind.set(behind);
        self.failed
            .retain(|name, _| plan.iter().any(|(wanted, _)| wanted == name));
        for (namespace, step) in plan {
            if self.failed.get(&namespace).is_some_and(|at| at.elapsed() < RETRY) {
                continue;
            }
            match self.take(&namespace, step, roots).await {
                Ok(()) => {
                    // The watch will say so too.
                    table.held.insert(namespace.clone(), roots.to_owned());
                    self.failed.remove(&namespace);
                    self.meters.config_maps_written.inc();
                    tracing::info!(namespace, ?step, "roots written into ConfigMap {NAME}");
                }
                Err(reason) => {
                    if self.failed.insert(namespace.clone(), Instant::now()).is_none() {
                        tracing::warn!(namespace, reason, "roots cannot be written into ConfigMap {NAME}");
                    }
                }
            }
        }
    }

    async fn take(&self, namespace: &str, step: Step, roots: &str) -> Result<(), String> {
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), namespace);
        if step == Step::Create {
            let map = ConfigMap {
                metadata: ObjectMeta {
                    name: Some(NAME.to_owned()),
                    labels: Some([(LABEL.0.to_owned(), LABEL.1.to_owned())].into()),
                    ..ObjectMeta::default()
                },
                data: Some([(KEY.to_owned(), roots.to_owned())].into()),
                ..ConfigMap::default()
            };
            let created = answer(async {
                match api.create(&PostParams::default(), &map).await {
                    // Another replica was first; what it wrote will be looked at.
                    Err(error) if code(&error) == Some(409) => Ok(false),
                    created => created.map(|_| true),
                }
            });
            if created.await? {
                return Ok(());
            }
        }
        let patch = json!({
            "metadata": {"labels": {LABEL.0: LABEL.1}},
            "data": {KEY: roots},
        });
        let (params, patch) = (PatchParams::default(), Patch::Merge(&patch));
        answer(api.patch(NAME, &params, &patch)).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namespace(name: &str) -> Namespace {
        let mut namespace = Namespace::default();
        namespace.metadata.name = Some(name.to_owned());
        namespace
    }

    fn map(namespace: &str, roots: &str) -> ConfigMap {
        let mut map = ConfigMap::default();
        map.metadata.namespace = Some(namespace.to_owned());
        map.data = Some([(KEY.to_owned(), roots.to_owned())].into());
        map
    }

    #[test]
    fn each_namespace_gets_what_it_lacks_once_all_is_known() {
        let mut table = Table::default();
        table.namespace(Event::Init);
        for name in ["a", "b", "c", "kube-system"] {
            table.namespace(Event::InitApply(namespace(name)));
        }
        table.namespace(Event::InitDone);
        assert_eq!(table.plan("new"), [], "ConfigMaps are not known yet");
        table.config_map(Event::Init);
        table.config_map(Event::InitApply(map("a", "new")));
        table.config_map(Event::InitApply(map("b", "old")));
        table.config_map(Event::InitDone);
        let plan = |table: &Table| -> Vec<String> {
            let plan = table.plan("new").into_iter();
            plan.map(|(name, step)| format!("{name} {step:?}")).collect()
        };
        assert_eq!(plan(&table), ["b Correct", "c Create"]);
        table.config_map(Event::Delete(map("a", "new")));
        table.config_map(Event::Apply(map("b", "new")));
        assert_eq!(plan(&table), ["a Create", "c Create"]);
        let mut going = namespace("c");
        going.metadata.deletion_timestamp = serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
        table.namespace(Event::Apply(going));
        table.namespace(Event::Delete(namespace("a")));
        assert_eq!(plan(&table), Vec::<String>::new());
    }
}
