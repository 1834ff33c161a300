//! What an operator is told when Envoy ends: a pure function of its exit status and its last lines.

use std::{
    collections::VecDeque, fmt, net::SocketAddr, os::unix::process::ExitStatusExt, process::ExitStatus,
};

/// Lines of Envoy's log that are kept.
const LINES: usize = 20;
/// Longest line that is kept, in bytes; the rest of a longer one is dropped.
const LINE: usize = 2048;

/// The last lines of a log, fed in pieces.
#[derive(Debug, Default)]
pub struct Tail {
    lines: VecDeque<String>,
    open: Vec<u8>,
}

impl Tail {
    /// Takes the next piece of the log.
    pub fn push(&mut self, piece: &[u8]) {
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            let (text, ended) = part
                .strip_suffix(b"\n")
                .map_or((part, false), |text| (text, true));
            let room = LINE.saturating_sub(self.open.len());
            self.open.extend(text.iter().take(room));
            if ended {
                self.close();
            }
        }
    }

    /// The last line that says something.
    pub fn last(&mut self) -> Option<&str> {
        self.close();
        self.lines
            .iter()
            .map(|line| line.trim())
            .rfind(|line| !line.is_empty())
    }

    fn close(&mut self) {
        if self.open.is_empty() {
            return;
        }
        if self.lines.len() == LINES {
            self.lines.pop_front();
        }
        self.lines
            .push_back(String::from_utf8_lossy(&self.open).into_owned());
        self.open.clear();
    }
}

/// Why Envoy ended, with the way out where one is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnosis {
    /// How it ended: a status or a signal.
    pub exit: String,
    /// Its last words.
    pub last_line: Option<String>,
    /// What to do.
    pub help: Option<String>,
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Envoy {}", self.exit)?;
        if let Some(line) = &self.last_line {
            write!(f, ": {line}")?;
        }
        if let Some(help) = &self.help {
            write!(f, "; {help}")?;
        }
        Ok(())
    }
}

/// Explains an end of Envoy that nobody asked for.
pub fn diagnose(status: ExitStatus, tail: &mut Tail, admin: SocketAddr) -> Diagnosis {
    // Who is told to end from outside does not say why.
    let was_told = matches!(status.signal(), Some(1 | 2 | 9 | 15));
    let last_line = tail.last().filter(|_| !was_told).map(str::to_owned);
    let help = last_line
        .as_deref()
        .and_then(|line| help(line, admin))
        .or_else(|| signal_help(status));
    Diagnosis {
        exit: exit(status),
        last_line,
        help,
    }
}

fn exit(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with status {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

fn signal_help(status: ExitStatus) -> Option<String> {
    (status.signal() == Some(9))
        .then(|| "someone killed it, or memory ran out (see the kernel's log)".to_owned())
}

fn help(line: &str, admin: SocketAddr) -> Option<String> {
    let bind = line.contains("cannot bind");
    let text = if bind && line.contains("Address already in use") {
        format!(
            "{} is taken: another proxy (a second argosy-agent?) runs on this address; stop it, or give this \
             workload an address of its own",
            if line.contains(&admin.to_string()) {
                format!("Envoy's admin port {admin}")
            } else {
                "a port".into()
            }
        )
    } else if bind && line.contains("Cannot assign requested address") {
        format!(
            "{} is no address of this machine; correct the WorkloadEntry's address",
            admin.ip()
        )
    } else if bind && line.contains("Permission denied") {
        "ports below 1024 need a privilege; use higher ones".to_owned()
    } else if line.contains("Couldn't find match for argument") || line.starts_with("error: invalid") {
        "--envoy names a program that does not take these flags; correct the --envoy-… flags, or give an Envoy \
         of release 1.30 or newer"
            .to_owned()
    } else if line.contains("error while loading shared libraries") || line.contains("GLIBC") {
        "--envoy names a build for another system; give one that runs here".to_owned()
    } else {
        return None;
    };
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(raw_status: i32, log: &str) -> String {
        let mut tail = Tail::default();
        tail.push(log.as_bytes());
        diagnose(
            ExitStatus::from_raw(raw_status),
            &mut tail,
            "127.1.0.21:15000".parse().unwrap(),
        )
        .to_string()
    }

    #[test]
    fn ends_are_explained() {
        let failed = 1 << 8;
        let cases = [
            (
                failed,
                "starting\ncannot bind '127.1.0.21:15000': Address already in use\n\n",
                "Envoy's admin port 127.1.0.21:15000 is taken: another proxy (a second argosy-agent?) runs on \
                 this address",
            ),
            (
                failed,
                "cannot bind '127.1.0.21:15000': Cannot assign requested address",
                "127.1.0.21 is no address of this machine; correct the WorkloadEntry's address",
            ),
            (
                failed,
                "--nonsense -- Couldn't find match for argument",
                "correct the --envoy-… flags",
            ),
            (
                failed,
                "error: invalid log level specified 'loud'",
                "correct the --envoy-… flags",
            ),
            (
                9,
                "",
                "Envoy was ended by signal 9; someone killed it, or memory ran out",
            ),
            (
                failed,
                "something new",
                "Envoy ended with status 1: something new",
            ),
            (0, "", "Envoy ended with status 0"),
        ];
        for (status, log, expected) in cases {
            let seen = told(status, log);
            assert!(seen.contains(expected), "{log}: expected {expected}, seen {seen}");
        }
    }

    #[test]
    fn the_tail_is_bounded_and_takes_pieces() {
        let mut tail = Tail::default();
        for line in 0..100 {
            tail.push(format!("line {line}").as_bytes());
            tail.push(b"\n");
        }
        assert_eq!(tail.lines.len(), LINES);
        assert_eq!(tail.last(), Some("line 99"));
        tail.push(&vec![b'x'; 1 << 20]);
        assert_eq!(tail.last().map(str::len), Some(LINE));
        tail.push(b"half a line");
        assert_eq!(tail.last(), Some("half a line"), "an unended line counts too");
    }
}
