//! The folder of configuration: made by `argosy init`, moved to this run's addresses, edited by the scenario.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use config::{Object, Spec};
use testkit::files::write_atomic;
use testkit::net::Block;

/// The addresses that the sample is written for.
const SAMPLE_PREFIX: &str = "127.1.0.";

/// A folder of configuration.
#[derive(Debug, Clone)]
pub struct Folder {
    path: PathBuf,
}

/// A workload of the folder.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The loopback address that it owns.
    pub address: String,
    /// Its service account.
    pub account: String,
    /// The application's service and version; a gateway has none.
    pub app: Option<(String, String)>,
}

impl Folder {
    /// Has `argosy init` make a folder at `path`, and moves its addresses into `block`.
    ///
    /// # Errors
    /// When `argosy init` fails, with what it said.
    pub fn init(path: &Path, block: &Block) -> anyhow::Result<Self> {
        let argosy = testkit::bins::find("argosy")?;
        let output = Command::new(argosy)
            .arg("init")
            .arg(path)
            .output()
            .context("cannot run argosy")?;
        let said = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(output.status.success(), "argosy init: {}: {said}", output.status);
        let folder = Self {
            path: path.to_owned(),
        };
        for entry in std::fs::read_dir(path)? {
            let file = entry?.path();
            if file.extension().is_some_and(|extension| extension == "yaml") {
                let text = std::fs::read_to_string(&file)?;
                write_atomic(&file, text.replace(SAMPLE_PREFIX, &block.prefix()))?;
            }
        }
        Ok(folder)
    }

    /// A folder that is there already.
    pub fn at(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The mesh's root certificates.
    pub fn ca_root(&self) -> PathBuf {
        self.path.join("identity/ca/root-cert.pem")
    }

    /// The token of a service account.
    pub fn token(&self, namespace: &str, account: &str) -> PathBuf {
        self.path
            .join("identity/tokens")
            .join(namespace)
            .join(format!("{account}.jwt"))
    }

    /// Reads a file as text.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(&self, name: &str) -> anyhow::Result<String> {
        let file = self.file(name);
        std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))
    }

    /// Replaces a file in one step.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) -> anyhow::Result<()> {
        write_atomic(&self.file(name), text)
    }

    /// Removes a file.
    ///
    /// # Errors
    /// When it is not there.
    pub fn remove(&self, name: &str) -> anyhow::Result<()> {
        let file = self.file(name);
        std::fs::remove_file(&file).with_context(|| format!("cannot remove {}", file.display()))
    }

    /// Replaces the one occurrence of `old` in a file, and gives the text from before.
    ///
    /// # Errors
    /// When `old` is not there exactly once.
    pub fn edit(&self, name: &str, old: &str, new: &str) -> anyhow::Result<String> {
        let before = self.read(name)?;
        let count = before.matches(old).count();
        anyhow::ensure!(count == 1, "{name} has {count} times, not once: {old}");
        self.write(name, before.replace(old, new))?;
        Ok(before)
    }

    /// The workloads that it declares.
    ///
    /// # Errors
    /// When `workloads.yaml` cannot be read or has none.
    pub fn workloads(&self) -> anyhow::Result<Vec<Entry>> {
        let parsed = config::parse(
            "workloads.yaml",
            self.read("workloads.yaml")?.as_bytes(),
            "default",
        );
        let entries: Vec<Entry> = parsed.objects.iter().filter_map(entry).collect();
        anyhow::ensure!(
            !entries.is_empty(),
            "workloads.yaml declares no workload: {:?}",
            parsed.findings
        );
        Ok(entries)
    }
}

fn entry(object: &Object) -> Option<Entry> {
    let Spec::WorkloadEntry(spec) = &object.spec else {
        return None;
    };
    let label = |name: &str| spec.labels.get(name).cloned();
    Some(Entry {
        namespace: object.meta.namespace.clone(),
        name: object.meta.name.clone(),
        address: spec.address.clone(),
        account: spec.service_account.clone(),
        app: label("app").zip(label("version")),
    })
}
