//! Supervision of a child process: scripts stand in for Envoy where only its process matters.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may fail loudly"
)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use agent::envoy::{
    Options, State, Supervisor,
    process::{Launcher, LogTarget},
};
use prometheus_client::metrics::counter::Counter;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const BOUND: Duration = Duration::from_secs(20);

struct Child {
    folder: tempfile::TempDir,
    restarts: Counter,
}

impl Child {
    /// A stand-in for Envoy: a shell script.
    fn script(text: &str) -> Self {
        let child = Self {
            folder: tempfile::tempdir().unwrap(),
            restarts: Counter::default(),
        };
        let text = format!("#!/bin/sh\ncd {}\n{text}\n", child.folder.path().display());
        fs::write(child.path("text"), text).unwrap();
        // Copied by another process: a file that this one had open for writing could still be open in a child that
        // another test's thread has just forked, and then cannot be executed.
        let paths = [child.path("text"), child.path("envoy")];
        assert!(
            Command::new("install")
                .args(["-m", "755"])
                .args(paths)
                .status()
                .unwrap()
                .success()
        );
        child
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn supervisor(&self, own: Option<PathBuf>) -> Supervisor {
        let options = Options {
            program: self.path("envoy"),
            bootstrap: self.path("envoy.json"),
            log_level: "warning".into(),
            component_log_level: String::new(),
            concurrency: 1,
            drain_time: Duration::from_secs(1),
            extra: Vec::new(),
        };
        let launcher = Launcher {
            options,
            own,
            log: LogTarget::File(self.path("log")),
        };
        // Nothing listens there: draining fails at once.
        let admin = "127.0.0.1:9".parse().unwrap();
        Supervisor::new(
            launcher,
            admin,
            15021,
            Duration::from_secs(1),
            self.restarts.clone(),
        )
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }
}

async fn running(state: &mut watch::Receiver<State>, not: u32) -> u32 {
    let is_new = |state: &State| matches!(state, State::Running { pid } if *pid != not);
    let found = tokio::time::timeout(BOUND, state.wait_for(is_new))
        .await
        .expect("in time")
        .unwrap();
    let State::Running { pid } = *found else {
        unreachable!()
    };
    pid
}

fn alive(pid: u32) -> bool {
    // A zombie is no longer alive.
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let look = || std::future::ready(if condition() { Ok(()) } else { Err("not yet") });
    testkit::wait::until(what, BOUND, look).await.unwrap();
}

#[tokio::test]
async fn a_child_that_is_killed_is_started_again() {
    let child = Child::script("echo run >> runs; exec sleep 600");
    let supervisor = child.supervisor(None);
    let (mut state, stop) = (supervisor.state(), CancellationToken::new());
    let script = async {
        let first = running(&mut state, 0).await;
        until("the first run", || child.read("runs") == "run\n").await;
        Command::new("kill")
            .args(["-9", &first.to_string()])
            .status()
            .unwrap();
        let second = running(&mut state, first).await;
        until("the second run", || child.read("runs") == "run\nrun\n").await;
        assert_eq!(child.restarts.get(), 1);
        stop.cancel();
        second
    };
    let (result, second) = tokio::join!(supervisor.run(&stop), script);
    result.unwrap();
    assert!(!alive(second), "nothing is left behind");
    assert_eq!(*state.borrow(), State::Ended);
}

#[tokio::test]
async fn a_child_that_never_runs_is_given_up_with_its_words() {
    let child =
        Child::script("echo run >> runs; echo \"error: invalid log level specified 'loud'\" >&2; exit 1");
    let supervisor = child.supervisor(None);
    let error = supervisor
        .run(&CancellationToken::new())
        .await
        .unwrap_err()
        .to_string();
    assert_eq!(child.read("runs").lines().count(), 5);
    for expected in [
        "--envoy",
        "invalid log level specified 'loud'",
        "correct the --envoy-… flags",
    ] {
        assert!(error.contains(expected), "{expected} in {error}");
    }
    assert!(
        child.read("log").contains("invalid log level"),
        "its log is passed on"
    );
}

#[tokio::test]
async fn a_child_that_does_not_end_when_asked_is_killed() {
    let child = Child::script("trap '' TERM; echo ready > ready; while :; do sleep 1; done");
    let supervisor = child.supervisor(None);
    let (mut state, stop) = (supervisor.state(), CancellationToken::new());
    let script = async {
        let pid = running(&mut state, 0).await;
        until("the trap", || !child.read("ready").is_empty()).await;
        stop.cancel();
        pid
    };
    let (result, pid) = tokio::join!(supervisor.run(&stop), script);
    result.unwrap();
    assert!(!alive(pid));
}

#[tokio::test]
async fn dropping_the_supervision_kills_the_child() {
    let child = Child::script("exec sleep 600");
    let supervisor = child.supervisor(None);
    let mut state = supervisor.state();
    let stop = CancellationToken::new();
    let pid = tokio::select! {
        _ = supervisor.run(&stop) => panic!("it ended by itself"),
        pid = running(&mut state, 0) => pid,
    };
    until("its end", || !alive(pid)).await;
}

/// The agent's own program, which can become Envoy.
fn agent() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_argosy-agent"))
}

#[tokio::test]
async fn a_guarded_child_is_the_program_itself() {
    let child = Child::script("echo \"$@\" > arguments; exec sleep 600");
    let supervisor = child.supervisor(Some(agent().to_owned()));
    let (mut state, stop) = (supervisor.state(), CancellationToken::new());
    let script = async {
        let pid = running(&mut state, 0).await;
        until("its start", || !child.read("arguments").is_empty()).await;
        let command = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
        stop.cancel();
        command
    };
    let (result, command) = tokio::join!(supervisor.run(&stop), script);
    result.unwrap();
    assert_eq!(
        command,
        ["sleep", "600", ""].join("\0"),
        "no process stands between"
    );
    assert!(
        child.read("arguments").contains("--disable-hot-restart"),
        "{}",
        child.read("arguments")
    );
}

/// `sh` stands in for an agent that is killed without a chance to clean up.
#[tokio::test]
async fn a_guarded_child_dies_with_its_agent() {
    let folder = tempfile::tempdir().unwrap();
    let script = format!(
        "{} --become-envoy $$ /bin/sleep 600 & echo $! > pid; wait",
        agent().display()
    );
    let mut parent = Command::new("sh")
        .args(["-c", &script])
        .current_dir(&folder)
        .spawn()
        .unwrap();
    let pid = || {
        fs::read_to_string(folder.path().join("pid"))
            .ok()?
            .trim()
            .parse::<u32>()
            .ok()
    };
    let runs = || pid().and_then(|pid| fs::read_to_string(format!("/proc/{pid}/cmdline")).ok());
    until("the child's start", || {
        runs().is_some_and(|command| command.starts_with("/bin/sleep"))
    })
    .await;
    let child = pid().unwrap();
    parent.kill().unwrap();
    parent.wait().unwrap();
    until("the child's end", || !alive(child)).await;
}

#[test]
fn what_cannot_be_become_is_told() {
    let mut command = Command::new(agent());
    let parent = std::process::id().to_string();
    command
        .args(["--become-envoy", &parent, "/nowhere/envoy"])
        .stdin(Stdio::null());
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(126));
    assert!(said.contains("cannot run /nowhere/envoy"), "{said}");
}
