//! Which certificates were issued, to whom, and until when: what revoking by identity goes by.
//!
//! A line for each certificate, in a file for each day on which certificates end, so that a file is deleted whole when
//! all of its certificates have. Lines are written before the certificate is handed out; several Citadels may append to
//! the same files. What cannot be written (a full disk) is kept in memory and written later.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::files::{self, FileError};
use super::revocation::Serial;

/// Name of the files' folder, in the authority's.
pub(super) const FOLDER: &str = "issued";
/// Longest line that is read, in bytes: a serial number, a time, and a SPIFFE id of 2048 bytes.
const MAX_LINE: u64 = 2200;
/// Most lines that wait in memory.
const MAX_WAITING: usize = 100_000;
const DAY: i64 = 86_400;

/// A certificate that was issued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// Its serial number.
    pub serial: Serial,
    /// Its end, in seconds since 1970.
    pub not_after: i64,
    /// Whose it is.
    pub identity: String,
    /// When it was issued, in seconds since 1970.
    pub at: i64,
}

impl Issued {
    /// The line begins with the line break: a line that was torn by a crash spoils nothing but itself.
    fn line(&self) -> String {
        let serial = self.serial.as_str();
        format!("\n{serial} {} {} {}.", self.not_after, self.identity, self.at)
    }

    /// `None` for a torn line: the full stop shows that it is whole.
    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.strip_suffix('.')?.split(' ');
        Some(Self {
            serial: Serial::parse(fields.next()?).ok()?,
            not_after: fields.next()?.parse().ok()?,
            identity: fields.next()?.to_owned(),
            // Lines had no time once: such a certificate is older than whatever is asked for.
            at: fields.next().map_or(Ok(0), str::parse).ok()?,
        })
    }

    fn day(&self) -> i64 {
        self.not_after.div_euclid(DAY)
    }
}

#[derive(Debug, Default)]
struct State {
    open: BTreeMap<i64, File>,
    waiting: Vec<Issued>,
}

/// The files of issued certificates.
#[derive(Debug)]
pub struct Journal {
    dir: PathBuf,
    state: Mutex<State>,
}

impl Journal {
    /// The journal of the authority whose state is in `state_dir`; nothing is written yet.
    #[must_use]
    pub fn new(state_dir: &Path) -> Self {
        Self {
            dir: state_dir.join(FOLDER),
            state: Mutex::default(),
        }
    }

    fn path(&self, day: i64) -> PathBuf {
        self.dir.join(format!("{day}.log"))
    }

    /// Notes a certificate, and those that wait.
    ///
    /// # Errors
    /// When the disk refuses. The certificate is kept in memory and written with a later one.
    pub fn note(&self, issued: Issued) -> Result<(), FileError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.waiting.len() < MAX_WAITING {
            state.waiting.push(issued);
        }
        self.flush(&mut state)
    }

    fn flush(&self, state: &mut State) -> Result<(), FileError> {
        while let Some(next) = state.waiting.last() {
            let day = next.day();
            let file = match state.open.get_mut(&day) {
                Some(file) => file,
                None => {
                    let file = self.open(day)?;
                    state.open.entry(day).or_insert(file)
                }
            };
            // One write: lines of several processes do not mix.
            file.write_all(next.line().as_bytes())
                .map_err(|source| FileError::Write {
                    path: self.path(day),
                    source,
                })?;
            state.waiting.pop();
        }
        Ok(())
    }

    fn open(&self, day: i64) -> Result<File, FileError> {
        files::private_subdir(&self.dir)?;
        let path = self.path(day);
        let file = File::options().create(true).append(true).mode(0o600).open(&path);
        file.map_err(|source| FileError::Write { path, source })
    }

    /// Certificates that end after `now` and satisfy `wanted`, those in memory too.
    ///
    /// # Errors
    /// When the files cannot be read.
    pub fn find(&self, now: i64, wanted: impl Fn(&Issued) -> bool) -> Result<Vec<Issued>, FileError> {
        let wanted = |issued: &Issued| issued.not_after > now && wanted(issued);
        let mut found = Vec::new();
        for (day, path) in self.days()? {
            if day >= now.div_euclid(DAY) {
                read(&path, &wanted, &mut found)?;
            }
        }
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        found.extend(state.waiting.iter().filter(|issued| wanted(issued)).cloned());
        Ok(found)
    }

    /// Deletes files whose certificates have all ended, and writes what waits.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn tidy(&self, now: i64) -> Result<(), FileError> {
        let today = now.div_euclid(DAY);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.open.retain(|day, _| *day >= today);
        for (day, path) in self.days()? {
            if day < today {
                match fs::remove_file(&path) {
                    Err(source) if source.kind() != io::ErrorKind::NotFound => {
                        return Err(FileError::Write { path, source });
                    }
                    _ => {}
                }
            }
        }
        self.flush(&mut state)
    }

    fn days(&self) -> Result<Vec<(i64, PathBuf)>, FileError> {
        let paths = files::private_list(&self.dir, &["log"])?;
        let day = |path: &PathBuf| path.file_stem()?.to_str()?.parse().ok();
        Ok(paths
            .into_iter()
            .filter_map(|path| Some((day(&path)?, path)))
            .collect())
    }
}

fn read(path: &Path, wanted: &impl Fn(&Issued) -> bool, found: &mut Vec<Issued>) -> Result<(), FileError> {
    let failed = |source| FileError::Read {
        path: path.to_owned(),
        source,
    };
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        file => file.map_err(failed)?,
    };
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    loop {
        line.clear();
        if reader
            .by_ref()
            .take(MAX_LINE)
            .read_until(b'\n', &mut line)
            .map_err(failed)?
            == 0
        {
            return Ok(());
        }
        let text = std::str::from_utf8(&line).unwrap_or_default();
        found.extend(Issued::parse(text.trim_end_matches('\n')).filter(|issued| wanted(issued)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issued(serial: &str, not_after: i64, identity: &str) -> Issued {
        Issued {
            serial: Serial::parse(serial).unwrap(),
            not_after,
            identity: identity.to_owned(),
            at: 3,
        }
    }

    fn found(journal: &Journal, now: i64) -> Vec<String> {
        let mut serials: Vec<String> = journal
            .find(now, |_| true)
            .unwrap()
            .into_iter()
            .map(|issued| issued.serial.as_str().to_owned())
            .collect();
        serials.sort();
        serials
    }

    #[test]
    fn what_was_noted_is_found_until_it_ends() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::new(dir.path());
        journal
            .note(issued("a", 10 * DAY + 5, "spiffe://td/ns/shop/sa/orders"))
            .unwrap();
        journal
            .note(issued("b", 11 * DAY, "spiffe://td/ns/shop/sa/stock"))
            .unwrap();
        let again = Journal::new(dir.path());
        again
            .note(issued("c", 10 * DAY + 9, "spiffe://td/ns/shop/sa/orders"))
            .unwrap();
        assert_eq!(found(&journal, 10 * DAY), ["a", "b", "c"]);
        assert_eq!(found(&journal, 10 * DAY + 7), ["b", "c"]);
        let of = journal
            .find(0, |issued| issued.identity.ends_with("/stock"))
            .unwrap();
        assert_eq!(of, [issued("b", 11 * DAY, "spiffe://td/ns/shop/sa/stock")]);
        journal.tidy(11 * DAY - 1).unwrap();
        assert_eq!(fs::read_dir(dir.path().join(FOLDER)).unwrap().count(), 2);
        journal.tidy(11 * DAY + 1).unwrap();
        assert_eq!(fs::read_dir(dir.path().join(FOLDER)).unwrap().count(), 1);
    }

    #[test]
    fn a_torn_line_spoils_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::new(dir.path());
        journal.note(issued("a", 5, "spiffe://td/x")).unwrap();
        let path = dir.path().join(FOLDER).join("0.log");
        let mut file = File::options().append(true).open(&path).unwrap();
        file.write_all(b"\nb 5 spiffe://td/x.\nbeef 5 spiffe://td/to")
            .unwrap();
        file.write_all(b"\n\xff\xfe").unwrap();
        journal.note(issued("c", 5, "spiffe://td/x")).unwrap();
        assert_eq!(
            found(&journal, 0),
            ["a", "b", "c"],
            "b has no time: so it was once"
        );
    }

    #[test]
    fn what_the_disk_refuses_is_kept_and_written_later() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::new(dir.path());
        // A file where the folder should be.
        let folder = dir.path().join(FOLDER);
        fs::write(&folder, "").unwrap();
        assert!(journal.note(issued("a", 5, "spiffe://td/x")).is_err());
        fs::remove_file(&folder).unwrap();
        assert_eq!(found(&journal, 0), ["a"]);
        journal.tidy(0).unwrap();
        assert_eq!(found(&Journal::new(dir.path()), 0), ["a"]);
        assert_eq!(found(&journal, 0), ["a"], "not twice");
    }
}
