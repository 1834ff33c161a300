//! Files and folders named on the command line, read as `argosy run` would read them: which names mean the mesh's settings,
//! which object is served where several have one name.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

use anyhow::ensure;
use config::{Finding, Object, ObjectKey, Origin, Parsed};

/// Most bytes read of one file, or of standard input.
const MAX_BYTES: u64 = 64 << 20;
/// Citadel's settings.
const IDENTITY_FILE: &str = "identity.yaml";
/// Names of files that hold settings and no object, where Galley finds them at the top of a folder.
const SETTINGS: [&str; 2] = ["mesh.yaml", "mesh-networks.yaml"];
/// Endings of the files that are read.
const ENDINGS: [&str; 3] = ["json", "yaml", "yml"];

/// What a file is, by its name and what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// MeshConfig or MeshNetworks, as Istio writes them.
    Settings,
    /// Whom Citadel trusts.
    Identity,
    /// Objects.
    Objects,
}

/// What a file is. Objects may be in a file of any name.
pub(crate) fn role(path: &Path, bytes: &[u8]) -> Role {
    let is_object = bytes
        .split(|byte| *byte == b'\n')
        .any(|line| line.starts_with(b"apiVersion:") || line.starts_with(b"{"));
    match path.file_name().and_then(|name| name.to_str()) {
        _ if is_object => Role::Objects,
        Some(name) if SETTINGS.contains(&name) => Role::Settings,
        Some(IDENTITY_FILE) => Role::Identity,
        _ => Role::Objects,
    }
}

/// Whether files with this name's ending are read.
pub(crate) fn is_read(path: &Path) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str());
    ending.is_some_and(|ending| ENDINGS.iter().any(|known| known.eq_ignore_ascii_case(ending)))
}

/// A file's bytes, or those of standard input for `-`.
///
/// # Errors
/// When it cannot be read or is too long.
pub(crate) fn bytes(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    match path == Path::new("-") {
        true => std::io::stdin().take(MAX_BYTES + 1).read_to_end(&mut bytes)?,
        false => std::fs::File::open(path)?
            .take(MAX_BYTES + 1)
            .read_to_end(&mut bytes)?,
    };
    ensure!(
        bytes.len() as u64 <= MAX_BYTES,
        "it has more than the {} MiB that are read of one file; split it",
        MAX_BYTES >> 20
    );
    Ok(bytes)
}

/// What is wrong with a file of Citadel's settings: what `argosy run` would say and not start.
pub(crate) fn identity_fault(path: &Path) -> Option<Finding> {
    let fault = citadel::identity_file::load(path).err()?.to_string();
    let shown = path.display().to_string();
    let fault = fault.strip_prefix(&format!("{shown}: ")).unwrap_or(&fault);
    Some(Finding::error(fault).from(Origin::new(shown, 0, 0)))
}

/// The same for a folder whose top has such a file.
pub(crate) fn identity_fault_in(folder: &Path) -> Option<Finding> {
    let file = folder.join(IDENTITY_FILE);
    file.exists().then(|| identity_fault(&file)).flatten()
}

/// Leaves the first of several objects of one name in a folder's files, as Galley does, and says so.
pub(crate) fn leave_first(files: &mut [Parsed]) {
    let mut first: BTreeMap<ObjectKey, Origin> = BTreeMap::new();
    for file in files.iter_mut() {
        let Parsed {
            objects, findings, ..
        } = file;
        objects.retain(|object| match first.get(&object.key()) {
            None => {
                first.insert(object.key(), object.origin.clone());
                true
            }
            Some(other) => {
                findings.push(repeated(object, other));
                false
            }
        });
    }
    for file in files {
        // What is served is analysed rather than what is not.
        file.invalid.retain(|object| !first.contains_key(&object.key()));
    }
}

fn repeated(object: &Object, first: &Origin) -> Finding {
    Finding::error(format!("is defined a second time; the first is at {first}"))
        .help("the first is served; remove or rename one of the two")
        .of(object.key())
        .at("metadata.name")
        .from(object.origin.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_known_by_name_unless_they_are_objects() {
        let check = |path: &str, text: &str, expected| {
            assert_eq!(role(Path::new(path), text.as_bytes()), expected, "{path}");
        };
        check("mesh/mesh.yaml", "trustDomain: a\n", Role::Settings);
        check("mesh-networks.yaml", "networks: {}\n", Role::Settings);
        check(
            "mesh/mesh.yaml",
            "# a\napiVersion: v1\nkind: Service\n",
            Role::Objects,
        );
        check("mesh/identity.yaml", "tokenIssuers: []\n", Role::Identity);
        check("mesh/other.yaml", "trustDomain: a\n", Role::Objects);
    }

    #[test]
    fn the_first_object_of_a_name_is_left() {
        let service = |file: &str| {
            let text = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: 80}]}\n";
            config::parse(file, text.as_bytes(), "shop")
        };
        let mut files = [service("a.yaml"), service("b.yaml")];
        leave_first(&mut files);
        assert_eq!(files.each_ref().map(|file| file.objects.len()), [1, 0]);
        let said = files[1].findings.last().unwrap().to_string();
        assert!(said.contains("b.yaml:1") && said.contains("a.yaml:1"), "{said}");
    }
}
