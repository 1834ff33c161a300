//! Watches the folder and keeps the store of its objects current: the shell around `folder` and `store`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::folder::{Folder, Look};
use crate::sources::Outlet;
use crate::store::Store;
use crate::touched::{Events, QUIET, Touched};

/// Events that follow one another within this time are a burst, and read together; the first after a rest is read at once.
const BURST: Duration = Duration::from_millis(10);
/// A folder that never is quiet is read nevertheless after this time.
const LONGEST_WAIT: Duration = Duration::from_millis(400);
/// How often the folder is compared without an event: some file systems send none, and a folder that was
/// replaced as a whole is no longer the one that is watched.
const COMPARE: Duration = Duration::from_secs(1);
/// Of the time between two comparisons, how many times as long it is as a comparison takes: thousands of files are compared
/// seldom, so that they cost next to nothing while nothing happens.
const IDLE: u32 = 250;
/// Longest time between two comparisons.
const SELDOM: Duration = Duration::from_secs(30);

/// Reads the folder into `store` and then whatever changes in it, until `shutdown`.
pub(crate) async fn run(root: PathBuf, store: Store, outlet: Outlet, shutdown: CancellationToken) {
    let mut source = Source {
        folder: Folder::new(&root),
        store,
        outlet,
    };
    let (wakes, mut woken) = mpsc::channel(1);
    let events = Arc::new(Events::default());
    loop {
        // A new watcher before each read after a loss: nothing falls between watching and reading.
        let watcher = arm(&root, &events, &wakes);
        source = source.read(Touched::Anything).await;
        let lost = source.follow(&mut woken, &events, watcher.is_some(), &shutdown);
        let Some(next) = lost.await else { return };
        source = next;
    }
}

struct Source {
    folder: Folder,
    store: Store,
    outlet: Outlet,
}

impl Source {
    /// Reads on events and by comparison. Returns when the watcher missed a change, and is to be made anew;
    /// `None` at shutdown.
    async fn follow(
        mut self,
        woken: &mut mpsc::Receiver<()>,
        events: &Events,
        watching: bool,
        shutdown: &CancellationToken,
    ) -> Option<Self> {
        let mut rest = COMPARE;
        let mut woken_at: Option<Instant> = None;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return None,
                _ = woken.recv() => {
                    let is_first = woken_at.is_none_or(|before| before.elapsed() > BURST);
                    if !is_first || !events.are_whole() {
                        settle(woken).await;
                    }
                    woken_at = Some(Instant::now());
                    self = self.read(events.drain()).await;
                }
                () = tokio::time::sleep(rest) => {
                    let start = Instant::now();
                    let (this, changed) = self.blocking(|source| source.folder.changed()).await;
                    self = this;
                    rest = rest_after(start.elapsed());
                    if changed || !watching {
                        return Some(self);
                    }
                }
            }
        }
    }

    async fn read(self, touched: Touched) -> Self {
        let (source, changed) = self
            .blocking(move |source| {
                let touched = if source.store.is_in_doubt() {
                    Touched::Anything
                } else {
                    touched
                };
                match source.folder.look(&touched) {
                    Ok(Look::Whole(scan)) => source.store.apply(scan),
                    Ok(Look::Part(part)) => source.store.apply_part(part),
                    Err(error) => source.store.folder_lost(&error.to_string()),
                }
            })
            .await;
        if changed || !source.outlet.has_published() {
            source.outlet.publish(Arc::new(source.store.state()));
        }
        source
    }

    /// File work off the async threads.
    async fn blocking<T: Send + 'static>(
        mut self,
        work: impl FnOnce(&mut Self) -> T + Send + 'static,
    ) -> (Self, T) {
        let done = tokio::task::spawn_blocking(move || {
            let result = work(&mut self);
            (self, result)
        });
        match done.await {
            Ok(done) => done,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}

/// How long to leave the folder alone after a comparison that took so long.
fn rest_after(comparison: Duration) -> Duration {
    (comparison * IDLE).clamp(COMPARE, SELDOM)
}

async fn settle(woken: &mut mpsc::Receiver<()>) {
    let end = Instant::now() + LONGEST_WAIT;
    loop {
        let quiet = (Instant::now() + QUIET).min(end);
        if timeout_at(quiet, woken.recv()).await.is_err() || quiet == end {
            sleep_until(quiet).await;
            return;
        }
    }
}

/// Watches the folder. `None` where the system cannot, which the comparison makes up for.
fn arm(root: &Path, events: &Arc<Events>, wakes: &mpsc::Sender<()>) -> Option<RecommendedWatcher> {
    let (events, wakes) = (events.clone(), wakes.clone());
    let wake = move |event: notify::Result<notify::Event>| {
        if events.take(event) {
            // A full channel holds a wake that has not been looked at yet; that one is enough.
            _ = wakes.try_send(());
        }
    };
    let mut watcher = notify::recommended_watcher(wake)
        .inspect_err(|error| tracing::warn!(%error, "cannot watch files; comparing every second instead"))
        .ok()?;
    watcher.watch(root, RecursiveMode::Recursive).ok()?;
    Some(watcher)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tokio::sync::watch;

    use super::*;
    use crate::sources::{self, Inlet};
    use crate::store::State;

    fn service(name: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: shop}}\nspec:\n  ports: [{{name: http, port: 80}}]\n"
        )
    }

    async fn names(states: &mut watch::Receiver<Option<Arc<State>>>, expected: &[&str]) {
        let seen = |state: &Option<Arc<State>>| {
            state.as_ref().is_some_and(|state| {
                state
                    .objects
                    .iter()
                    .map(|o| o.meta.name.as_str())
                    .eq(expected.iter().copied())
            })
        };
        let found = tokio::time::timeout(Duration::from_secs(20), states.wait_for(seen)).await;
        assert!(found.is_ok(), "never saw {expected:?}");
    }

    #[test]
    fn many_files_are_compared_seldom() {
        for (took, rest) in [(1, 1000), (20, 5000), (1000, 30_000)] {
            let rested = rest_after(Duration::from_millis(took));
            assert_eq!(rested, Duration::from_millis(rest), "{took} ms");
        }
    }

    #[tokio::test]
    async fn follows_writes_renames_and_a_folder_that_goes_and_comes_back() {
        let parent = tempfile::tempdir().unwrap();
        let root = parent.path().join("config");
        fs::create_dir(&root).unwrap();
        let (outlet, inlet) = sources::channel("the folder", "reading");
        let mut seen = Inlet::states(&inlet);
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(run(root.clone(), Store::default(), outlet, shutdown.clone()));
        names(&mut seen, &[]).await;
        fs::write(root.join("a.yaml"), service("a")).unwrap();
        names(&mut seen, &["a"]).await;
        fs::write(parent.path().join("new"), service("b")).unwrap();
        fs::rename(parent.path().join("new"), root.join("a.yaml")).unwrap();
        names(&mut seen, &["b"]).await;
        fs::rename(&root, parent.path().join("away")).unwrap();
        let lost =
            |state: &Option<Arc<State>>| state.as_ref().is_some_and(|state| !state.findings.is_empty());
        tokio::time::timeout(Duration::from_secs(20), seen.wait_for(lost))
            .await
            .expect("told")
            .unwrap();
        names(&mut seen, &["b"]).await;
        fs::create_dir(&root).unwrap();
        fs::write(root.join("c.yaml"), service("c")).unwrap();
        names(&mut seen, &["c"]).await;
        fs::write(root.join("d.yaml"), service("d")).unwrap();
        names(&mut seen, &["c", "d"]).await;
        shutdown.cancel();
        task.await.unwrap();
    }
}
