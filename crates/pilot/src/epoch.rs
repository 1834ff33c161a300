//! Turns the feed's states into snapshots: endpoint changes at once, configuration after a short quiet time, and
//! nothing at all for a change without meaning.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use config::{Finding, Kind};
use feed::State;
use model::{Diff, Snapshot};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

/// Quiet time after a configuration change before a snapshot is built.
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

/// Whether only endpoints changed, which must not wait.
fn is_urgent(changed: &BTreeSet<Kind>) -> bool {
    changed
        .iter()
        .all(|kind| matches!(kind, Kind::WorkloadEntry | Kind::EndpointSlice | Kind::Pod))
}

/// Builds snapshots until the feed or the service ends.
pub async fn run(mut states: States, epochs: watch::Sender<Option<Arc<Epoch>>>, shutdown: CancellationToken) {
    let mut built: Option<Arc<State>> = None;
    loop {
        let state = states.borrow_and_update().clone();
        if let Some(state) = state {
            let seen = Instant::now();
            let state = settle(&mut states, built.as_deref(), state).await;
            let previous = epochs.borrow().clone();
            if let Some(epoch) = next(previous.as_deref(), &state, seen) {
                epochs.send_replace(Some(Arc::new(epoch)));
            }
            built = Some(state);
        }
        tokio::select! {
            changed = states.changed() => if changed.is_err() { return },
            () = shutdown.cancelled() => return,
        }
    }
}

/// Waits for quiet, unless there is nothing yet or only endpoints changed. Gives the newest state.
async fn settle(states: &mut States, built: Option<&State>, mut state: Arc<State>) -> Arc<State> {
    let Some(built) = built else { return state };
    let end = Instant::now() + LONGEST_WAIT;
    while !is_urgent(&state.changed_kinds(built)) && Instant::now() < end {
        let quiet = (Instant::now() + QUIET).min(end);
        match timeout_at(quiet, states.changed()).await {
            Ok(Ok(())) => state = states.borrow_and_update().clone().unwrap_or(state),
            Ok(Err(_)) | Err(_) => break,
        }
    }
    state
}

/// The snapshot of a state; `None` when it means the same as the one before.
fn next(previous: Option<&Epoch>, state: &State, seen: Instant) -> Option<Epoch> {
    let snapshot = Snapshot::build(state.objects.values().cloned());
    if let Some(previous) = previous {
        if Diff::between(&previous.snapshot, &snapshot).is_empty() {
            return None;
        }
        tell(&snapshot.rejected, &previous.snapshot.rejected);
    } else {
        tell(&snapshot.rejected, &[]);
    }
    let number = previous.map_or(1, |previous| previous.number + 1);
    tracing::info!(number, objects = state.objects.len(), "new snapshot");
    Some(Epoch {
        number,
        snapshot: Arc::new(snapshot),
        seen,
    })
}

fn tell(now: &[Finding], before: &[Finding]) {
    for finding in now.iter().filter(|finding| !before.contains(finding)) {
        tracing::warn!("{finding}");
    }
}
