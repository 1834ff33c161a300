//! A file of lines, and the old ones that it made room for: `NAME-TIME.EXT` beside it, as Istio's adapter names them.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use policy::Rotation;
use time::OffsetDateTime;
use time::macros::format_description;

/// A file that is written to.
#[derive(Debug)]
pub(super) struct Files {
    path: PathBuf,
    file: File,
    size: u64,
    rotation: Option<Rotation>,
}

impl Files {
    /// Opens it to append, and makes its folder.
    pub(super) fn open(path: PathBuf, rotation: Option<Rotation>, now: SystemTime) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let file = append(&path)?;
        let size = file.metadata()?.len();
        let files = Self {
            path,
            file,
            size,
            rotation,
        };
        files.forget(now);
        Ok(files)
    }

    /// Writes lines. They begin a new file where the old one would become too long.
    pub(super) fn write(&mut self, text: &[u8], now: SystemTime) -> io::Result<()> {
        let wanted = self.size.saturating_add(text.len() as u64);
        if self.size > 0 && self.rotation.is_some_and(|rotation| wanted > rotation.bytes) {
            self.rotate(now)?;
        }
        self.file.write_all(text)?;
        self.size = self.size.saturating_add(text.len() as u64);
        Ok(())
    }

    fn rotate(&mut self, now: SystemTime) -> io::Result<()> {
        std::fs::rename(&self.path, self.backup(now))?;
        self.file = append(&self.path)?;
        self.size = 0;
        self.forget(now);
        Ok(())
    }

    /// A name that is not taken.
    fn backup(&self, now: SystemTime) -> PathBuf {
        let form = format_description!("[year]-[month]-[day]T[hour]-[minute]-[second].[subsecond digits:3]");
        let (stem, extension) = self.names();
        let mut at = now;
        loop {
            let time = OffsetDateTime::from(at).format(&form).unwrap_or_default();
            let path = self.path.with_file_name(format!("{stem}-{time}{extension}"));
            if !path.exists() {
                return path;
            }
            at += Duration::from_millis(1);
        }
    }

    /// The name before the last dot, and the rest.
    fn names(&self) -> (String, String) {
        let part = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
        let extension = self.path.extension();
        let extension = extension.map(|_| format!(".{}", part(extension)));
        (part(self.path.file_stem()), extension.unwrap_or_default())
    }

    /// Old files, newest first: their names sort by time.
    fn backups(&self) -> Vec<PathBuf> {
        let (stem, extension) = self.names();
        let is_backup = |path: &Path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let rest = name.strip_prefix(&format!("{stem}-"));
            let time = rest.and_then(|rest| rest.strip_suffix(extension.as_str()));
            time.is_some_and(|time| time.len() == "2006-01-02T15-04-05.000".len())
        };
        let folder = self.path.parent().map(std::fs::read_dir);
        let entries = folder.and_then(Result::ok).into_iter().flatten().flatten();
        let mut backups: Vec<PathBuf> = entries.map(|e| e.path()).filter(|path| is_backup(path)).collect();
        backups.sort_unstable();
        backups.reverse();
        backups
    }

    /// Removes old files that are too many or too old. One that cannot be removed stays.
    fn forget(&self, now: SystemTime) {
        let Some(rotation) = self.rotation else {
            return;
        };
        let aged = |path: &Path| {
            let written = path.metadata().and_then(|metadata| metadata.modified()).ok();
            let age = written.and_then(|at| now.duration_since(at).ok());
            age.zip(rotation.age)
                .is_some_and(|(age, most)| age.as_secs() > most)
        };
        for (i, path) in self.backups().iter().enumerate() {
            if rotation.files.is_some_and(|most| i >= most) || aged(path) {
                let _ = std::fs::remove_file(path);
            }
        }
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn a_full_file_makes_room_and_the_oldest_goes() {
        let folder = testkit::Rundir::new("argosy-stdio").unwrap();
        let rotation = Rotation {
            bytes: 10,
            age: None,
            files: Some(1),
        };
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_500_000_000);
        let mut files = Files::open(folder.path().join("a.log"), Some(rotation), now).unwrap();
        for (i, line) in ["first line\n", "second\n", "3\n", "fourth\n"].iter().enumerate() {
            files
                .write(line.as_bytes(), now + Duration::from_secs(i as u64))
                .unwrap();
        }
        assert_eq!(names(folder.path()), ["a-2017-07-14T02-40-03.000.log", "a.log"]);
        let old = folder.path().join("a-2017-07-14T02-40-03.000.log");
        assert_eq!(std::fs::read_to_string(old).unwrap(), "second\n3\n");
        let current = folder.path().join("a.log");
        assert_eq!(std::fs::read_to_string(&current).unwrap(), "fourth\n");
        drop(files);
        let mut again = Files::open(current.clone(), Some(rotation), now).unwrap();
        again.write(b"5\n", now).unwrap();
        assert_eq!(std::fs::read_to_string(current).unwrap(), "fourth\n5\n");
    }

    #[test]
    fn old_files_go_by_age() {
        let folder = testkit::Rundir::new("argosy-stdio").unwrap();
        let old = folder.path().join("a-2001-01-01T00-00-00.000.log");
        std::fs::write(&old, "x").unwrap();
        std::fs::write(folder.path().join("a-other.log"), "x").unwrap();
        let rotation = Rotation {
            bytes: 10,
            age: Some(3600),
            files: None,
        };
        let later = SystemTime::now() + Duration::from_secs(7200);
        Files::open(folder.path().join("a.log"), Some(rotation), later).unwrap();
        assert_eq!(names(folder.path()), ["a-other.log", "a.log"]);
    }
}
