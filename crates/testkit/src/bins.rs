//! The workspace's own binaries, as cargo built them beside the running test.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::Context;

/// Finds the binary `name` in the target folder of the running executable, with the same profile.
///
/// A test cannot have cargo build the binaries of other packages, so a missing one is an error that says what to run; one that
/// is older than a source it was built from is a warning, as cargo alone knows for certain.
///
/// # Errors
/// When it is not there.
pub fn find(name: &str) -> anyhow::Result<PathBuf> {
    let exe = std::env::current_exe().context("cannot tell where this executable is")?;
    let dir = profile_dir(&exe).with_context(|| format!("{} is in no target folder", exe.display()))?;
    let path = dir.join(name);
    anyhow::ensure!(
        path.is_file(),
        "{} is missing: run `cargo build --workspace --bins`",
        path.display()
    );
    if let Some(source) = newer_source(&path) {
        eprintln!(
            "{} is older than {source}: run `cargo build --workspace --bins`",
            path.display()
        );
    }
    Ok(path)
}

/// `target/PROFILE` of an executable in it or in its `deps`.
fn profile_dir(exe: &Path) -> Option<&Path> {
    let dir = exe.parent()?;
    if dir.ends_with("deps") || dir.ends_with("examples") {
        dir.parent()
    } else {
        Some(dir)
    }
}

/// A source named in cargo's dependency file (`NAME.d`: `BINARY: SOURCE SOURCE …`) that changed after the build.
fn newer_source(binary: &Path) -> Option<String> {
    let built = modified(binary)?;
    let list = std::fs::read_to_string(binary.with_extension("d")).ok()?;
    let (_, sources) = list.split_once(':')?;
    let newer = |source: &&str| modified(Path::new(source)).is_some_and(|at| at > built);
    sources.split_whitespace().find(newer).map(str::to_owned)
}

fn modified(path: &Path) -> Option<SystemTime> {
    path.metadata().ok()?.modified().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_binary_says_how_to_get_it() {
        let error = find("no-such-binary").unwrap_err().to_string();
        assert!(error.contains("cargo build"), "{error}");
    }

    #[test]
    fn a_binary_older_than_its_source_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let (binary, source) = (dir.path().join("tool"), dir.path().join("main.rs"));
        std::fs::write(&binary, "").unwrap();
        std::fs::write(&source, "").unwrap();
        std::fs::write(
            dir.path().join("tool.d"),
            format!("{}: {}", binary.display(), source.display()),
        )
        .unwrap();
        let at = |path: &Path, seconds: u64| {
            let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
            std::fs::File::options()
                .write(true)
                .open(path)
                .unwrap()
                .set_modified(time)
                .unwrap();
        };
        at(&binary, 100);
        at(&source, 200);
        assert_eq!(newer_source(&binary).as_deref(), source.to_str());
        at(&source, 50);
        assert_eq!(newer_source(&binary), None);
    }
}
