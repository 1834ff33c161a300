//! Which certificates were issued, to whom, and until when: what revoking by identity goes by.
//!
//! A line for each certificate, in a file for each day on which certificates end, so that a file is deleted whole when
//! all of its certificates have. Lines are written before the certificate is handed out; several Citadels may append to
//! the same files. What cannot be written (a full disk) is kept in memory and written later.
//!
//! The files lie beside the authority's own, and how many certificates there are is up to callers. So the files have a bound, and
//! one identity has a share of it: whoever asks for certificates without end leaves room to note those of others, and to revoke.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::files::{self, FileError};
use super::revocation::Serial;

/// Name of the files' folder, in the authority's.
pub(super) const FOLDER: &str = "issued";
/// Longest line that is read, in bytes: a serial number, a time, and a SPIFFE id of 2048 bytes.
const MAX_LINE: u64 = 2200;
/// Most lines that wait in memory.
const MAX_WAITING: usize = 100_000;
/// Most that all files have together, in bytes: half of the smallest disk that Citadel is installed with.
const MAX_FILES: u64 = 32 << 20;
/// Most that one identity has of them, in bytes, among certificates that end on one day: 80,000 lines.
const MAX_SHARE: u64 = MAX_FILES / 4;
/// Most identities whose shares are counted for one day.
const MAX_COUNTED: usize = 50_000;
/// After so many bytes the files are measured again: other Citadels may write to them, too.
const MEASURE: u64 = 1 << 20;
const DAY: i64 = 86_400;

/// A certificate is not in the journal's files.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The disk.
    #[error(transparent)]
    File(#[from] FileError),
    /// All files together have what they may have.
    #[error(
        "the journal in {dir} has {bytes} bytes, and may have {max}: too many certificates are in force; look in the audit log for who asks for them, and limit it by --caller-rate"
    )]
    Full {
        /// The files' folder.
        dir: PathBuf,
        /// What they have.
        bytes: u64,
        /// What they may have.
        max: u64,
    },
    /// One identity has its share.
    #[error(
        "{identity} has so many certificates in force that the journal takes no more of them (more than {max} bytes): argosy ca revoke --identity would not find these; look in the audit log for who asks for them, and limit it by --caller-rate"
    )]
    Share {
        /// Whose they are.
        identity: String,
        /// What they may have.
        max: u64,
    },
}

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
    /// Whether its holder has shown no more for it than another certificate.
    pub renewed: bool,
}

/// The last field of a line whose certificate was had by another.
const RENEWED: &str = "renewed";

impl Issued {
    /// The line begins with the line break: a line that was torn by a crash spoils nothing but itself.
    fn line(&self) -> String {
        let serial = self.serial.as_str();
        let renewed = if self.renewed {
            format!(" {RENEWED}")
        } else {
            String::new()
        };
        format!(
            "\n{serial} {} {} {}{renewed}.",
            self.not_after, self.identity, self.at
        )
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
            renewed: fields.next() == Some(RENEWED),
        })
    }

    fn day(&self) -> i64 {
        self.not_after.div_euclid(DAY)
    }
}

/// The file of a day, while it is written to.
#[derive(Debug)]
struct Day {
    file: File,
    /// What this process has written of each identity, in bytes.
    shares: HashMap<String, u64>,
}

impl Day {
    fn has_share(&self, identity: &str, max: u64) -> bool {
        self.shares.get(identity).is_none_or(|written| *written < max)
    }

    fn count(&mut self, identity: String, written: u64) {
        if self.shares.len() < MAX_COUNTED || self.shares.contains_key(&identity) {
            *self.shares.entry(identity).or_default() += written;
        }
    }
}

#[derive(Debug, Default)]
struct State {
    open: BTreeMap<i64, Day>,
    waiting: Vec<Issued>,
    /// What the files have, as far as is known, in bytes.
    bytes: u64,
    /// What may be written until they are measured again, in bytes.
    unmeasured: u64,
}

/// The files of issued certificates.
#[derive(Debug)]
pub struct Journal {
    dir: PathBuf,
    max_files: u64,
    max_share: u64,
    state: Mutex<State>,
    dropped: AtomicU64,
}

impl Journal {
    /// The journal of the authority whose state is in `state_dir`; nothing is written yet.
    #[must_use]
    pub fn new(state_dir: &Path) -> Self {
        Self {
            dir: state_dir.join(FOLDER),
            max_files: MAX_FILES,
            max_share: MAX_SHARE,
            state: Mutex::default(),
            dropped: AtomicU64::default(),
        }
    }

    fn path(&self, day: i64) -> PathBuf {
        self.dir.join(format!("{day}.log"))
    }

    /// Notes a certificate, and those that wait.
    ///
    /// # Errors
    /// When the disk refuses, or the files are full: the certificate is kept in memory and written with a later one. When its
    /// identity has its share of them: it is noted nowhere.
    pub fn note(&self, issued: Issued) -> Result<(), JournalError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let day = state.open.get(&issued.day());
        if day.is_some_and(|day| !day.has_share(&issued.identity, self.max_share)) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return Err(JournalError::Share {
                identity: issued.identity,
                max: self.max_share,
            });
        }
        match state.waiting.len() < MAX_WAITING {
            true => state.waiting.push(issued),
            false => _ = self.dropped.fetch_add(1, Ordering::Relaxed),
        }
        self.flush(&mut state)
    }

    /// How many certificates this process has noted nowhere: revoking by identity does not find them.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    fn flush(&self, state: &mut State) -> Result<(), JournalError> {
        while let Some(next) = state.waiting.last() {
            let (number, line) = (next.day(), next.line());
            let written = line.len() as u64;
            self.make_room(state, written)?;
            let day = match state.open.get_mut(&number) {
                Some(day) => day,
                None => {
                    let (file, shares) = (self.open(number)?, HashMap::new());
                    state.open.entry(number).or_insert(Day { file, shares })
                }
            };
            // One write: lines of several processes do not mix.
            day.file
                .write_all(line.as_bytes())
                .map_err(|source| FileError::Write {
                    path: self.path(number),
                    source,
                })?;
            state.bytes = state.bytes.saturating_add(written);
            state.unmeasured = state.unmeasured.saturating_sub(written);
            if let Some(next) = state.waiting.pop() {
                day.count(next.identity, written);
            }
        }
        Ok(())
    }

    /// Refuses what the files have no room for.
    fn make_room(&self, state: &mut State, wanted: u64) -> Result<(), JournalError> {
        if state.unmeasured < wanted {
            state.bytes = self.measure()?;
            state.unmeasured = MEASURE.min(self.max_files);
        }
        match state.bytes.saturating_add(wanted) > self.max_files {
            false => Ok(()),
            true => Err(JournalError::Full {
                dir: self.dir.clone(),
                bytes: state.bytes,
                max: self.max_files,
            }),
        }
    }

    /// What all files have together, in bytes.
    fn measure(&self) -> Result<u64, FileError> {
        let mut bytes = 0_u64;
        for (_, path) in self.days()? {
            // Another Citadel may have deleted it by now.
            bytes = bytes.saturating_add(fs::metadata(path).map_or(0, |file| file.len()));
        }
        Ok(bytes)
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
    /// When the disk refuses, or the files are full.
    pub fn tidy(&self, now: i64) -> Result<(), JournalError> {
        let today = now.div_euclid(DAY);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.open.retain(|day, _| *day >= today);
        state.unmeasured = 0;
        for (day, path) in self.days()? {
            if day < today {
                match fs::remove_file(&path) {
                    Err(source) if source.kind() != io::ErrorKind::NotFound => {
                        return Err(FileError::Write { path, source }.into());
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
            renewed: serial.starts_with('f'),
        }
    }

    /// What the folder's files have, in bytes.
    fn size(dir: &Path) -> u64 {
        let files = fs::read_dir(dir.join(FOLDER)).unwrap();
        files.map(|file| file.unwrap().metadata().unwrap().len()).sum()
    }

    #[test]
    fn who_has_many_certificates_leaves_room_for_others() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal {
            max_files: 4000,
            max_share: 1000,
            ..Journal::new(dir.path())
        };
        let mut refused = None;
        for n in 1..200 {
            let noted = journal.note(issued(&format!("{n:x}"), 5, "spiffe://td/greedy"));
            refused = refused.or(noted.err());
        }
        let refused = refused.unwrap().to_string();
        for part in ["spiffe://td/greedy", "audit log", "--caller-rate"] {
            assert!(refused.contains(part), "no {part:?} in: {refused}");
        }
        assert!(size(dir.path()) < 1100, "{} bytes", size(dir.path()));
        assert_eq!(journal.dropped() as usize + found(&journal, 0).len(), 199);
        // Others are noted, and what was noted of it is found.
        journal.note(issued("abc", 5, "spiffe://td/x")).unwrap();
        let serials = found(&journal, 0);
        assert!(serials.contains(&"abc".to_owned()) && serials.contains(&"1".to_owned()));
    }

    #[test]
    fn the_files_are_bounded_and_what_is_beyond_waits_in_memory() {
        let dir = tempfile::tempdir().unwrap();
        let small = || Journal {
            max_files: 2000,
            ..Journal::new(dir.path())
        };
        let (journal, other) = (small(), small());
        let mut full = None;
        for n in 1..200 {
            let id = format!("spiffe://td/{n}");
            let by = if n % 2 == 0 { &journal } else { &other };
            full = full.or(by.note(issued(&format!("{n:x}"), n % 3 * DAY + 5, &id)).err());
        }
        assert!(full.unwrap().to_string().contains("may have 2000"));
        // Each may be wrong by what the other has written since it looked.
        assert!(size(dir.path()) <= 2 * 2000, "{} bytes", size(dir.path()));
        let again = small();
        let before = size(dir.path());
        assert!(again.note(issued("abc", 3 * DAY, "spiffe://td/x")).is_err());
        assert_eq!(size(dir.path()), before, "what other processes wrote counts");
        assert!(found(&again, 0).contains(&"abc".to_owned()), "it is in memory");
        // When certificates have ended there is room again.
        again.tidy(2 * DAY + 10).unwrap();
        assert_eq!(found(&Journal::new(dir.path()), 2 * DAY + 10), ["abc"]);
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
        let last = issued("fc", 10 * DAY + 9, "spiffe://td/ns/shop/sa/orders");
        again.note(last.clone()).unwrap();
        assert_eq!(found(&journal, 10 * DAY), ["a", "b", "fc"]);
        assert_eq!(found(&journal, 10 * DAY + 7), ["b", "fc"]);
        let renewed = journal.find(0, |issued| issued.renewed);
        assert_eq!(renewed.unwrap(), [last]);
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
