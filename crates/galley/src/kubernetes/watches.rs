//! The watches themselves: a task for each kind, each with its own connection and its own backoff, so that one that fails
//! holds up no other.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use config::Kind;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use kube::api::{ApiResource, DynamicObject};
use kube::core::PartialObjectMeta;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Config, Event as Watched};
use kube::{Api, Client};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use runtime::Metrics;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::kinds::{Definitions, Extent, extent};
use super::object;
use super::reducer::{Event, Failure};

/// How long the API server lets a watch run, in seconds. A connection that died in silence is noticed five seconds later.
const TIMEOUT: u32 = 120;
/// A watch that failed and then was silent for this long is well again: the next failure would have come by then.
const SILENCE: Duration = Duration::from_secs(30);
/// Failures in a row that people are told of: an API server that starts again is no news.
const LASTING: u32 = 4;
/// What waits to be taken up, in events of all kinds.
const WAITING: usize = 4096;

/// What a watch has to tell.
pub(super) struct Told {
    kind: Kind,
    run: u64,
    pub(super) news: News,
}

pub(super) enum News {
    Events(Vec<(Kind, Event)>),
    /// The kinds that are there by definition, and the version to read each in.
    Kinds(BTreeMap<Kind, &'static str>),
}

/// The running watches.
pub(super) struct Watches {
    client: Client,
    root_namespace: String,
    running: BTreeMap<Kind, Running>,
    runs: u64,
    sender: mpsc::Sender<Told>,
    failures: Failures,
}

/// How often the watch of a kind has failed, and why; what people are told of at once is another matter.
type Failures = Family<FailureLabels, Counter>;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct FailureLabels {
    kind: &'static str,
    reason: &'static str,
}

struct Running {
    version: &'static str,
    run: u64,
    task: AbortHandle,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Watches {
    pub(super) fn new(
        client: Client,
        root_namespace: &str,
        metrics: &Metrics,
    ) -> (Self, mpsc::Receiver<Told>) {
        let (sender, told) = mpsc::channel(WAITING);
        let watches = Self {
            client,
            root_namespace: root_namespace.to_owned(),
            running: BTreeMap::new(),
            runs: 0,
            sender,
            failures: metrics.family(
                "galley_watch_failures",
                "Lists and watches of the Kubernetes API that failed, by kind and reason",
            ),
        };
        (watches, told)
    }

    /// Watches these kinds and no others.
    pub(super) fn set(&mut self, kinds: &BTreeMap<Kind, &'static str>) {
        self.running
            .retain(|kind, running| kinds.get(kind) == Some(&running.version));
        for (kind, version) in kinds {
            if !self.running.contains_key(kind) {
                let running = self.start(*kind, version);
                self.running.insert(*kind, running);
            }
        }
    }

    /// The kinds that the watches tell of.
    pub(super) fn kinds(&self) -> BTreeSet<Kind> {
        let mut kinds: BTreeSet<Kind> = self.running.keys().copied().collect();
        if kinds.contains(&Kind::ConfigMap) {
            kinds.extend([Kind::MeshConfig, Kind::MeshNetworks]);
        }
        kinds
    }

    /// Whether it comes from a watch that still runs.
    pub(super) fn is_current(&self, told: &Told) -> bool {
        self.running
            .get(&told.kind)
            .is_some_and(|running| running.run == told.run)
    }

    fn start(&mut self, kind: Kind, version: &'static str) -> Running {
        self.runs += 1;
        let outlet = Outlet {
            kind,
            run: self.runs,
            sender: self.sender.clone(),
            failures: self.failures.clone(),
        };
        let events = stream(&self.client, kind, version, &self.root_namespace);
        let task = tokio::spawn(follow(events, outlet)).abort_handle();
        Running {
            version,
            run: self.runs,
            task,
        }
    }
}

struct Outlet {
    kind: Kind,
    run: u64,
    sender: mpsc::Sender<Told>,
    failures: Failures,
}

impl Outlet {
    fn count(&self, error: &watcher::Error) {
        let labels = FailureLabels {
            kind: self.kind.as_str(),
            reason: class(status(error).map(|status| status.code)),
        };
        self.failures.get_or_create(&labels).inc();
    }

    async fn tell(&self, news: News) {
        let (kind, run) = (self.kind, self.run);
        // Who does not listen any more has ended, and ends this task too.
        _ = self.sender.send(Told { kind, run, news }).await;
    }
}

type Events = BoxStream<'static, watcher::Result<Watched<DynamicObject>>>;

fn stream(client: &Client, kind: Kind, version: &str, root_namespace: &str) -> Events {
    let api_version = match kind.group() {
        "" => version.to_owned(),
        group => format!("{group}/{version}"),
    };
    let resource = ApiResource {
        group: kind.group().to_owned(),
        version: version.to_owned(),
        api_version,
        kind: kind.as_str().to_owned(),
        plural: kind.plural().to_owned(),
    };
    let backoff = kubernetes::Pauses::default();
    let config = Config::default().timeout(TIMEOUT);
    let client = client.clone();
    let partial = |partial: PartialObjectMeta<DynamicObject>| DynamicObject {
        types: None,
        metadata: partial.metadata,
        data: Value::Null,
    };
    match extent(kind) {
        Some(Extent::Metadata) => watcher::watcher(Api::all_with(client, &resource), config)
            .map_ok(move |event| map(event, partial))
            .backoff(backoff)
            .boxed(),
        Some(Extent::RootNamespace) => {
            let api = Api::namespaced_with(client, root_namespace, &resource);
            watcher::watcher(api, config).backoff(backoff).boxed()
        }
        _ => watcher::watcher(Api::all_with(client, &resource), config)
            .backoff(backoff)
            .boxed(),
    }
}

fn map<A, B>(event: Watched<A>, convert: impl Fn(A) -> B) -> Watched<B> {
    match event {
        Watched::Apply(object) => Watched::Apply(convert(object)),
        Watched::Delete(object) => Watched::Delete(convert(object)),
        Watched::InitApply(object) => Watched::InitApply(convert(object)),
        Watched::Init => Watched::Init,
        Watched::InitDone => Watched::InitDone,
    }
}

/// Tells what a watch sends, for ever.
async fn follow(mut events: Events, outlet: Outlet) {
    let mut definitions = (outlet.kind == Kind::CustomResourceDefinition).then(Defined::default);
    let mut failures = 0_u32;
    loop {
        let event = match failures {
            0 => events.next().await,
            _ => match tokio::time::timeout(SILENCE, events.next()).await {
                Ok(event) => event,
                Err(_) => {
                    failures = 0;
                    outlet
                        .tell(News::Events(vec![(outlet.kind, Event::Recovered)]))
                        .await;
                    continue;
                }
            },
        };
        match event {
            None => return,
            Some(Ok(event)) => {
                // That a list begins does not say that it will come.
                if !matches!(event, Watched::Init) {
                    failures = 0;
                }
                if let Some(kinds) = definitions
                    .as_mut()
                    .and_then(|definitions| definitions.take(&event))
                {
                    outlet.tell(News::Kinds(kinds)).await;
                }
                outlet
                    .tell(News::Events(object::events(outlet.kind, event)))
                    .await;
            }
            Some(Err(error)) if is_gone(&error) => {
                outlet.count(&error);
                tracing::debug!(kind = %outlet.kind, "the API server has forgotten where the watch was; listing anew");
            }
            Some(Err(error)) => {
                outlet.count(&error);
                failures = failures.saturating_add(1);
                let failure = failure(&error, failures);
                tracing::debug!(kind = %outlet.kind, failures, reason = failure.reason, "a watch has failed");
                outlet
                    .tell(News::Events(vec![(outlet.kind, Event::Failed(failure))]))
                    .await;
            }
        }
    }
}

/// The definitions that a watch has told of, and whether its first list is complete.
#[derive(Default)]
struct Defined {
    definitions: Definitions,
    listing: BTreeSet<String>,
    is_complete: bool,
}

impl Defined {
    /// Takes an event; gives the kinds when they are others, or known for the first time.
    fn take(&mut self, event: &Watched<DynamicObject>) -> Option<BTreeMap<Kind, &'static str>> {
        let name = |object: &DynamicObject| object.metadata.name.clone().unwrap_or_default();
        let changed = match event {
            Watched::Init => {
                self.listing.clear();
                false
            }
            Watched::InitApply(object) => {
                self.listing.insert(name(object));
                self.definitions.apply(&name(object), &object.data)
            }
            Watched::InitDone => {
                let listing = std::mem::take(&mut self.listing);
                let gone = self.definitions.retain(|name| listing.contains(name));
                let first = !std::mem::replace(&mut self.is_complete, true);
                gone || first
            }
            Watched::Apply(object) => self.definitions.apply(&name(object), &object.data),
            Watched::Delete(object) => self.definitions.remove(&name(object)),
        };
        (changed && self.is_complete).then(|| self.definitions.kinds())
    }
}

/// 410 Gone: what a watch asks for was compacted. The list that follows makes it right.
fn is_gone(error: &watcher::Error) -> bool {
    status(error).is_some_and(|status| status.code == 410)
}

/// What a failure counts as, by the API server's status; without one there was no answer that could be read.
fn class(code: Option<u16>) -> &'static str {
    match code {
        None => "unreachable",
        Some(401) => "unauthorized",
        Some(403) => "forbidden",
        Some(404) => "not_found",
        Some(410) => "expired",
        Some(429) => "throttled",
        Some(500..) => "server_error",
        Some(_) => "refused",
    }
}

fn status(error: &watcher::Error) -> Option<&kube::core::Status> {
    use watcher::Error::{InitialListFailed, WatchError, WatchFailed, WatchStartFailed};
    match error {
        WatchError(status) | InitialListFailed(kube::Error::Api(status)) => Some(status),
        WatchStartFailed(kube::Error::Api(status)) | WatchFailed(kube::Error::Api(status)) => Some(status),
        _ => None,
    }
}

fn failure(error: &watcher::Error, failures: u32) -> Failure {
    let status = status(error);
    Failure {
        reason: match status {
            Some(status) if !status.message.is_empty() => status.message.clone(),
            _ => root(error),
        },
        is_forbidden: status.is_some_and(|status| status.code == 403),
        is_lasting: failures >= LASTING,
    }
}

/// The innermost cause: what stands around it differs from kind to kind.
fn root(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
