//! Takes the descriptors of Envoy's messages out of the envoy-types package, which carries them as a file but not as a
//! constant, and strips what reflection does not need: comments and positions are nine tenths of what a pool holds.

#![allow(
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    reason = "the crate is pure, its building is not; what is wrong ends the build"
)]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

use prost::Message;
use prost_types::FileDescriptorSet;

const PACKAGE: &str = "envoy-types";
const FILE: &str = "src/generated/types.bin";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=../../Cargo.lock");
    let file = match unpacked()? {
        Some(file) => file,
        None => told_by_cargo()?,
    };
    let bytes = std::fs::read(&file).map_err(|error| format!("{}: {error}", file.display()))?;
    let mut set = FileDescriptorSet::decode(bytes.as_slice())?;
    for file in &mut set.file {
        file.source_code_info = None;
        file.service.clear();
    }
    let out = PathBuf::from(std::env::var("OUT_DIR")?).join("envoy.bin");
    std::fs::write(out, set.encode_to_vec())?;
    Ok(())
}

/// The file where Cargo unpacks packages of registries, found without asking Cargo: it would want every package of the
/// workspace, also those that only other crates' tests need.
fn unpacked() -> Result<Option<PathBuf>, Box<dyn Error>> {
    let lock = std::fs::read_to_string("../../Cargo.lock")?;
    let version = lock
        .split("[[package]]")
        .find(|package| package.contains(&format!("name = \"{PACKAGE}\"\n")))
        .and_then(|package| package.split("version = \"").nth(1)?.split('"').next())
        .ok_or("Cargo.lock has no envoy-types")?;
    let home = std::env::var("CARGO_HOME").map(PathBuf::from);
    let Ok(home) = home.or_else(|_| std::env::var("HOME").map(|home| Path::new(&home).join(".cargo"))) else {
        return Ok(None);
    };
    let Ok(registries) = std::fs::read_dir(home.join("registry/src")) else {
        return Ok(None);
    };
    let mut files = registries
        .flatten()
        .map(|registry| registry.path().join(format!("{PACKAGE}-{version}")).join(FILE));
    Ok(files.find(|file| file.is_file()))
}

/// The file of a package that comes from elsewhere, such as a vendored one.
fn told_by_cargo() -> Result<PathBuf, Box<dyn Error>> {
    let output = Command::new(std::env::var("CARGO")?)
        .args(["metadata", "--format-version", "1", "--filter-platform"])
        .arg(std::env::var("TARGET")?)
        .output()?;
    if !output.status.success() {
        return Err(format!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let found = packages
        .filter(|package| package["name"] == PACKAGE)
        .find_map(|package| Path::new(package["manifest_path"].as_str()?).parent());
    let folder = found.ok_or_else(|| format!("{PACKAGE} is not among the dependencies"))?;
    Ok(folder.join(FILE))
}
