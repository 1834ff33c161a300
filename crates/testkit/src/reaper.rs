//! Ends the processes that a test started when the test itself is ended: by Ctrl-C, by SIGKILL, by an abort.
//!
//! A shell waits on a pipe that only this process holds open and is told each process group that starts and ends.
//! When the pipe closes, it kills the groups that are left, and removes the folders that it was told of. It runs in a group of its own, so that no signal to ours
//! ends it first.

use std::fmt::Display;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;

use anyhow::Context;
use parking_lot::Mutex;

/// Reads `+ GROUP`, `- GROUP` and `x FOLDER`; at the end of input kills and removes what is left.
const SCRIPT: &str = r#"
groups=' ' folders=
while read -r op what; do
    case $op in
        +) groups="$groups$what " ;;
        -) groups=$(printf '%s' "$groups" | sed "s/ $what / /") ;;
        x) folders="$folders$what
" ;;
    esac
done
for group in $groups; do kill -s KILL -- "-$group" 2>/dev/null; done
printf '%s' "$folders" | while read -r folder; do
    # Who was killed may write for a moment more.
    rm -rf -- "$folder" 2>/dev/null || { sleep 1; rm -rf -- "$folder"; }
done
"#;

struct Reaper {
    input: ChildStdin,
    // Dropping a `Child` leaves it running, which is what is wanted; it is held so that its input can be.
    _shell: Child,
}

/// Tells of a process group that was started.
pub(crate) fn started(group: u32) -> anyhow::Result<()> {
    tell('+', group)
}

/// Tells of a process group in which nothing runs any longer. Its number may be used again by others.
pub(crate) fn ended(group: u32) -> anyhow::Result<()> {
    tell('-', group)
}

/// Tells of a folder to remove when this process ends.
pub(crate) fn remove(folder: &Path) -> anyhow::Result<()> {
    tell('x', folder.display())
}

fn tell(op: char, what: impl Display) -> anyhow::Result<()> {
    static REAPER: OnceLock<Mutex<Option<Reaper>>> = OnceLock::new();
    let mut reaper = REAPER.get_or_init(Mutex::default).lock();
    if reaper.is_none() {
        *reaper = Some(spawn()?);
    }
    let Some(reaper) = reaper.as_mut() else {
        return Ok(());
    };
    writeln!(reaper.input, "{op} {what}").context("the shell that ends left processes is gone")
}

fn spawn() -> anyhow::Result<Reaper> {
    let mut shell = Command::new("/bin/sh")
        .args(["-c", SCRIPT])
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot start /bin/sh")?;
    let input = shell.stdin.take().context("no pipe to /bin/sh")?;
    Ok(Reaper { input, _shell: shell })
}
