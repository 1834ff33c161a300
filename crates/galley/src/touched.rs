//! Which files a file system's events are about, and when their writers are done with them.
//!
//! Linux says when a file that was written to is closed: until then it may be half written, from then on nothing is worth
//! waiting for. Other systems do not, so there a quiet time has to do.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, CreateKind, ModifyKind};
use notify::{Event, EventKind};
use parking_lot::Mutex;

/// Whether the end of writing is told.
const TELLS_END: bool = cfg!(target_os = "linux");
/// Quiet time after the last event before files are read, unless one comes after a rest that is whole.
pub(crate) const QUIET: Duration = Duration::from_millis(if TELLS_END { 2 } else { 25 });
/// More files than this at once are not told apart: all are looked at.
const MANY: usize = 256;

/// What events have touched since the last look.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) enum Touched {
    /// Nothing.
    #[default]
    Nothing,
    /// These paths.
    Files(BTreeSet<PathBuf>),
    /// Folders, or what cannot be told.
    Anything,
}

impl Touched {
    fn add(&mut self, paths: Vec<PathBuf>) {
        match self {
            Self::Nothing => *self = Self::Files(paths.into_iter().collect()),
            Self::Files(known) if known.len() + paths.len() <= MANY => known.extend(paths),
            Self::Files(_) | Self::Anything => *self = Self::Anything,
        }
    }
}

/// Collects events from the watcher's thread.
#[derive(Debug, Default)]
pub(crate) struct Events(Mutex<Touched>);

impl Events {
    /// Takes an event; says whether it is time to look.
    pub(crate) fn take(&self, event: notify::Result<Event>) -> bool {
        let mut touched = self.0.lock();
        match event {
            Ok(event) if event.need_rescan() => *touched = Touched::Anything,
            Ok(event) => match kind(&event) {
                Kind::Ends => {
                    let seen: Vec<_> = event.paths.into_iter().filter(|path| !is_hidden(path)).collect();
                    if seen.is_empty() {
                        return false;
                    }
                    touched.add(seen);
                }
                Kind::Tree => *touched = Touched::Anything,
                Kind::Begins => return false,
            },
            Err(_) => *touched = Touched::Anything,
        }
        true
    }

    /// Whether all that was touched can be read as it is: files, whose writers are done with them. A file that is gone may be
    /// on its way to another name, and a folder's files may still come.
    pub(crate) fn are_whole(&self) -> bool {
        match &*self.0.lock() {
            Touched::Files(paths) => TELLS_END && paths.iter().all(|path| is_file(path)),
            Touched::Nothing | Touched::Anything => false,
        }
    }

    /// What was touched since the last call.
    pub(crate) fn drain(&self) -> Touched {
        std::mem::take(&mut self.0.lock())
    }
}

/// What an event says of its paths.
enum Kind {
    /// They can be read.
    Ends,
    /// A writer has begun, or nothing changed; more will come if it is worth looking.
    Begins,
    /// Folders came or went.
    Tree,
}

fn kind(event: &Event) -> Kind {
    match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => Kind::Ends,
        EventKind::Access(_) => Kind::Begins,
        // A link is whole when it is there; a file's end is told.
        EventKind::Create(CreateKind::File) if TELLS_END && event.paths.iter().all(|path| is_new(path)) => {
            Kind::Begins
        }
        EventKind::Modify(ModifyKind::Data(_)) if TELLS_END => Kind::Begins,
        EventKind::Create(CreateKind::File) | EventKind::Modify(ModifyKind::Data(_)) => Kind::Ends,
        EventKind::Modify(ModifyKind::Name(_) | ModifyKind::Metadata(_)) => Kind::Ends,
        _ => Kind::Tree,
    }
}

/// Whether it is left out of a folder by its name, as the files are that writers rename when they are done. What begins with two
/// dots is how volumes change in Kubernetes.
fn is_hidden(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| name.starts_with('.') && !name.starts_with(".."))
}

fn is_file(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file())
}

/// Whether it is a file of one name, which somebody has open to write it.
fn is_new(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.nlink() == 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use notify::event::{DataChange, RemoveKind, RenameMode};

    fn check(kinds: &[EventKind], looks: bool, expected: &Touched) {
        let events = Events::default();
        let mut looked = false;
        for kind in kinds {
            looked |= events.take(Ok(Event::new(*kind).add_path("a.yaml".into())));
        }
        assert_eq!((looked, &events.drain()), (looks, expected), "{kinds:?}");
    }

    #[test]
    fn files_are_read_when_their_writers_are_done() {
        let file = || Touched::Files(["a.yaml".into()].into());
        let data = EventKind::Modify(ModifyKind::Data(DataChange::Any));
        let closed = EventKind::Access(AccessKind::Close(AccessMode::Write));
        check(
            &[EventKind::Access(AccessKind::Open(AccessMode::Any))],
            false,
            &Touched::Nothing,
        );
        check(
            &[data],
            !TELLS_END,
            &if TELLS_END { Touched::Nothing } else { file() },
        );
        check(&[data, closed], true, &file());
        check(
            &[EventKind::Modify(ModifyKind::Name(RenameMode::To))],
            true,
            &file(),
        );
        check(
            &[closed, EventKind::Remove(RemoveKind::Folder)],
            true,
            &Touched::Anything,
        );
    }

    #[test]
    fn a_file_that_is_there_is_whole_and_one_that_is_gone_may_come_back() {
        let dir = tempfile::tempdir().unwrap();
        let (here, gone) = (dir.path().join("a.yaml"), dir.path().join("b.yaml"));
        std::fs::write(&here, "").unwrap();
        let check = |paths: &[&Path], expected: bool| {
            let events = Events::default();
            for path in paths {
                let kind = EventKind::Modify(ModifyKind::Name(RenameMode::To));
                events.take(Ok(Event::new(kind).add_path(path.to_path_buf())));
            }
            assert_eq!(events.are_whole(), expected && TELLS_END, "{paths:?}");
        };
        check(&[&here], true);
        check(&[&gone], false);
        check(&[&here, &gone], false);
        check(&[dir.path()], false);
        check(&[], false);
    }

    #[test]
    fn a_hidden_file_is_looked_at_when_it_gets_its_name() {
        let (events, hidden) = (Events::default(), Path::new(".a.yaml.new"));
        let renamed = |mode| Event::new(EventKind::Modify(ModifyKind::Name(mode)));
        let closed = Event::new(EventKind::Access(AccessKind::Close(AccessMode::Write)));
        assert!(!events.take(Ok(closed.add_path(hidden.into()))));
        assert!(!events.take(Ok(renamed(RenameMode::From).add_path(hidden.into()))));
        let both = renamed(RenameMode::Both).add_path(hidden.into());
        assert!(events.take(Ok(both.add_path("a.yaml".into()))));
        assert_eq!(events.drain(), Touched::Files(["a.yaml".into()].into()));
        assert!(events.take(Ok(renamed(RenameMode::To).add_path("..data".into()))));
    }

    #[test]
    fn many_files_are_not_told_apart() {
        let events = Events::default();
        for at in 0..=MANY {
            let event = Event::new(EventKind::Modify(ModifyKind::Name(RenameMode::To)));
            assert!(events.take(Ok(event.add_path(format!("{at}.yaml").into()))));
        }
        assert_eq!(events.drain(), Touched::Anything);
        assert_eq!(events.drain(), Touched::Nothing);
    }
}
