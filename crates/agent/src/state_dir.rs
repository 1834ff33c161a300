//! The agent's folder: readable by its user alone, used by one agent at a time.

use std::{
    ffi::OsStr,
    fs::{File, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use rustix::process::geteuid;
use tokio::net::UnixListener;

use crate::workload::WorkloadName;

/// Longest path of a Unix socket in bytes (`sun_path` of Linux, without the zero at its end).
const LONGEST_SOCKET: usize = 107;

/// The folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateDirError {
    /// It cannot be made, or belongs to somebody else.
    #[error("--state-dir {path}: {source}; give a folder that belongs to the agent's user")]
    Unusable {
        /// The folder or a file in it.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Another agent has it.
    #[error(
        "--state-dir {0}: in use by another argosy-agent; stop that one, or give each workload a folder of its own"
    )]
    InUse(PathBuf),
    /// Sockets have short paths.
    #[error(
        "--state-dir {0}: too long for a Unix socket (at most {LONGEST_SOCKET} bytes with the file's name)"
    )]
    TooLong(PathBuf),
}

/// The folder, locked as long as this lives.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    _lock: File,
}

/// Where a workload's agent keeps its files unless told: in the user's runtime folder (`XDG_RUNTIME_DIR`), else in a
/// folder of that user among temporary files.
pub fn default_path(
    runtime: Option<&OsStr>,
    temporary: &Path,
    user: u32,
    workload: &WorkloadName,
) -> PathBuf {
    let base = match runtime.map(Path::new).filter(|path| path.is_absolute()) {
        Some(runtime) => runtime.join("argosy"),
        None => temporary.join(format!("argosy-{user}")),
    };
    base.join(format!("{}.{}", workload.namespace, workload.name))
}

fn unusable(path: &Path) -> impl FnOnce(io::Error) -> StateDirError + use<> {
    let path = path.to_owned();
    move |source| StateDirError::Unusable { path, source }
}

/// Makes a folder that only this user can enter. Among temporary files, others could have put something there.
fn close(path: &Path) -> Result<(), StateDirError> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(unusable(path))?;
    let found = std::fs::symlink_metadata(path).map_err(unusable(path))?;
    if !found.is_dir() || found.uid() != geteuid().as_raw() {
        let source = io::Error::new(io::ErrorKind::PermissionDenied, "not a folder of this user");
        return Err(unusable(path)(source));
    }
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o700)).map_err(unusable(path))
}

impl StateDir {
    /// The folder at [`default_path`].
    ///
    /// # Errors
    /// Says what stands in the way.
    pub fn open_default(workload: &WorkloadName) -> Result<Self, StateDirError> {
        let runtime = std::env::var_os("XDG_RUNTIME_DIR");
        let user = geteuid().as_raw();
        let path = default_path(runtime.as_deref(), &std::env::temp_dir(), user, workload);
        path.parent().map_or(Ok(()), close)?;
        Self::open(&path)
    }

    /// Makes the folder (mode 0700) and locks it.
    ///
    /// # Errors
    /// Says what stands in the way.
    pub fn open(path: &Path) -> Result<Self, StateDirError> {
        let path = std::path::absolute(path).map_err(unusable(path))?;
        close(&path)?;
        let lock_path = path.join("agent.lock");
        let mut options = File::options();
        let lock = options
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&lock_path);
        let lock = lock.map_err(unusable(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StateDirError::InUse(path)),
            Err(TryLockError::Error(error)) => return Err(unusable(&lock_path)(error)),
        }
        let folder = Self { path, _lock: lock };
        if folder.socket().as_os_str().len() > LONGEST_SOCKET {
            return Err(StateDirError::TooLong(folder.path.clone()));
        }
        Ok(folder)
    }

    /// The Unix socket for ADS and SDS.
    pub fn socket(&self) -> PathBuf {
        self.path.join("agent.sock")
    }

    /// Envoy's bootstrap.
    pub fn bootstrap(&self) -> PathBuf {
        self.path.join("envoy.json")
    }

    /// Envoy's log, when it goes to a file.
    pub fn envoy_log(&self) -> PathBuf {
        self.path.join("envoy.log")
    }

    /// Listens on the socket, mode 0600. What an agent before this one left is replaced.
    ///
    /// # Errors
    /// When the folder cannot hold a socket.
    pub fn listen(&self) -> Result<UnixListener, StateDirError> {
        let path = self.socket();
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(unusable(&path)(error)),
            _ => {}
        }
        let listener = UnixListener::bind(&path).map_err(unusable(&path))?;
        // Nobody else could connect meanwhile: the folder is closed to them.
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).map_err(unusable(&path))?;
        Ok(listener)
    }

    /// Writes a file (mode 0600) under another name, then moves it, so that no reader sees half of it.
    ///
    /// # Errors
    /// When the disk is full or the folder is gone.
    pub fn write(&self, path: &Path, content: &[u8]) -> Result<(), StateDirError> {
        let mut file = tempfile::Builder::new()
            .prefix(".new-")
            .tempfile_in(&self.path)
            .map_err(unusable(path))?;
        io::Write::write_all(&mut file, content).map_err(unusable(path))?;
        file.persist(path).map_err(|error| unusable(path)(error.error))?;
        Ok(())
    }
}

impl Drop for StateDir {
    fn drop(&mut self) {
        // It may never have been made; a socket left behind is replaced at the next start.
        let _ = std::fs::remove_file(self.socket());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[tokio::test]
    async fn folder_and_socket_are_closed_to_others() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("a/b");
        std::fs::create_dir_all(&path).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        let folder = StateDir::open(&path).unwrap();
        assert_eq!(mode(&path), 0o700);
        drop(folder.listen().unwrap());
        let _again = folder.listen().unwrap();
        assert_eq!(mode(&folder.socket()), 0o600);
        folder.write(&folder.bootstrap(), b"{}").unwrap();
        assert_eq!(mode(&folder.bootstrap()), 0o600);
    }

    #[test]
    fn the_default_is_the_users_own() {
        let workload = "shop/catalog-v1".parse().unwrap();
        let check = |runtime: Option<&str>, expected: &str| {
            let path = default_path(runtime.map(OsStr::new), Path::new("/tmp"), 1000, &workload);
            assert_eq!(path, Path::new(expected), "{runtime:?}");
        };
        check(Some("/run/user/1000"), "/run/user/1000/argosy/shop.catalog-v1");
        check(Some(""), "/tmp/argosy-1000/shop.catalog-v1");
        check(None, "/tmp/argosy-1000/shop.catalog-v1");
    }

    #[test]
    fn a_link_of_somebody_else_is_not_followed() {
        let parent = tempfile::tempdir().unwrap();
        let (real, link) = (parent.path().join("real"), parent.path().join("link"));
        std::fs::create_dir(&real).unwrap();
        std::fs::set_permissions(&real, PermissionsExt::from_mode(0o755)).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let refusal = StateDir::open(&link).unwrap_err().to_string();
        assert!(refusal.contains("not a folder of this user"), "{refusal}");
        assert_eq!(mode(&real), 0o755);
    }

    #[test]
    fn one_agent_at_a_time() {
        let parent = tempfile::tempdir().unwrap();
        let first = StateDir::open(parent.path()).unwrap();
        let refusal = StateDir::open(parent.path()).unwrap_err().to_string();
        assert!(refusal.contains("in use by another argosy-agent"), "{refusal}");
        drop(first);
        StateDir::open(parent.path()).unwrap();
    }

    #[test]
    fn a_path_that_is_too_long_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        let refusal = StateDir::open(&parent.path().join("x".repeat(100)))
            .unwrap_err()
            .to_string();
        assert!(refusal.contains("too long for a Unix socket"), "{refusal}");
    }
}
