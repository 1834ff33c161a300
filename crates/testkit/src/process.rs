//! Processes that are watched: their output goes to a file, waiting for one ends when it dies, and none outlives its
//! owner.

use std::ffi::OsString;
use std::fmt::Display;
use std::fs::OpenOptions;
use std::future::Future;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::process::{Pid, Signal};

use crate::{reaper, wait};

/// How long a process may take to end after SIGTERM when it is dropped.
const GRACE: Duration = Duration::from_secs(5);
/// Lines of a log shown with an error.
const TAIL: usize = 30;

/// What to run, and where its output goes.
#[derive(Debug, Clone)]
pub struct Spec {
    /// Name of the process in messages and of its log file.
    pub name: String,
    /// The executable.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Environment variables added to ours.
    pub env: Vec<(String, OsString)>,
    /// The folder of `NAME.log`; a second run under the same name appends.
    pub logs: PathBuf,
}

impl Spec {
    /// Runs `program` under a name, with its log in the folder `logs`.
    pub fn new(name: impl Into<String>, program: impl Into<PathBuf>, logs: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            program: program.into(),
            args: vec![],
            env: vec![],
            logs: logs.into(),
        }
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds a flag and its value.
    #[must_use]
    pub fn flag(self, flag: &str, value: impl Display) -> Self {
        self.arg(flag).arg(format!("{value}"))
    }

    /// Adds a flag and a path.
    #[must_use]
    pub fn path(self, flag: &str, path: impl AsRef<Path>) -> Self {
        self.arg(flag).arg(path.as_ref())
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.env.push((name.to_owned(), value.into()));
        self
    }

    /// Where the output goes.
    pub fn log(&self) -> PathBuf {
        self.logs.join(format!("{}.log", self.name))
    }

    /// Starts it, in a process group of its own.
    ///
    /// # Errors
    /// When the program is missing or not executable, or its log cannot be written.
    pub fn start(&self) -> anyhow::Result<Process> {
        let path = self.log();
        let log = OpenOptions::new().create(true).append(true).open(&path);
        let log = log.with_context(|| format!("cannot write {}", path.display()))?;
        let from = log.metadata()?.len();
        let mut command = Command::new(&self.program);
        command
            .args(&self.args)
            .envs(self.env.iter().map(|(name, value)| (name, value)));
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0);
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {}", self.program.display()))?;
        reaper::started(child.id())?;
        Ok(Process {
            name: self.name.clone(),
            log: path,
            from,
            child,
            status: None,
        })
    }
}

/// A running process. Dropped, it is asked to end, and then made to, with all that it started.
#[derive(Debug)]
pub struct Process {
    name: String,
    log: PathBuf,
    /// Where this run begins in the log.
    from: u64,
    child: Child,
    status: Option<ExitStatus>,
}

impl Process {
    /// The name that it was started under.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id, which is its process group's too.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The ids of the processes that it has started and that still run.
    pub fn children(&self) -> Vec<u32> {
        let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        ids.filter(|id| parent(*id) == Some(self.id())).collect()
    }

    /// How it ended, if it has.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self.child.try_wait().ok().flatten();
        }
        self.status
    }

    /// What this run has written so far.
    pub fn output(&self) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        let from = usize::try_from(self.from).unwrap_or(usize::MAX);
        String::from_utf8_lossy(bytes.get(from..).unwrap_or_default()).into_owned()
    }

    /// The last lines of what this run has written.
    pub fn tail(&self) -> String {
        let output = self.output();
        let lines: Vec<&str> = output.lines().collect();
        let skip = lines.len().saturating_sub(TAIL);
        lines
            .into_iter()
            .skip(skip)
            .map(|line| format!("  | {line}\n"))
            .collect()
    }

    /// Waits until a condition of this process holds; gives up at once when it has ended.
    ///
    /// # Errors
    /// The process ended, or `bound` passed; with the last lines of its log.
    pub async fn until<T, F, Fut>(&mut self, what: &str, bound: Duration, mut look: F) -> anyhow::Result<T>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = anyhow::Result<T>>,
    {
        let what = format!("{}: {what}", self.name);
        let waited = wait::until(&what, bound, || {
            let exited = self.exited();
            let seen = look();
            async move {
                match exited {
                    // Ready is ready, but nothing more will come of a process that has ended.
                    Some(status) => Ok(Err(anyhow::anyhow!("ended: {status}"))),
                    None => seen.await.map(Ok),
                }
            }
        });
        let result = match waited.await {
            Ok((Ok(value), _)) => Ok(value),
            Ok((Err(ended), _)) => Err(ended.context(what)),
            Err(late) => Err(late),
        };
        result.with_context(|| format!("{} ({}):\n{}", self.name, self.log.display(), self.tail()))
    }

    /// Waits until it has ended by itself.
    ///
    /// # Errors
    /// It still runs after `bound`.
    pub async fn ended(&mut self, bound: Duration) -> anyhow::Result<ExitStatus> {
        let what = format!("{} to end", self.name);
        let waited = wait::until(&what, bound, || {
            std::future::ready(self.exited().ok_or("it runs"))
        })
        .await;
        waited.map(|(status, _)| status).with_context(|| self.tail())
    }

    /// Asks it to end (SIGTERM) and waits.
    ///
    /// # Errors
    /// It still runs after `bound`.
    pub async fn stop(&mut self, bound: Duration) -> anyhow::Result<ExitStatus> {
        self.signal(Signal::TERM);
        self.ended(bound).await
    }

    /// Ends it as a crash would (SIGKILL to it alone), and returns when it is gone.
    pub fn kill(&mut self) -> Option<ExitStatus> {
        self.signal(Signal::KILL);
        if self.status.is_none() {
            self.status = self.child.wait().ok();
        }
        self.status
    }

    /// Whether it was ended by SIGKILL.
    pub fn was_killed(&mut self) -> bool {
        self.exited().and_then(|status| status.signal()) == Some(Signal::KILL.as_raw())
    }

    fn signal(&mut self, signal: Signal) {
        // A process that was waited for is gone, and its number may be another's.
        if self.exited().is_none()
            && let Some(pid) = self.pid()
        {
            let _ = rustix::process::kill_process(pid, signal);
        }
    }

    fn pid(&self) -> Option<Pid> {
        i32::try_from(self.child.id()).ok().and_then(Pid::from_raw)
    }
}

/// The parent of a process; `None` when it has ended.
fn parent(id: u32) -> Option<u32> {
    // `PID (NAME) STATE PPID …`, where NAME may hold anything.
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let mut words = stat.rsplit(')').next()?.split_whitespace();
    let state = words.next()?;
    if state == "Z" {
        None
    } else {
        words.next()?.parse().ok()
    }
}

/// Whether a process runs. Not one that has ended and was not waited for.
pub fn runs(id: u32) -> bool {
    parent(id).is_some()
}

/// Ends a process that this one did not start itself, as a crash would (SIGKILL).
///
/// # Errors
/// There is no such process.
pub fn kill(id: u32) -> anyhow::Result<()> {
    let pid = i32::try_from(id)
        .ok()
        .and_then(Pid::from_raw)
        .context("not a process id")?;
    rustix::process::kill_process(pid, Signal::KILL).with_context(|| format!("cannot end process {id}"))
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal(Signal::TERM);
        let asked = Instant::now();
        while self.exited().is_none() && asked.elapsed() < GRACE {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.signal(Signal::KILL);
        if let Some(pid) = self.pid() {
            // What it left behind in its group; the group's number is not given again while a member lives.
            let _ = rustix::process::kill_process_group(pid, Signal::KILL);
        }
        if self.status.is_none() {
            let _ = self.child.wait();
        }
        let _ = reaper::ended(self.child.id());
    }
}
