//! ReferenceGrants of Gateway API: an owner of Secrets lets Gateways of another namespace have them. The definition need not
//! be there; then nothing is granted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use kube::api::{ApiResource, DynamicObject};
use kube::core::Status;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client};
use serde::Deserialize;
use tokio::sync::watch;

use super::meters::Meters;
use super::{DEADLINE, WATCH_SECONDS, code};

const GROUP: &str = "gateway.networking.k8s.io";
/// The versions that are read, the newest first.
const VERSIONS: [&str; 2] = ["v1", "v1beta1"];
/// How often it is looked whether the definition is there now.
const LOOK: Duration = Duration::from_secs(10);

/// All grants at one time, by namespace and name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Grants(BTreeMap<(String, String), Grant>);

/// What one ReferenceGrant says of Secrets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Grant {
    /// Namespaces of the Gateways.
    from: BTreeSet<String>,
    /// The Secrets; `None` for all of the grant's namespace.
    names: Option<BTreeSet<String>>,
}

impl Grants {
    /// Whether Gateways of the namespace `from` may have the Secret.
    pub(crate) fn allow(&self, from: &str, namespace: &str, name: &str) -> bool {
        let first = (namespace.to_owned(), String::new());
        self.0
            .range(first..)
            .take_while(|((owner, _), _)| owner == namespace)
            .any(|(_, grant)| {
                let named = grant.names.as_ref().is_none_or(|names| names.contains(name));
                named && grant.from.contains(from)
            })
    }
}

#[derive(Deserialize)]
struct Body {
    spec: Spec,
}

#[derive(Deserialize)]
struct Spec {
    #[serde(default)]
    from: Vec<Source>,
    #[serde(default)]
    to: Vec<Target>,
}

#[derive(Deserialize)]
struct Source {
    #[serde(default)]
    group: String,
    kind: String,
    namespace: String,
}

#[derive(Deserialize)]
struct Target {
    #[serde(default)]
    group: String,
    kind: String,
    name: Option<String>,
}

/// What a grant says of Secrets; `None` when it says nothing of them, or cannot be read: then it grants nothing.
fn grant(data: &serde_json::Value) -> Option<Grant> {
    let body = Body::deserialize(data).ok()?;
    let gateways = body.spec.from.into_iter();
    let gateways = gateways.filter(|from| from.group == GROUP && from.kind == "Gateway");
    let from: BTreeSet<String> = gateways.map(|from| from.namespace).collect();
    let secrets = body.spec.to.into_iter();
    let secrets: Vec<Target> = secrets
        .filter(|to| to.group.is_empty() && to.kind == "Secret")
        .collect();
    if from.is_empty() || secrets.is_empty() {
        return None;
    }
    let all = secrets
        .iter()
        .any(|to| to.name.as_deref().is_none_or(str::is_empty));
    let names = secrets.into_iter().filter_map(|to| to.name).collect();
    Some(Grant {
        from,
        names: (!all).then_some(names),
    })
}

/// Keeps the grants current until dropped. `None` is told before they are known.
pub(crate) async fn follow(client: Client, told: watch::Sender<Option<Arc<Grants>>>, meters: Meters) {
    loop {
        match served(&client).await {
            Ok(Some(version)) => watch_version(&client, version, &told, &meters).await,
            Ok(None) => _ = told.send_replace(Some(Arc::default())),
            Err(reason) => {
                meters.failed("referencegrants");
                tracing::debug!(reason, "whether ReferenceGrants are defined is not known");
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// The newest version of ReferenceGrant that the cluster serves; `None` when it serves none.
async fn served(client: &Client) -> Result<Option<&'static str>, String> {
    for version in VERSIONS {
        let group = format!("{GROUP}/{version}");
        let asked = client.list_api_group_resources(&group);
        match tokio::time::timeout(DEADLINE, asked).await {
            Ok(Ok(list)) if list.resources.iter().any(|one| one.name == "referencegrants") => {
                return Ok(Some(version));
            }
            Ok(Err(error)) if code(&error) != Some(404) => {
                return Err(runtime::context::describe(&error));
            }
            Err(_) => return Err("no answer in time".to_owned()),
            _ => {}
        }
    }
    Ok(None)
}

/// Watches until the definition is gone.
async fn watch_version(
    client: &Client,
    version: &str,
    told: &watch::Sender<Option<Arc<Grants>>>,
    meters: &Meters,
) {
    let resource = ApiResource {
        group: GROUP.to_owned(),
        version: version.to_owned(),
        api_version: format!("{GROUP}/{version}"),
        kind: "ReferenceGrant".to_owned(),
        plural: "referencegrants".to_owned(),
    };
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    let config = watcher::Config::default().timeout(WATCH_SECONDS);
    let mut events = watcher::watcher(api, config)
        .backoff(::kubernetes::Pauses::default())
        .boxed();
    let mut table = Table::default();
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => {
                if table.apply(event) {
                    told.send_replace(Some(Arc::new(table.grants.clone())));
                }
            }
            Err(error) => {
                meters.failed("referencegrants");
                tracing::debug!(error = %runtime::context::describe(&error), "the watch of ReferenceGrants has failed");
                if status(&error).is_some_and(|status| status.code == 404) {
                    return;
                }
            }
        }
    }
}

fn status(error: &watcher::Error) -> Option<&Status> {
    use watcher::Error::{InitialListFailed, WatchError, WatchFailed, WatchStartFailed};
    match error {
        WatchError(status)
        | InitialListFailed(kube::Error::Api(status))
        | WatchStartFailed(kube::Error::Api(status))
        | WatchFailed(kube::Error::Api(status)) => Some(status),
        _ => None,
    }
}

/// The grants as events tell of them.
#[derive(Default)]
struct Table {
    grants: Grants,
    listing: BTreeMap<(String, String), Grant>,
}

impl Table {
    /// Takes an event; says whether what is known is another now, or is known for the first time.
    fn apply(&mut self, event: Event<DynamicObject>) -> bool {
        let key = |object: &DynamicObject| {
            let meta = &object.metadata;
            (
                meta.namespace.clone().unwrap_or_default(),
                meta.name.clone().unwrap_or_default(),
            )
        };
        match event {
            Event::Init => {
                self.listing.clear();
                false
            }
            Event::InitApply(object) => {
                self.listing
                    .extend(grant(&object.data).map(|grant| (key(&object), grant)));
                false
            }
            Event::InitDone => {
                self.grants = Grants(std::mem::take(&mut self.listing));
                true
            }
            Event::Apply(object) => {
                match grant(&object.data) {
                    Some(grant) => self.grants.0.insert(key(&object), grant),
                    None => self.grants.0.remove(&key(&object)),
                };
                true
            }
            Event::Delete(object) => self.grants.0.remove(&key(&object)).is_some(),
        }
    }
}

#[cfg(test)]
#[allow(clippy::needless_pass_by_value, reason = "cases read better by value")]
mod tests {
    use super::*;
    use serde_json::json;

    fn grants(spec: serde_json::Value) -> Grants {
        let found = grant(&json!({ "spec": spec }));
        Grants(
            found
                .map(|grant| (("certs".to_owned(), "x".to_owned()), grant))
                .into_iter()
                .collect(),
        )
    }

    #[test]
    fn only_what_is_granted_is() {
        let gateway = json!({"group": GROUP, "kind": "Gateway", "namespace": "edge"});
        let all = grants(json!({"from": [gateway], "to": [{"group": "", "kind": "Secret"}]}));
        let one = grants(json!({"from": [gateway], "to": [{"group": "", "kind": "Secret", "name": "web"}]}));
        let check = |grants: &Grants, from: &str, namespace: &str, name: &str, expected: bool| {
            assert_eq!(
                grants.allow(from, namespace, name),
                expected,
                "{from} {namespace}/{name}"
            );
        };
        check(&all, "edge", "certs", "web", true);
        check(&all, "edge", "certs", "other", true);
        check(&all, "shop", "certs", "web", false);
        check(&all, "edge", "cert", "web", false);
        check(&all, "certs", "edge", "web", false);
        check(&one, "edge", "certs", "web", true);
        check(&one, "edge", "certs", "other", false);
        for other in [
            json!({"from": [{"group": GROUP, "kind": "HTTPRoute", "namespace": "edge"}], "to": [{"kind": "Secret"}]}),
            json!({"from": [{"group": "", "kind": "Gateway", "namespace": "edge"}], "to": [{"kind": "Secret"}]}),
            json!({"from": [gateway], "to": [{"kind": "Service"}]}),
            json!({"from": [gateway], "to": [{"group": "x", "kind": "Secret"}]}),
            json!({"from": "edge"}),
        ] {
            check(&grants(other), "edge", "certs", "web", false);
        }
    }
}
