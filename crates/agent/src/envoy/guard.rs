//! Envoy must not outlive its agent, even one that is killed by SIGKILL.
//!
//! Only a process itself can ask Linux for a signal at its parent's death, and the request survives `exec`. So the
//! agent starts its own program with a marker as first argument; that process asks for SIGKILL at the agent's
//! death and then becomes Envoy. It needs no unsafe code, as a hook between fork and exec would.

use std::{
    ffi::{OsStr, OsString},
    io,
    os::unix::process::CommandExt,
    path::Path,
    process::{Command, ExitCode},
};

/// First argument of a call that is to become Envoy; then the agent's process id, the program and its arguments.
const MARKER: &str = "--become-envoy";

/// How the agent calls a program so that the program ends with the agent.
///
/// `own` is this very program (`/proc/self/exe`), whose `main` calls [`become_envoy`] first; without it the program
/// is called directly, and only an orderly end of the agent ends it.
pub fn command(own: Option<&Path>, program: &Path, arguments: &[OsString]) -> Command {
    match own {
        Some(own) => {
            let mut command = Command::new(own);
            command
                .arg(MARKER)
                .arg(std::process::id().to_string())
                .arg(program)
                .args(arguments);
            command
        }
        None => {
            let mut command = Command::new(program);
            command.args(arguments);
            command
        }
    }
}

/// When this process was started to become Envoy, becomes it and does not return, or returns the exit code of
/// having failed to (126, as a shell would). Otherwise `None`. Call it first in `main`.
pub fn become_envoy(arguments: impl IntoIterator<Item = OsString>) -> Option<ExitCode> {
    let mut arguments = arguments.into_iter().skip(1);
    if arguments.next().as_deref() != Some(OsStr::new(MARKER)) {
        return None;
    }
    let parent = arguments.next().and_then(|id| id.to_str()?.parse().ok());
    let program = arguments.next().unwrap_or_default();
    let error = match end_with_parent(parent) {
        Ok(()) => Command::new(&program).args(arguments).exec(),
        Err(error) => error,
    };
    // Logs are not set up in this process; its agent reads the line.
    eprintln!("cannot run {}: {error}", Path::new(&program).display());
    Some(ExitCode::from(126))
}

/// Asks for SIGKILL at the parent's death, and sees that the parent did not die before.
#[cfg(target_os = "linux")]
fn end_with_parent(parent: Option<i32>) -> io::Result<()> {
    use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

    set_parent_process_death_signal(Some(Signal::KILL))?;
    match parent.and_then(Pid::from_raw) {
        Some(parent) if getppid() == Some(parent) => Ok(()),
        _ => Err(io::Error::other("the agent that asked for it is gone")),
    }
}

/// Other systems have no such signal: there, only an orderly end of the agent ends Envoy.
#[cfg(not(target_os = "linux"))]
fn end_with_parent(_: Option<i32>) -> io::Result<()> {
    Ok(())
}
