//! Envoy's command line, as a pure function of [`Options`], and finding its program.

use std::{
    ffi::{OsStr, OsString},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

/// How Envoy is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The program, already found.
    pub program: PathBuf,
    /// The bootstrap file.
    pub bootstrap: PathBuf,
    /// `--log-level`.
    pub log_level: String,
    /// `--component-log-level`, such as `upstream:debug,config:trace`; empty for none.
    pub component_log_level: String,
    /// Worker threads.
    pub concurrency: u32,
    /// How long a listener drains after it was removed or `/drain_listeners?graceful` was asked.
    pub drain_time: Duration,
    /// Further flags, as they are.
    pub extra: Vec<OsString>,
}

impl Options {
    /// The arguments after the program's name.
    ///
    /// Hot restart is off: several Envoys on one machine would meet in base id 0. Draining is immediate, as in
    /// Istio: each response that is due asks its client to go elsewhere. That Pilot uses deprecated fields is no news
    /// for a workload's operator, and would be told for each route.
    pub fn arguments(&self) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = vec!["--config-path".into(), self.bootstrap.clone().into()];
        let fixed = [
            "--disable-hot-restart",
            "--skip-deprecated-logs",
            "--drain-strategy",
            "immediate",
            "--drain-time-s",
        ];
        arguments.extend(fixed.map(Into::into));
        arguments.push(self.drain_time.as_secs().max(1).to_string().into());
        arguments.extend(["--log-level".into(), self.log_level.clone().into()]);
        if !self.component_log_level.is_empty() {
            arguments.extend([
                "--component-log-level".into(),
                self.component_log_level.clone().into(),
            ]);
        }
        arguments.extend(["--concurrency".into(), self.concurrency.to_string().into()]);
        arguments.extend(self.extra.iter().cloned());
        arguments
    }
}

/// Envoy cannot be run as it was given.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// A bare name that no folder of `PATH` holds.
    #[error("--envoy {0}: no such program on PATH; install Envoy, or give its full path")]
    NotOnPath(String),
    /// The path cannot be read.
    #[error("--envoy {path}: {source}; give the path of Envoy's program")]
    Unreadable {
        /// What `--envoy` said.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A folder, or a file that nobody may execute.
    #[error(
        "--envoy {0}: not a program; give the path of Envoy's program, and make it executable (chmod +x)"
    )]
    NotExecutable(PathBuf),
}

/// Finds the program that `--envoy` names: a path when it has a slash, else the first on `path`.
///
/// # Errors
/// Says whether it is missing or cannot be executed.
pub fn find(envoy: &Path, path: Option<&OsStr>) -> Result<PathBuf, FindError> {
    if envoy.components().count() > 1 || envoy.is_absolute() {
        return check(envoy);
    }
    let folders = std::env::split_paths(path.unwrap_or_default());
    let found = folders
        .map(|folder| folder.join(envoy))
        .find(|candidate| check(candidate).is_ok());
    found.ok_or_else(|| FindError::NotOnPath(envoy.display().to_string()))
}

fn check(path: &Path) -> Result<PathBuf, FindError> {
    let unreadable = |source| FindError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let metadata = std::fs::metadata(path).map_err(unreadable)?;
    if !metadata.is_file() || metadata.permissions().mode() & 0o111 == 0 {
        return Err(FindError::NotExecutable(path.to_owned()));
    }
    std::path::absolute(path).map_err(unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_line() {
        let mut options = Options {
            program: "/usr/bin/envoy".into(),
            bootstrap: "/run/a/envoy.json".into(),
            log_level: "warning".into(),
            component_log_level: String::new(),
            concurrency: 2,
            drain_time: Duration::from_secs(45),
            extra: Vec::new(),
        };
        let line = |options: &Options| options.arguments().join(OsStr::new(" ")).into_string().unwrap();
        assert_eq!(
            line(&options),
            "--config-path /run/a/envoy.json --disable-hot-restart --skip-deprecated-logs --drain-strategy immediate \
             --drain-time-s 45 --log-level warning --concurrency 2"
        );
        options.component_log_level = "upstream:debug".into();
        options.extra = vec!["--enable-fine-grain-logging".into()];
        assert!(line(&options).ends_with(
            "--log-level warning --component-log-level upstream:debug --concurrency 2 --enable-fine-grain-logging"
        ));
    }

    #[test]
    fn programs_are_found_or_the_reason_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("envoy");
        let path = Some(folder.path().as_os_str());
        let refusal = |envoy: &Path| find(envoy, path).unwrap_err().to_string();

        assert_eq!(
            refusal(Path::new("envoy")),
            "--envoy envoy: no such program on PATH; install Envoy, or give its full path"
        );
        assert!(
            refusal(&program).contains("No such file"),
            "{}",
            refusal(&program)
        );
        std::fs::write(&program, "").unwrap();
        assert!(
            refusal(&program).contains("make it executable"),
            "{}",
            refusal(&program)
        );
        assert!(
            refusal(folder.path()).contains("not a program"),
            "{}",
            refusal(folder.path())
        );

        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
        assert_eq!(find(&program, None).unwrap(), program);
        assert_eq!(find(Path::new("envoy"), path).unwrap(), program);
    }
}
