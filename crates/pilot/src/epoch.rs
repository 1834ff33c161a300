//! Turns the feed's states into snapshots: endpoint changes at once, configuration after a short quiet time, and
//! nothing at all for a change without meaning.

use std::sync::Arc;
use std::time::Duration;

use config::Kind;
use feed::State;
use model::{Diff, Snapshot};
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

/// Quiet time after a configuration change before a snapshot is taken up.
const QUIET: Duration = Duration::from_millis(20);
/// Configuration that keeps changing is taken up nevertheless after this time.
const LONGEST_WAIT: Duration = Duration::from_millis(200);

/// A snapshot and when it came.
#[derive(Debug, Clone)]
pub struct Epoch {
    /// Counts from 1.
    pub number: u64,
    /// The mesh.
    pub snapshot: Arc<Snapshot>,
    /// When the change that it answers was seen.
    pub seen: Instant,
}

/// The feed's states as they come.
pub type States = watch::Receiver<Option<Arc<State>>>;
/// The newest snapshot; `None` before the first complete state.
pub type Epochs = watch::Receiver<Option<Arc<Epoch>>>;

/// How soon a difference is to be taken up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Haste {
    /// It means nothing.
    Never,
    /// More may follow that belongs to it.
    AfterQuiet,
    /// Endpoints move: requests fail on those that are gone.
    AtOnce,
}

impl Haste {
    fn of(diff: &Diff) -> Self {
        // What these kinds mean is in the services and workloads that are made of them.
        let within = |kind: Kind| {
            matches!(
                kind,
                Kind::Service
                    | Kind::ServiceEntry
                    | Kind::WorkloadEntry
                    | Kind::EndpointSlice
                    | Kind::Pod
                    | Kind::Node
                    | Kind::Namespace
            )
        };
        let only_endpoints =
            diff.services.is_empty() && !diff.networks && diff.keys().all(|key| within(key.kind));
        match diff.is_empty() {
            true => Self::Never,
            false if only_endpoints => Self::AtOnce,
            false => Self::AfterQuiet,
        }
    }
}

/// Builds snapshots until the feed or the service ends.
pub async fn run(mut states: States, epochs: watch::Sender<Option<Arc<Epoch>>>, shutdown: CancellationToken) {
    let mut latest: Option<Arc<Snapshot>> = None;
    loop {
        let state = states.borrow_and_update().clone();
        if let Some(state) = state {
            let Some(snapshot) = take(&mut states, &epochs, latest.take(), state).await else {
                return;
            };
            latest = Some(snapshot);
        }
        tokio::select! {
            changed = states.changed() => if changed.is_err() { return },
            () = shutdown.cancelled() => return,
        }
    }
}

/// Takes a state up, and those that follow within the quiet time. Gives the newest snapshot, whether it means something
/// new or not; `None` when its task was cut off.
async fn take(
    states: &mut States,
    epochs: &watch::Sender<Option<Arc<Epoch>>>,
    latest: Option<Arc<Snapshot>>,
    state: Arc<State>,
) -> Option<Arc<Snapshot>> {
    let seen = Instant::now();
    let end = seen + LONGEST_WAIT;
    let previous = epochs.borrow().clone();
    let (mut snapshot, mut haste) = build(latest, previous.clone(), state).await?;
    while haste == Haste::AfterQuiet && previous.is_some() {
        let quiet = (Instant::now() + QUIET).min(end);
        let Ok(Ok(())) = timeout_at(quiet, states.changed()).await else {
            break;
        };
        let Some(state) = states.borrow_and_update().clone() else {
            break;
        };
        (snapshot, haste) = build(Some(snapshot), previous.clone(), state).await?;
    }
    if haste != Haste::Never {
        publish(epochs, previous.as_deref(), &snapshot, seen);
    }
    Some(snapshot)
}

/// The snapshot of a state, off the async threads, and how soon its difference from the published one is due.
async fn build(
    latest: Option<Arc<Snapshot>>,
    previous: Option<Arc<Epoch>>,
    state: Arc<State>,
) -> Option<(Arc<Snapshot>, Haste)> {
    let work = move || {
        let snapshot = match latest {
            Some(latest) => latest.update(&state.objects),
            None => Snapshot::build(state.objects.values().cloned()),
        };
        let haste = previous.map_or(Haste::AtOnce, |previous| {
            Haste::of(&Diff::between(&previous.snapshot, &snapshot))
        });
        (Arc::new(snapshot), haste)
    };
    spawn_blocking(work).await.ok()
}

fn publish(
    epochs: &watch::Sender<Option<Arc<Epoch>>>,
    previous: Option<&Epoch>,
    snapshot: &Arc<Snapshot>,
    seen: Instant,
) {
    let told = previous.map_or(&[][..], |previous| &previous.snapshot.rejected);
    for finding in snapshot.rejected.iter().filter(|finding| !told.contains(finding)) {
        tracing::warn!("{finding}");
    }
    let number = previous.map_or(1, |previous| previous.number + 1);
    tracing::info!(number, objects = snapshot.objects().len(), "new snapshot");
    epochs.send_replace(Some(Arc::new(Epoch {
        number,
        snapshot: snapshot.clone(),
        seen,
    })));
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTRY: &str = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: a, namespace: shop}\nspec:\n  hosts: [a.example]\n  ports: [{number: 80, name: http, protocol: HTTP}]\n  resolution: STATIC\n  endpoints: [{address: 10.0.0.1}, {address: 10.0.0.2}]\n";

    fn state(text: &str) -> Arc<State> {
        let objects = config::parse("x.yaml", text.as_bytes(), "default").objects;
        let objects = objects
            .into_iter()
            .map(|object| (object.key(), Arc::new(object)))
            .collect();
        Arc::new(State { objects })
    }

    async fn check(change: impl Fn(&str) -> String, expected: Haste) {
        let (first, _) = build(None, None, state(ENTRY)).await.unwrap();
        let previous = Arc::new(Epoch {
            number: 1,
            snapshot: first.clone(),
            seen: Instant::now(),
        });
        let changed = change(ENTRY);
        let (_, haste) = build(Some(first), Some(previous), state(&changed)).await.unwrap();
        assert_eq!(haste, expected, "{changed}");
    }

    #[tokio::test]
    async fn endpoints_move_at_once_and_what_means_nothing_never() {
        check(|text| text.replace("10.0.0.2", "10.0.0.3"), Haste::AtOnce).await;
        check(|text| text.replace("}, {address: 10.0.0.2", ""), Haste::AtOnce).await;
        check(|text| text.replace("a.example", "b.example"), Haste::AfterQuiet).await;
        check(
            |text| {
                text.replace(
                    "namespace: shop}",
                    "namespace: shop, annotations: {example.com/a: b}}",
                )
            },
            Haste::Never,
        )
        .await;
        check(
            |text| {
                text.replace(
                    "[{address: 10.0.0.1}, {address: 10.0.0.2}]",
                    "[{address: 10.0.0.2}, {address: 10.0.0.1}]",
                )
            },
            Haste::Never,
        )
        .await;
    }
}
