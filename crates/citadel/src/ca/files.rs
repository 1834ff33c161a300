//! Files with secrets: private folders, atomic writes, and a lock for first starts that race.

use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// Largest file that is read, in bytes.
pub const MAX_FILE: u64 = 1 << 20;

/// How names of temporary files begin.
const TEMPORARY: &str = ".new-";

/// A file could not be read, written or trusted.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system's error on reading.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The system's error on writing; what was there before is still there.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Larger than [`MAX_FILE`].
    #[error("{0} is larger than {MAX_FILE} bytes")]
    TooLarge(PathBuf),
    /// Others on the machine may read or change it.
    #[error(
        "{path} has mode {mode:04o}, so that others can use it: run chmod {wanted:o} on it, and replace the key if it was exposed"
    )]
    Loose {
        /// The file or folder.
        path: PathBuf,
        /// Its mode.
        mode: u32,
        /// The loosest mode that is accepted.
        wanted: u32,
    },
}

fn read_error(path: &Path) -> impl Fn(io::Error) -> FileError + '_ {
    move |source| FileError::Read {
        path: path.to_owned(),
        source,
    }
}

fn write_error(path: &Path) -> impl Fn(io::Error) -> FileError + '_ {
    move |source| FileError::Write {
        path: path.to_owned(),
        source,
    }
}

/// Makes a folder of mode 0700, or checks that an existing one is no looser.
///
/// # Errors
/// When it cannot be made, or others may use it.
pub fn private_dir(dir: &Path) -> Result<(), FileError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(write_error(dir))?;
    check_private_dir(dir)
}

/// As [`private_dir`], in a folder that must be there: what runs does not bring back what somebody took away.
///
/// # Errors
/// When it cannot be made, or others may use it.
pub fn private_subdir(dir: &Path) -> Result<(), FileError> {
    match fs::DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(write_error(dir)(error)),
        _ => check_private_dir(dir),
    }
}

/// Checks that a folder is there, and no looser than 0700.
///
/// # Errors
/// When it is not there, or others may use it.
pub fn check_private_dir(dir: &Path) -> Result<(), FileError> {
    check_mode(dir, &fs::metadata(dir).map_err(read_error(dir))?, 0o700)
}

/// Refuses what is open to more than `wanted` lets it be.
fn check_mode(path: &Path, metadata: &fs::Metadata, wanted: u32) -> Result<(), FileError> {
    let mode = metadata.permissions().mode() & 0o777;
    match mode & 0o077 & !wanted {
        0 => Ok(()),
        _ => Err(FileError::Loose {
            path: path.to_owned(),
            mode,
            wanted,
        }),
    }
}

/// Reads a file; `None` when there is none.
///
/// # Errors
/// When it cannot be read or is larger than [`MAX_FILE`].
pub fn read(path: &Path) -> Result<Option<Vec<u8>>, FileError> {
    Ok(open(path)?
        .map(|file| contents(path, &file))
        .transpose()?
        .map(|mut bytes| std::mem::take(&mut *bytes)))
}

/// Reads a file that only its owner may use (mode 0600 or stricter); `None` when there is none.
///
/// # Errors
/// When it cannot be read, is larger than [`MAX_FILE`], or others may use it.
pub fn read_private(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, FileError> {
    read_at_most(path, 0o600)
}

/// Reads a secret that was put there by others and may be read by the group (mode 0640), as with a mounted Secret of a
/// pod that is not root; `None` when there is none.
///
/// # Errors
/// As [`read_private`].
pub fn read_shared(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, FileError> {
    read_at_most(path, 0o640)
}

fn read_at_most(path: &Path, mode: u32) -> Result<Option<Zeroizing<Vec<u8>>>, FileError> {
    let Some(file) = open(path)? else {
        return Ok(None);
    };
    check_mode(path, &file.metadata().map_err(read_error(path))?, mode)?;
    contents(path, &file).map(Some)
}

fn open(path: &Path) -> Result<Option<File>, FileError> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(read_error(path)(error)),
    }
}

fn contents(path: &Path, file: &File) -> Result<Zeroizing<Vec<u8>>, FileError> {
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(MAX_FILE + 1)
        .read_to_end(&mut bytes)
        .map_err(read_error(path))?;
    match bytes.len() as u64 > MAX_FILE {
        true => Err(FileError::TooLarge(path.to_owned())),
        false => Ok(bytes),
    }
}

/// The files of a folder that only its owner may use (mode 0700 or stricter; 0750 for a mounted Secret), by their
/// extensions, sorted; none when there is no folder.
///
/// # Errors
/// When it cannot be read, or others may use it.
pub fn private_list(dir: &Path, extensions: &[&str]) -> Result<Vec<PathBuf>, FileError> {
    let metadata = match fs::metadata(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        found => found.map_err(read_error(dir))?,
    };
    check_mode(dir, &metadata, 0o750)?;
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir).map_err(read_error(dir))? {
        let path = entry.map_err(read_error(dir))?.path();
        let wanted = path.extension().and_then(|e| e.to_str());
        if wanted.is_some_and(|extension| extensions.contains(&extension)) {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// Writes a file whole or not at all, with this mode: a temporary file beside it, flushed to disk, then renamed.
///
/// # Errors
/// When the disk refuses; then the old file stays.
pub fn write_atomic(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    let failed = write_error(path);
    let dir = folder_of(path);
    let builder_mode = Permissions::from_mode(mode);
    let mut file = tempfile::Builder::new()
        .prefix(TEMPORARY)
        .permissions(builder_mode.clone())
        .tempfile_in(dir)
        .map_err(&failed)?;
    // Not left to the umask.
    file.as_file().set_permissions(builder_mode).map_err(&failed)?;
    file.write_all(bytes).map_err(&failed)?;
    file.as_file().sync_all().map_err(&failed)?;
    crash::point().map_err(&failed)?;
    file.persist(path).map_err(|e| failed(e.error))?;
    crash::point().map_err(&failed)?;
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed)
}

/// Removes a file when it is there.
///
/// # Errors
/// When the disk refuses.
pub fn remove(path: &Path) -> Result<(), FileError> {
    let failed = write_error(path);
    crash::point().map_err(&failed)?;
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(error)),
        _ => File::open(folder_of(path))
            .and_then(|dir| dir.sync_all())
            .map_err(failed),
    }
}

/// Removes temporary files that a crash left: they may hold keys. The folder's lock must be held.
///
/// # Errors
/// When the disk refuses.
pub fn sweep(dir: &Path) -> Result<(), FileError> {
    for entry in fs::read_dir(dir).map_err(read_error(dir))? {
        let entry = entry.map_err(read_error(dir))?;
        if entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

/// Places where a test lets the process end.
mod crash {
    #[cfg(not(test))]
    #[allow(clippy::unnecessary_wraps, reason = "it fails in tests")]
    pub(super) fn point() -> std::io::Result<()> {
        Ok(())
    }

    #[cfg(test)]
    pub(super) use super::crash_test::point;
}

#[cfg(test)]
pub(crate) mod crash_test {
    use std::cell::Cell;
    use std::io;

    thread_local! {
        static LEFT: Cell<Option<usize>> = const { Cell::new(None) };
    }

    /// Lets this thread's writing end at the point with this number, counted from 0; `None`: at none.
    pub(crate) fn at(number: Option<usize>) {
        LEFT.set(number);
    }

    pub(super) fn point() -> io::Result<()> {
        match LEFT.get() {
            Some(0) => Err(io::Error::other("crashed")),
            left => {
                LEFT.set(left.map(|left| left - 1));
                Ok(())
            }
        }
    }
}

/// Moves a file over another of the same folder, in one step that is on the disk when this returns.
///
/// # Errors
/// When the disk refuses; then both are as they were.
pub fn rename(from: &Path, to: &Path) -> Result<(), FileError> {
    let failed = write_error(to);
    crash::point().map_err(&failed)?;
    fs::rename(from, to).map_err(&failed)?;
    crash::point().map_err(&failed)?;
    File::open(folder_of(to))
        .and_then(|dir| dir.sync_all())
        .map_err(failed)
}

fn folder_of(path: &Path) -> &Path {
    path.parent()
        .filter(|dir| !dir.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

/// Waits for the folder's lock, which is released when the file is dropped or the process ends.
///
/// # Errors
/// When the lock file cannot be made.
pub fn lock(dir: &Path) -> Result<File, FileError> {
    let path = dir.join(".lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(write_error(&path))?;
    file.lock().map_err(write_error(&path))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn writes_are_private_and_leave_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        write_atomic(&path, b"one", 0o600).unwrap();
        write_atomic(&path, b"two", 0o600).unwrap();
        assert_eq!(read_private(&path).unwrap().unwrap().as_slice(), b"two");
        assert_eq!(mode(&path), 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn loose_files_and_folders_are_refused_with_the_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        write_atomic(&path, b"x", 0o640).unwrap();
        let error = read_private(&path).unwrap_err().to_string();
        assert!(
            error.contains("mode 0640") && error.contains("chmod 600"),
            "{error}"
        );
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        let error = private_dir(dir.path()).unwrap_err().to_string();
        assert!(error.contains("chmod 700"), "{error}");
        let made = dir.path().join("a/b");
        private_dir(&made).unwrap();
        assert_eq!(mode(&made), 0o700);
    }

    #[test]
    fn absent_is_not_an_error_and_huge_is() {
        let dir = tempfile::tempdir().unwrap();
        assert!(read(&dir.path().join("none")).unwrap().is_none());
        let path = dir.path().join("huge");
        fs::write(&path, vec![0; (MAX_FILE + 1) as usize]).unwrap();
        assert!(matches!(read(&path), Err(FileError::TooLarge(_))));
    }
}
