//! When a watcher of a folder sees a change: Galley's sees it at the same time, before it does anything about it.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use notify::event::{ModifyKind, RenameMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use parking_lot::Mutex;

/// Watches a folder as Galley does.
pub(crate) struct Sight {
    seen: Arc<Mutex<Option<Instant>>>,
    _watcher: RecommendedWatcher,
}

impl Sight {
    /// Watches from now on.
    pub(crate) fn of(folder: &Path) -> anyhow::Result<Self> {
        let seen = Arc::new(Mutex::new(None));
        let last = seen.clone();
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            if event.is_ok_and(|event| is_change(&event)) {
                last.lock().get_or_insert_with(Instant::now);
            }
        })?;
        watcher.watch(folder, RecursiveMode::Recursive)?;
        Ok(Self {
            seen,
            _watcher: watcher,
        })
    }

    /// When the first change since the last call was seen.
    pub(crate) fn take(&self) -> Option<Instant> {
        self.seen.lock().take()
    }
}

/// Files are put in place by their renaming.
fn is_change(event: &Event) -> bool {
    matches!(event.kind, EventKind::Modify(ModifyKind::Name(RenameMode::To)))
}
