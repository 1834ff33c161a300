//! The files and folders that are analysed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use config::{Finding, ObjectKey, Parsed};
use galley::folder::Folder;
use galley::store::Content;

use super::Read;
use crate::given::{self, Role};

/// Name, at the top of a folder, of the file that holds MeshNetworks, as Galley reads it.
const NETWORKS_FILE: &str = "mesh-networks.yaml";
/// Namespace that the MeshConfig is shown under.
const MESH_NAMESPACE: &str = "istio-system";

/// Reads all paths. Objects that name no namespace belong to `namespace`. Of several objects of one name in a path the first is
/// kept, as Galley does, and of several paths the last one's.
pub(super) fn read(paths: &[&PathBuf], namespace: &str) -> anyhow::Result<Read> {
    let mut all = Read::default();
    for path in paths {
        let mut files = match path.is_dir() {
            true => folder(path, namespace, &mut all)?,
            false => file(path, namespace, &mut all)?.into_iter().collect(),
        };
        given::leave_first(&mut files);
        cover(&mut all, &files, &path.display().to_string());
        files.into_iter().for_each(|file| all.add(file));
    }
    Ok(all)
}

/// Says of objects of earlier paths that a later one has them too.
fn cover(all: &mut Read, files: &[Parsed], by: &str) {
    let earlier: BTreeMap<ObjectKey, usize> = (all.objects.iter().enumerate())
        .map(|(index, object)| (object.key(), index))
        .collect();
    for object in files.iter().flat_map(|file| &file.objects) {
        let covered = earlier
            .get(&object.key())
            .and_then(|index| all.objects.get(*index));
        if let Some(covered) = covered {
            let words = format!("is not used: {by} has an object of the same name, which is");
            let finding = Finding::warning(words)
                .of(covered.key())
                .from(covered.origin.clone());
            all.findings.push(finding);
        }
    }
}

fn folder(path: &Path, namespace: &str, all: &mut Read) -> anyhow::Result<Vec<Parsed>> {
    all.findings.extend(given::identity_fault_in(path));
    let mut files = Vec::new();
    for (name, content) in Folder::new(path).scan()? {
        let file = path.join(&name);
        match content {
            Content::Bytes(bytes) => {
                let role = match name.contains('/') {
                    true => Role::Objects,
                    false => given::role(&file, &bytes),
                };
                files.push(parse(&file, role, bytes, namespace, all));
            }
            Content::Unreadable(reason) => bail!("{}: {reason}", file.display()),
            Content::Same => {}
        }
    }
    if files.is_empty() {
        eprintln!(
            "{}: the folder holds no .yaml, .yml or .json file",
            path.display()
        );
    }
    Ok(files)
}

fn file(path: &Path, namespace: &str, all: &mut Read) -> anyhow::Result<Option<Parsed>> {
    let bytes = given::bytes(path).with_context(|| path.display().to_string())?;
    if path != Path::new("-") && !given::is_read(path) {
        bail!(
            "{}: not read; names of files end in .yaml, .yml or .json",
            path.display()
        );
    }
    Ok(match given::role(path, &bytes) {
        Role::Identity => {
            all.findings.extend(given::identity_fault(path));
            None
        }
        role => Some(parse(path, role, bytes, namespace, all)),
    })
}

fn parse(path: &Path, role: Role, bytes: Vec<u8>, namespace: &str, all: &mut Read) -> Parsed {
    let file = path.display().to_string();
    let parsed = match role {
        Role::Settings if path.ends_with(NETWORKS_FILE) => {
            config::parse_mesh_networks(&file, &bytes, MESH_NAMESPACE)
        }
        Role::Settings => config::parse_mesh_config(&file, &bytes, MESH_NAMESPACE),
        Role::Identity | Role::Objects => config::parse(&file, &bytes, namespace),
    };
    all.texts.insert(file, bytes);
    parsed
}

/// Tells, on standard error, of documents that are no objects; how many there are.
pub(super) fn tell_unparsed(read: &Read) -> usize {
    let unparsed = |finding: &&Finding| finding.object.is_none() && finding.is_error();
    let all: Vec<_> = read.findings.iter().filter(unparsed).collect();
    for finding in &all {
        eprintln!("{finding}");
    }
    all.len()
}
