//! Secrets of the cluster, followed by watches. What Helm, registries and tokens keep in Secrets is not even read.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::stream::{BoxStream, SelectAll};
use futures::{FutureExt, StreamExt};
use k8s_openapi::api::core::v1::Secret as Object;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client};
use tokio::sync::watch;

use super::WATCH_SECONDS;
use super::meters::Meters;
use crate::credential::{Key, Known, Secret};

/// Types that never are a gateway's credential.
const OTHERS: &str = "type!=helm.sh/release.v1,type!=kubernetes.io/service-account-token,\
                      type!=kubernetes.io/dockerconfigjson,type!=kubernetes.io/dockercfg,\
                      type!=kubernetes.io/basic-auth,type!=kubernetes.io/ssh-auth,type!=bootstrap.kubernetes.io/token";
/// Secrets that are listed at once; all of a large cluster's would be held twice.
const PAGE: u32 = 200;
/// Failures in a row that people are told of.
const LASTING: u32 = 4;

/// A Secret and its resourceVersion, by which an unchanged one is recognised.
type Held = (String, Arc<Secret>);

/// What one watch knows.
#[derive(Default)]
struct Table {
    held: BTreeMap<Key, Held>,
    listing: BTreeMap<Key, Held>,
    complete: bool,
}

impl Table {
    fn apply(&mut self, event: Event<Object>) {
        match event {
            Event::Init => self.listing.clear(),
            Event::InitApply(object) => {
                if let Some((key, held)) = self.read(object) {
                    self.listing.insert(key, held);
                }
            }
            Event::InitDone => {
                self.held = std::mem::take(&mut self.listing);
                self.complete = true;
            }
            Event::Apply(object) => {
                if let Some((key, held)) = self.read(object) {
                    self.held.insert(key, held);
                }
            }
            Event::Delete(object) => {
                if let Some(key) = key(&object) {
                    self.held.remove(&key);
                }
            }
        }
    }

    /// Takes a Secret's values out of the object.
    fn read(&self, object: Object) -> Option<(Key, Held)> {
        let key = key(&object)?;
        let version = object.metadata.resource_version.unwrap_or_default();
        if let Some(held) = self.held.get(&key).filter(|(known, _)| *known == version) {
            return Some((key, held.clone()));
        }
        let values = object.data.unwrap_or_default();
        let values = values.into_iter().map(|(name, value)| (name, value.0));
        let labels = object.metadata.labels.unwrap_or_default();
        let secret = Secret::new(object.type_.unwrap_or_default(), labels, values);
        Some((key, (version, Arc::new(secret))))
    }
}

fn key(object: &Object) -> Option<Key> {
    Some(Key {
        namespace: object.metadata.namespace.clone()?,
        name: object.metadata.name.clone()?,
    })
}

/// Tells of Secrets of these namespaces, or of all when there are none named, until dropped.
pub(crate) async fn follow(
    client: Client,
    namespaces: Vec<String>,
    known: watch::Sender<Known>,
    meters: Meters,
) {
    let mut tables: Vec<Table> = Vec::new();
    let mut events: SelectAll<BoxStream<'static, (usize, watcher::Result<Event<Object>>)>> = SelectAll::new();
    let apis: Vec<Api<Object>> = match namespaces.is_empty() {
        true => vec![Api::all(client)],
        false => namespaces
            .iter()
            .map(|namespace| Api::namespaced(client.clone(), namespace))
            .collect(),
    };
    for (index, api) in apis.into_iter().enumerate() {
        let config = watcher::Config::default()
            .fields(OTHERS)
            .page_size(PAGE)
            .timeout(WATCH_SECONDS);
        let watched = watcher::watcher(api, config).backoff(::kubernetes::Pauses::default());
        events.push(watched.map(move |event| (index, event)).boxed());
        tables.push(Table::default());
    }
    let mut failures = 0;
    while let Some(first) = events.next().await {
        // What has come already belongs to the same state.
        let mut next = Some(first);
        while let Some((index, event)) = next {
            take(&mut tables, index, event, &mut failures, &meters);
            next = events.next().now_or_never().flatten();
        }
        if tables.iter().any(|table| table.complete) {
            let now = together(&tables);
            let count = i64::try_from(now.secrets.len()).unwrap_or(i64::MAX);
            meters.secrets.set(count);
            known.send_replace(now);
        }
    }
}

fn take(
    tables: &mut [Table],
    index: usize,
    event: watcher::Result<Event<Object>>,
    failures: &mut u32,
    meters: &Meters,
) {
    match (event, tables.get_mut(index)) {
        (Ok(event), Some(table)) => {
            if !matches!(event, Event::Init) {
                *failures = 0;
            }
            table.apply(event);
        }
        (Err(error), _) => {
            meters.failed("secrets");
            *failures += 1;
            let error = runtime::context::describe(&error);
            match *failures {
                LASTING => {
                    tracing::error!(
                        error,
                        "Secrets of the cluster cannot be read; those of before stay in use"
                    )
                }
                _ => tracing::debug!(error, "the watch of Secrets has failed"),
            }
        }
        (Ok(_), None) => {}
    }
}

fn together(tables: &[Table]) -> Known {
    let held = tables.iter().flat_map(|table| &table.held);
    Known {
        secrets: Arc::new(
            held.map(|(key, (_, secret))| (key.clone(), secret.clone()))
                .collect(),
        ),
        complete: tables.iter().all(|table| table.complete),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::ByteString;

    fn object(name: &str, version: &str, value: &str) -> Object {
        let mut object = Object::default();
        object.metadata.namespace = Some("shop".to_owned());
        object.metadata.name = Some(name.to_owned());
        object.metadata.resource_version = Some(version.to_owned());
        object.data = Some([(value.to_owned(), ByteString(vec![1]))].into());
        object
    }

    fn shown(table: &Table) -> String {
        let known = together(std::slice::from_ref(table));
        let one = |(key, secret): (&Key, &Arc<Secret>)| format!("{}{secret:?}", key.name);
        let all: Vec<String> = known.secrets.iter().map(one).collect();
        format!("{} {}", all.join(" "), known.complete)
    }

    #[test]
    fn a_list_replaces_what_was_and_unchanged_secrets_are_the_same() {
        let mut table = Table::default();
        let mut apply = |events: Vec<Event<Object>>| {
            for event in events {
                table.apply(event);
            }
            shown(&table)
        };
        let a = || Event::InitApply(object("a", "1", "x"));
        assert_eq!(apply(vec![Event::Init, a()]), " false");
        assert_eq!(apply(vec![Event::InitDone]), "a{\"x\"} true");
        assert_eq!(
            apply(vec![Event::Apply(object("b", "2", "y"))]),
            "a{\"x\"} b{\"y\"} true"
        );
        // Until a list is complete, what was known counts.
        assert_eq!(
            apply(vec![Event::Init, Event::InitApply(object("b", "2", "y"))]),
            "a{\"x\"} b{\"y\"} true"
        );
        assert_eq!(apply(vec![Event::InitDone]), "b{\"y\"} true");
        assert_eq!(apply(vec![Event::Delete(object("b", "3", "y"))]), " true");
    }
}
