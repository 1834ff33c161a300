//! Reads a folder of YAML: which files count, what they hold, which have not changed since the last look.
//!
//! It knows nothing of what the files mean.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::Metadata;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::store::{Content, Part, Scan};
use crate::touched::Touched;

/// Endings of the files that are read, in whatever case; kubectl reads the same.
const ENDINGS: [&str; 3] = ["yaml", "yml", "json"];
/// Folder with keys and tokens, which are Citadel's and not configuration.
const IDENTITY_FOLDER: &str = "identity";
/// Citadel's own settings, at the top of the folder.
const IDENTITY_FILE: &str = "identity.yaml";
/// Largest file that is read, in bytes.
const MAX_FILE: u64 = 10 << 20;
/// Most files that are read.
const MAX_FILES: usize = 20_000;
/// Folders below folders that are followed.
const MAX_DEPTH: usize = 16;
/// Most folders that are read.
const MAX_FOLDERS: usize = 2_000;

/// Why the folder as a whole could not be read; what was served before stays.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// The folder, or one below it, is missing or may not be read.
    #[error("{}: {source}", path.display())]
    Unreadable {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// More files or folders than Galley reads.
    #[error(
        "more than {MAX_FILES} files or {MAX_FOLDERS} folders; split it, or remove what is not configuration and links in \
         a circle"
    )]
    TooMany,
}

/// What tells that a file was written to.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    length: u64,
    #[cfg(unix)]
    inode: u64,
}

impl From<&Metadata> for Stamp {
    fn from(metadata: &Metadata) -> Self {
        Self {
            modified: metadata.modified().ok(),
            length: metadata.len(),
            #[cfg(unix)]
            inode: std::os::unix::fs::MetadataExt::ino(metadata),
        }
    }
}

/// What a look at a folder has found.
#[derive(Debug)]
pub(crate) enum Look {
    /// Every file.
    Whole(Scan),
    /// Some files; the others are as they were.
    Part(Part),
}

/// A folder, and how its files looked at the last scan.
#[derive(Debug)]
pub struct Folder {
    root: PathBuf,
    stamps: BTreeMap<String, Stamp>,
    /// Whether the last scan could look at every file.
    complete: bool,
}

impl Folder {
    /// A folder that has not been read yet.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            stamps: BTreeMap::new(),
            complete: false,
        }
    }

    /// Reads what changed since the last scan. Blocks on the file system.
    ///
    /// # Errors
    /// When the folder cannot be listed. A single file that cannot be read is in the scan as such.
    pub fn scan(&mut self) -> Result<Scan, FolderError> {
        let files = self.list()?;
        let mut stamps = BTreeMap::new();
        let mut scan = Scan::new();
        for (name, path) in files {
            let (content, stamp) = self.read(&name, &path);
            if let Some(stamp) = stamp {
                stamps.insert(name.clone(), stamp);
            }
            // A file that vanished since the listing is no file.
            if let Some(content) = content {
                scan.insert(name, content);
            }
        }
        self.complete = stamps.len() == scan.len();
        self.stamps = stamps;
        Ok(scan)
    }

    /// As [`Folder::scan`], where only `touched` can have changed: the other files are not looked at.
    ///
    /// # Errors
    /// When the folder had to be listed and cannot be.
    pub(crate) fn look(&mut self, touched: &Touched) -> Result<Look, FolderError> {
        let part = match touched {
            Touched::Files(paths) if self.complete => self.look_at(paths),
            _ => None,
        };
        match part {
            Some(part) => Ok(Look::Part(part)),
            None => self.scan().map(Look::Whole),
        }
    }

    /// `None` where these paths are not all plain files that were here before or are new.
    fn look_at(&mut self, paths: &BTreeSet<PathBuf>) -> Option<Part> {
        let mut found: BTreeMap<String, Option<(Content, Stamp)>> = BTreeMap::new();
        for path in paths {
            let name = path.strip_prefix(&self.root).ok()?.to_str()?.to_owned();
            // A volume's files change in Kubernetes when its link `..data` is turned to another folder.
            if name.split('/').any(|part| part.starts_with("..")) {
                return None;
            }
            let mut parts = name.split('/');
            if parts.any(|part| part.starts_with('.')) || name.split('/').next() == Some(IDENTITY_FOLDER) {
                continue;
            }
            match std::fs::symlink_metadata(path) {
                Ok(metadata) if !metadata.is_file() => return None,
                Ok(_) if !counts(&name) => continue,
                Err(error) if error.kind() != io::ErrorKind::NotFound || !counts(&name) => return None,
                Ok(_) | Err(_) => {}
            }
            let now = match self.read(&name, path) {
                (Some(content), stamp) => Some((content, stamp?)),
                (None, _) => None,
            };
            found.insert(name, now);
        }
        if self.stamps.len() + found.len() > MAX_FILES {
            return None;
        }
        let mut part = Part::new();
        for (name, now) in found {
            let content = match now {
                Some((content, stamp)) => {
                    self.stamps.insert(name.clone(), stamp);
                    Some(content)
                }
                None => {
                    self.stamps.remove(&name);
                    None
                }
            };
            part.insert(name, content);
        }
        Some(part)
    }

    /// Whether a scan would find something new; compares times and sizes only.
    #[must_use]
    pub fn changed(&self) -> bool {
        let Ok(files) = self.list() else { return true };
        let now: BTreeMap<String, Stamp> = files
            .into_iter()
            .filter_map(|(name, path)| Some((name, Stamp::from(&std::fs::metadata(path).ok()?))))
            .collect();
        now != self.stamps
    }

    fn read(&self, name: &str, path: &Path) -> (Option<Content>, Option<Stamp>) {
        let metadata = match std::fs::metadata(path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return (None, None),
            Err(error) => return (Some(Content::Unreadable(error.to_string())), None),
        };
        let stamp = Stamp::from(&metadata);
        if self.stamps.get(name) == Some(&stamp) {
            return (Some(Content::Same), Some(stamp));
        }
        // Opening a pipe would wait for a writer, and devices may never end.
        if !metadata.is_file() {
            let reason = "it is not a regular file".to_owned();
            return (Some(Content::Unreadable(reason)), Some(stamp));
        }
        if metadata.len() > MAX_FILE {
            return (Some(too_long(metadata.len())), Some(stamp));
        }
        match bounded(path) {
            // It grew meanwhile, or its system tells no size.
            Ok(bytes) if bytes.len() as u64 > MAX_FILE => (Some(too_long(bytes.len() as u64)), Some(stamp)),
            Ok(bytes) => (Some(Content::Bytes(bytes)), Some(stamp)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => (None, None),
            Err(error) => (Some(Content::Unreadable(error.to_string())), None),
        }
    }

    fn list(&self) -> Result<BTreeMap<String, PathBuf>, FolderError> {
        let mut files = BTreeMap::new();
        let mut open = vec![(self.root.clone(), String::new(), Vec::new())];
        let mut folders = 0;
        while let Some((path, prefix, mut above)) = open.pop() {
            // A link to a folder that it is in leads nowhere new.
            let own = std::fs::canonicalize(&path).unwrap_or_else(|_| path.clone());
            if above.contains(&own) {
                continue;
            }
            above.push(own);
            folders += 1;
            for (name, path, is_folder) in entries(&path)? {
                let below = format!("{prefix}{name}");
                if is_folder {
                    if above.len() <= MAX_DEPTH && below != IDENTITY_FOLDER {
                        open.push((path, format!("{below}/"), above.clone()));
                    }
                } else if counts(&below) {
                    files.insert(below, path);
                }
            }
            if files.len() > MAX_FILES || folders > MAX_FOLDERS {
                return Err(FolderError::TooMany);
            }
        }
        Ok(files)
    }
}

fn too_long(bytes: u64) -> Content {
    Content::Unreadable(format!(
        "it has {bytes} bytes and Galley reads at most {MAX_FILE} of one file"
    ))
}

/// A file's bytes; one more than [`MAX_FILE`] of a longer one.
fn bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?
        .take(MAX_FILE + 1)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Names, paths and whether they are folders, without what is hidden. Links are followed, as a ConfigMap's
/// mount needs it.
fn entries(folder: &Path) -> Result<Vec<(String, PathBuf, bool)>, FolderError> {
    let failed = |source| FolderError::Unreadable {
        path: folder.to_owned(),
        source,
    };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') {
            let path = entry.path();
            let kind = entry.file_type().map_err(failed)?;
            let is_folder = kind.is_dir() || (kind.is_symlink() && path.is_dir());
            found.push((name, path, is_folder));
        }
    }
    Ok(found)
}

fn counts(name: &str) -> bool {
    let ending = Path::new(name).extension().and_then(|ending| ending.to_str());
    let is_known = |ending: &str| ENDINGS.iter().any(|known| known.eq_ignore_ascii_case(ending));
    name != IDENTITY_FILE && ending.is_some_and(is_known)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn check(files: &[&str], read: &[&str]) {
        let dir = tempfile::tempdir().unwrap();
        for file in files {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        let scan = Folder::new(dir.path()).scan().unwrap();
        assert_eq!(scan.keys().map(String::as_str).collect::<Vec<_>>(), read);
    }

    #[test]
    fn reads_yaml_and_json_at_any_depth_and_leaves_out_keys_and_hidden_files() {
        check(
            &[
                "a.yaml",
                "b/c.yml",
                "b/d/e.json",
                ".git/f.yaml",
                "b/.g.yaml.swp",
                "README.md",
                "z.YAML",
                "identity.yaml",
            ],
            &["a.yaml", "b/c.yml", "b/d/e.json", "z.YAML"],
        );
        check(
            &["identity/tokens/x.json", "sub/identity.yaml"],
            &["sub/identity.yaml"],
        );
        check(&[], &[]);
    }

    #[test]
    fn a_file_is_read_again_only_when_it_changed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.yaml");
        fs::write(&file, "one").unwrap();
        let mut folder = Folder::new(dir.path());
        assert_eq!(folder.scan().unwrap()["a.yaml"], Content::Bytes(b"one".to_vec()));
        assert!(!folder.changed());
        assert_eq!(folder.scan().unwrap()["a.yaml"], Content::Same);
        let new = dir.path().join("a.new");
        fs::write(&new, "two").unwrap();
        fs::rename(new, &file).unwrap();
        assert!(folder.changed());
        assert_eq!(folder.scan().unwrap()["a.yaml"], Content::Bytes(b"two".to_vec()));
    }

    #[test]
    fn a_look_at_what_was_touched_finds_what_a_whole_scan_finds() {
        let dir = tempfile::tempdir().unwrap();
        for file in ["a.yaml", "b.yaml"] {
            fs::write(dir.path().join(file), "one").unwrap();
        }
        let mut folder = Folder::new(dir.path());
        folder.scan().unwrap();
        let touch = |folder: &mut Folder, names: &[&str]| {
            let paths = names.iter().map(|name| dir.path().join(name)).collect();
            folder.look(&Touched::Files(paths)).unwrap()
        };
        let bytes = |text: &str| Content::Bytes(text.as_bytes().to_vec());
        fs::write(dir.path().join("a.yaml"), "three").unwrap();
        fs::write(dir.path().join("c.yaml"), "new").unwrap();
        let Look::Part(part) = touch(&mut folder, &["a.yaml", "c.yaml", ".c.swp"]) else {
            panic!("all files were looked at");
        };
        let expected = [("a.yaml", "three"), ("c.yaml", "new")];
        assert_eq!(
            part,
            expected
                .map(|(name, text)| (name.to_owned(), Some(bytes(text))))
                .into()
        );
        fs::remove_file(dir.path().join("b.yaml")).unwrap();
        let Look::Part(part) = touch(&mut folder, &["b.yaml"]) else {
            panic!("all files were looked at");
        };
        assert_eq!(part, [("b.yaml".to_owned(), None)].into());
        fs::create_dir(dir.path().join("more")).unwrap();
        fs::write(dir.path().join("more/d.yaml"), "below").unwrap();
        let Look::Whole(scan) = touch(&mut folder, &["more"]) else {
            panic!("folders are listed");
        };
        assert_eq!(scan["more/d.yaml"], bytes("below"));
        assert_eq!((scan.len(), &scan["a.yaml"]), (3, &Content::Same));
        assert!(!folder.changed());
    }

    #[test]
    fn a_swapped_link_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        for version in ["one", "two"] {
            fs::create_dir(dir.path().join(format!("..{version}"))).unwrap();
            fs::write(dir.path().join(format!("..{version}/a.yaml")), version).unwrap();
        }
        let link = dir.path().join("..data");
        std::os::unix::fs::symlink("..one", &link).unwrap();
        std::os::unix::fs::symlink("..data/a.yaml", dir.path().join("a.yaml")).unwrap();
        let mut folder = Folder::new(dir.path());
        assert_eq!(folder.scan().unwrap()["a.yaml"], Content::Bytes(b"one".to_vec()));
        let swapped = dir.path().join("..new");
        std::os::unix::fs::symlink("..two", &swapped).unwrap();
        fs::rename(swapped, &link).unwrap();
        let Look::Whole(scan) = folder.look(&Touched::Files([link].into())).unwrap() else {
            panic!("the files behind the link are others");
        };
        assert_eq!(scan["a.yaml"], Content::Bytes(b"two".to_vec()));
    }

    #[test]
    fn a_huge_file_is_named_and_not_read() {
        let dir = tempfile::tempdir().unwrap();
        fs::File::create(dir.path().join("a.yaml"))
            .unwrap()
            .set_len(100 << 20)
            .unwrap();
        let scan = Folder::new(dir.path()).scan().unwrap();
        assert!(matches!(&scan["a.yaml"], Content::Unreadable(reason) if reason.contains("at most")));
    }

    #[test]
    fn what_is_no_regular_file_is_named_and_not_opened() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/dev/zero", dir.path().join("endless.yaml")).unwrap();
        let socket = dir.path().join("socket.yaml");
        let _listener = std::os::unix::net::UnixListener::bind(socket).unwrap();
        let scan = Folder::new(dir.path()).scan().unwrap();
        for name in ["endless.yaml", "socket.yaml"] {
            let content = &scan[name];
            assert!(
                matches!(content, Content::Unreadable(reason) if reason.contains("not a regular file")),
                "{name}: {content:?}"
            );
        }
    }

    #[test]
    fn links_in_a_circle_are_followed_once() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("below")).unwrap();
        for name in ["a", "b", "below/c"] {
            std::os::unix::fs::symlink(dir.path(), dir.path().join(name)).unwrap();
        }
        fs::write(dir.path().join("below/x.yaml"), "x").unwrap();
        let scan = Folder::new(dir.path()).scan().unwrap();
        assert_eq!(scan.keys().collect::<Vec<_>>(), ["below/x.yaml"]);
    }

    #[test]
    fn a_missing_folder_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Folder::new(&dir.path().join("gone")).scan().is_err());
    }
}
