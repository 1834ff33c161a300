//! Files of a folder that somebody watches.

use std::io::Write;
use std::path::Path;

use anyhow::Context;

/// Replaces a file in one step, so that no reader sees half of it: written beside it, then renamed.
///
/// # Errors
/// When the folder is missing or not writable.
pub fn write_atomic(path: &Path, contents: impl AsRef<[u8]>) -> anyhow::Result<()> {
    let dir = path
        .parent()
        .with_context(|| format!("{} has no folder", path.display()))?;
    let mut file = tempfile::Builder::new().prefix(".edit-").tempfile_in(dir)?;
    file.write_all(contents.as_ref())?;
    file.persist(path)
        .with_context(|| format!("cannot replace {}", path.display()))?;
    Ok(())
}

/// Copies a folder with all that is in it; file modes are kept, symbolic links followed.
///
/// # Errors
/// What reading or writing a file gives.
pub fn copy_dir(from: &Path, to: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_dir(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
