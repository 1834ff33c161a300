//! Supervision, tried on real processes.

#![allow(
    clippy::unwrap_used,
    reason = "a test's helpers may fail loudly, as the test itself"
)]

use std::path::Path;
use std::time::Duration;

use testkit::{Process, Spec, wait};

const BOUND: Duration = Duration::from_secs(30);

fn shell(dir: &Path, script: &str) -> Process {
    Spec::new("shell", "/bin/sh", dir)
        .arg("-c")
        .arg(script)
        .start()
        .unwrap()
}

fn runs(pid: &str) -> bool {
    testkit::process::runs(pid.parse().unwrap())
}

async fn first_line(process: &Process) -> String {
    let (line, _) = wait::until("a line in the log", BOUND, || {
        let line = process.output().lines().next().map(str::to_owned);
        std::future::ready(line.ok_or("no line"))
    })
    .await
    .unwrap();
    line
}

#[tokio::test]
async fn dropping_a_process_ends_what_it_started() {
    let dir = tempfile::tempdir().unwrap();
    let process = shell(
        dir.path(),
        "(trap '' TERM; while :; do sleep 1; done) & echo $!; wait",
    );
    let pid = first_line(&process).await;
    assert!(runs(&pid));
    assert_eq!(
        process.children().iter().map(u32::to_string).collect::<Vec<_>>(),
        std::slice::from_ref(&pid)
    );
    drop(process);
    wait::until("the grandchild to be gone", BOUND, || {
        std::future::ready(if runs(&pid) { Err("it runs") } else { Ok(()) })
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn waiting_for_a_process_that_dies_ends_at_once_and_shows_its_log() {
    let dir = tempfile::tempdir().unwrap();
    let mut process = shell(dir.path(), "echo the reason; exit 3");
    let never = || std::future::ready(Err::<(), _>(anyhow::anyhow!("never")));
    let started = std::time::Instant::now();
    let error = format!(
        "{:#}",
        process
            .until("ready", Duration::from_secs(600), never)
            .await
            .unwrap_err()
    );
    assert!(
        started.elapsed() < Duration::from_secs(300),
        "waited for the bound"
    );
    assert!(
        error.contains("exit status: 3") && error.contains("the reason"),
        "{error}"
    );
}

#[tokio::test]
async fn a_second_run_appends_and_shows_its_own_output() {
    let dir = tempfile::tempdir().unwrap();
    for text in ["first", "second"] {
        let mut process = shell(dir.path(), &format!("echo {text}"));
        process.ended(BOUND).await.unwrap();
        assert_eq!(process.output().trim(), text);
    }
    assert_eq!(
        std::fs::read_to_string(dir.path().join("shell.log")).unwrap(),
        "first\nsecond\n"
    );
}

#[tokio::test]
async fn a_kill_is_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let mut process = shell(dir.path(), "trap '' TERM; while :; do sleep 1; done");
    process.kill();
    assert!(process.was_killed());
}

/// The processes of a test end with it, even when it gets no chance to clean up.
#[tokio::test]
async fn processes_of_a_killed_test_are_ended() {
    const INNER: &str = "TESTKIT_INNER";
    let exe = std::env::current_exe().unwrap();
    if let Some(dir) = std::env::var_os(INNER) {
        let process = shell(Path::new(&dir), "echo $$; while :; do sleep 1; done");
        first_line(&process).await;
        std::process::abort();
    }
    let dir = tempfile::tempdir().unwrap();
    let status = std::process::Command::new(exe)
        .args(["--exact", "processes_of_a_killed_test_are_ended"])
        .env(INNER, dir.path())
        .output()
        .unwrap()
        .status;
    assert!(!status.success());
    let pid = std::fs::read_to_string(dir.path().join("shell.log"))
        .unwrap()
        .trim()
        .to_owned();
    wait::until("the process of the aborted test to be gone", BOUND, || {
        std::future::ready(if runs(&pid) { Err("it runs") } else { Ok(()) })
    })
    .await
    .unwrap();
}
