//! One run of Envoy: its process, and its log passed on while its last lines are kept.

use std::{
    io,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    process::{Child, Command},
    task::JoinHandle,
    time::Instant,
};

use super::{command::Options, diagnose::Tail, guard};

/// How long the rest of a log is waited for after its process ended (a child of its own may hold the pipe).
const LOG_REST: Duration = Duration::from_millis(500);

/// Where Envoy's log and standard output go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogTarget {
    /// The agent's own standard error and output.
    Inherit,
    /// Appended to a file.
    File(PathBuf),
}

/// Starts Envoy.
#[derive(Debug, Clone)]
pub struct Launcher {
    /// What to call and how.
    pub options: Options,
    /// This program itself, for [`guard::command`].
    pub own: Option<PathBuf>,
    /// Where output goes.
    pub log: LogTarget,
}

/// Envoy could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The system started no process.
    #[error("cannot start {program}: {source}; check --envoy")]
    Spawn {
        /// The program.
        program: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The log file cannot be written.
    #[error("cannot write Envoy's log {path}: {source}; free or correct --state-dir")]
    Log {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

/// A started Envoy. Dropping it kills the process.
#[derive(Debug)]
pub struct Running {
    child: Child,
    log: JoinHandle<Tail>,
    started: Instant,
}

/// An Envoy that ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit status.
    pub status: ExitStatus,
    /// Its last lines.
    pub tail: Tail,
    /// How long it ran.
    pub ran: Duration,
}

impl Launcher {
    /// Starts Envoy in a process group of its own, so that Ctrl-C at a terminal reaches only the agent, which then
    /// drains Envoy. The thread that calls this must live as long as the agent (see [`guard`]): a thread of the
    /// runtime does, one for blocking work may not.
    ///
    /// # Errors
    /// When the log file or the process cannot be had.
    pub async fn start(&self) -> Result<Running, StartError> {
        let program = &self.options.program;
        let spawn_error = |source| StartError::Spawn {
            program: program.clone(),
            source,
        };
        let (stdout, log) = self.outputs().await?;
        let guarded = guard::command(self.own.as_deref(), program, &self.options.arguments());
        let mut command = Command::from(guarded);
        command.stdin(Stdio::null()).stdout(stdout).stderr(Stdio::piped());
        let mut child = command
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(spawn_error)?;
        let stderr = child
            .stderr
            .take()
            .ok_or_else(|| spawn_error(io::Error::other("no pipe for its log")))?;
        Ok(Running {
            child,
            log: tokio::spawn(pass_on(stderr, log)),
            started: Instant::now(),
        })
    }

    async fn outputs(&self) -> Result<(Stdio, Box<dyn AsyncWrite + Send + Unpin>), StartError> {
        match &self.log {
            LogTarget::Inherit => Ok((Stdio::inherit(), Box::new(tokio::io::stderr()))),
            LogTarget::File(path) => {
                let error = |source| StartError::Log {
                    path: path.clone(),
                    source,
                };
                let file = append_to(path).map_err(error)?;
                let same = file.try_clone().map_err(error)?;
                Ok((Stdio::from(file), Box::new(tokio::fs::File::from_std(same))))
            }
        }
    }
}

fn append_to(path: &Path) -> io::Result<std::fs::File> {
    use std::os::unix::fs::OpenOptionsExt;
    std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
}

/// Copies a log as it comes. A target that fails stops receiving; reading goes on, so that Envoy never blocks.
async fn pass_on(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) -> Tail {
    let mut tail = Tail::default();
    let mut buffer = vec![0; 16 * 1024];
    let mut target_works = true;
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        let piece = buffer.get(..length).unwrap_or_default();
        tail.push(piece);
        target_works = target_works && write(&mut to, piece).await.is_ok();
    }
    tail
}

async fn write(to: &mut (impl AsyncWrite + Unpin), piece: &[u8]) -> io::Result<()> {
    to.write_all(piece).await?;
    to.flush().await
}

impl Running {
    /// The process id; `None` once it has ended.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Waits for its end. May be cancelled and called again, until it has returned once.
    ///
    /// # Errors
    /// When the system cannot tell.
    pub async fn wait(&mut self) -> io::Result<Ended> {
        let status = self.child.wait().await?;
        let ran = self.started.elapsed();
        let rest = tokio::time::timeout(LOG_REST, &mut self.log).await;
        let tail = rest.ok().and_then(Result::ok).unwrap_or_default();
        Ok(Ended { status, tail, ran })
    }

    /// Asks it to end, waits, and kills it when it has not ended after `grace`.
    pub async fn stop(mut self, grace: Duration) {
        if let Some(pid) = self.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)) {
            // It may have ended meanwhile.
            let _ = kill_process(pid, Signal::TERM);
        }
        if tokio::time::timeout(grace, self.child.wait()).await.is_err() {
            tracing::warn!(after = ?grace, "Envoy did not end when asked to; killing it");
            let _ = self.child.kill().await;
        }
    }
}
