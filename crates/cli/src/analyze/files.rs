//! The files and folders that are analysed.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::Context;
use config::Finding;
use galley::folder::Folder;
use galley::store::Content;

use super::Read;

/// Most bytes read from standard input.
const MAX_STDIN: u64 = 64 << 20;
/// Name, at the top of a folder, of the file that holds the MeshConfig, as Galley reads it.
const MESH_FILE: &str = "mesh.yaml";
/// Likewise of the file that holds MeshNetworks.
const NETWORKS_FILE: &str = "mesh-networks.yaml";
/// Namespace that the MeshConfig is shown under.
const MESH_NAMESPACE: &str = "istio-system";
/// Endings of the files that are read.
const ENDINGS: [&str; 3] = ["json", "yaml", "yml"];

/// Reads all paths. Objects that name no namespace belong to `namespace`.
pub(super) fn read(paths: &[&PathBuf], namespace: &str) -> anyhow::Result<Read> {
    let mut all = Read::default();
    for path in paths {
        match path.is_dir() {
            true => folder(path, namespace, &mut all)?,
            false => file(path, namespace, &mut all)?,
        }
    }
    Ok(all)
}

fn folder(path: &Path, namespace: &str, all: &mut Read) -> anyhow::Result<()> {
    for (name, content) in Folder::new(path).scan()? {
        let file = path.join(&name).display().to_string();
        match content {
            Content::Bytes(bytes) if name == MESH_FILE => {
                all.add(config::parse_mesh_config(&file, &bytes, MESH_NAMESPACE));
                all.texts.insert(file, bytes);
            }
            Content::Bytes(bytes) if name == NETWORKS_FILE => {
                all.add(config::parse_mesh_networks(&file, &bytes, MESH_NAMESPACE));
                all.texts.insert(file, bytes);
            }
            Content::Bytes(bytes) => add(file, bytes, namespace, all),
            Content::Unreadable(reason) => anyhow::bail!("{file}: {reason}"),
            Content::Same => {}
        }
    }
    Ok(())
}

fn file(path: &Path, namespace: &str, all: &mut Read) -> anyhow::Result<()> {
    let name = path.display().to_string();
    if path == Path::new("-") {
        let mut bytes = Vec::new();
        std::io::stdin().take(MAX_STDIN).read_to_end(&mut bytes)?;
        add(name, bytes, namespace, all);
        return Ok(());
    }
    let ending = path.extension().unwrap_or_default();
    if !ENDINGS.iter().any(|known| ending == *known) {
        eprintln!("Skipping file {name}, recognized file extensions are: .json, .yaml, .yml");
        return Ok(());
    }
    let bytes = std::fs::read(path).with_context(|| name.clone())?;
    add(name, bytes, namespace, all);
    Ok(())
}

fn add(name: String, bytes: Vec<u8>, namespace: &str, all: &mut Read) {
    all.add(config::parse(&name, &bytes, namespace));
    all.texts.insert(name, bytes);
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
