//! The operator's files: what they say together ([`read`], pure), and following them. A ConfigMap's volume changes by links, so
//! what counts is the content, looked at every second.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use runtime::Metrics;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::Ground;
use super::args::FileArgs;
use crate::settings::Settings;

/// How often files are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// Largest file in bytes: what a ConfigMap holds.
const MAX_FILE: u64 = 1 << 20;

/// The settings cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A file is not there, or too large.
    #[error("{flag} {}: {source}", path.display())]
    File {
        /// The flag that names it.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The settings are not what `Settings` has.
    #[error("--settings: {0}")]
    Settings(#[from] serde_saphyr::Error),
    /// MeshConfig breaks a rule.
    #[error("--mesh-config: {0}")]
    Mesh(String),
    /// A template can be no part of a pod.
    #[error("--settings: {0}")]
    Template(#[from] crate::InjectError),
}

/// The texts of both files, where they are given.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Texts {
    settings: Option<String>,
    mesh: Option<String>,
}

impl Texts {
    fn of(files: &FileArgs) -> Result<Self, LoadError> {
        let one = |flag, path: &Option<PathBuf>| path.as_deref().map(|path| text(flag, path)).transpose();
        Ok(Self {
            settings: one("--settings", &files.settings)?,
            mesh: one("--mesh-config", &files.mesh_config)?,
        })
    }
}

fn text(flag: &'static str, path: &Path) -> Result<String, LoadError> {
    let failed = |source| LoadError::File {
        flag,
        path: path.to_owned(),
        source,
    };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(MAX_FILE + 1)
        .read_to_string(&mut text)
        .map_err(failed)?;
    if text.len() as u64 > MAX_FILE {
        return Err(failed(std::io::Error::other("larger than 1 MiB")));
    }
    Ok(text)
}

/// Settings of both texts: what the settings leave out of `defaultConfig`, `trustDomain` and `rootNamespace` MeshConfig says.
///
/// # Errors
/// What is wrong with them.
pub fn read(settings: Option<&str>, mesh: Option<&str>) -> Result<Settings, LoadError> {
    let written: Value = settings.map_or(Ok(Value::Null), serde_saphyr::from_str)?;
    let mut read: Settings = match settings {
        Some(text) if !written.is_null() => serde_saphyr::from_str(text)?,
        _ => Settings::default(),
    };
    if let Some(text) = mesh {
        let mesh = mesh_config(text)?;
        for (field, setting) in [
            ("trustDomain", &mut read.trust_domain),
            ("rootNamespace", &mut read.root_namespace),
        ] {
            if let (Some(said), None) = (mesh.get(field).and_then(Value::as_str), written.get(field)) {
                said.clone_into(setting);
            }
        }
        let mut merged = mesh.get("defaultConfig").cloned().unwrap_or_default();
        json_patch::merge(&mut merged, &read.default_config);
        read.default_config = merged;
    }
    read.check_templates()?;
    Ok(read)
}

/// MeshConfig as JSON, when the rules find nothing wrong with it.
fn mesh_config(text: &str) -> Result<Value, LoadError> {
    let parsed = config::parse_mesh_config("--mesh-config", text.as_bytes(), "");
    if let Some(error) = parsed.findings.iter().find(|finding| finding.is_error()) {
        return Err(LoadError::Mesh(format!("{}: {}", error.path, error.message)));
    }
    serde_saphyr::from_str(text).map_err(|error| LoadError::Mesh(error.to_string()))
}

/// Reads the files once.
///
/// # Errors
/// When one is missing or broken.
pub fn load(files: &FileArgs) -> Result<Settings, LoadError> {
    load_texts(files).map(|(settings, _)| settings)
}

/// As [`load`], with the texts that were read, for [`follow`].
///
/// # Errors
/// When one is missing or broken.
pub fn load_texts(files: &FileArgs) -> Result<(Settings, Texts), LoadError> {
    let texts = Texts::of(files)?;
    let settings = read(texts.settings.as_deref(), texts.mesh.as_deref())?;
    Ok((settings, texts))
}

/// Whether the files say something that is not in force.
#[derive(Debug, Clone)]
pub struct Stale(Gauge);

impl Stale {
    /// Not so yet.
    #[must_use]
    pub fn new(metrics: &Metrics) -> Self {
        Self(metrics.gauge(
            "injector_settings_stale",
            "1 while the settings' files are broken and what was read before stays in force",
        ))
    }
}

/// Follows the files until `shutdown`, from the texts that are in force. What is broken is told once, and leaves in force what
/// was read before.
pub async fn follow(
    files: FileArgs,
    in_force: Texts,
    ground: Arc<Ground>,
    stale: Stale,
    shutdown: CancellationToken,
) {
    let mut seen = Some(in_force);
    let mut told = String::new();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
        let texts = Texts::of(&files);
        let outcome = match texts {
            Ok(texts) if seen.as_ref() == Some(&texts) => continue,
            Ok(texts) => {
                let settings = read(texts.settings.as_deref(), texts.mesh.as_deref());
                seen = Some(texts);
                settings
            }
            Err(error) => {
                seen = None;
                Err(error)
            }
        };
        match outcome {
            Ok(settings) => {
                ground.settings.store(Arc::new(settings));
                stale.0.set(0);
                told.clear();
                tracing::info!("the injector's settings are read again");
            }
            Err(error) => {
                let error = error.to_string();
                stale.0.set(1);
                if error != told {
                    tracing::error!(error, "the injector's settings stay as they were");
                    told = error;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn mesh_config_fills_in_what_the_settings_leave_out() {
        let mesh = "trustDomain: mesh.example\nrootNamespace: root\ndefaultConfig: {concurrency: 4, statusPort: 15020}\n";
        let read = |settings: Option<&str>| super::read(settings, Some(mesh)).unwrap();
        let plain = read(None);
        assert_eq!(plain.trust_domain, "mesh.example");
        assert_eq!(plain.root_namespace, "root");
        assert_eq!(
            plain.default_config,
            json!({"concurrency": 4, "statusPort": 15020})
        );
        let own = read(Some(
            "trustDomain: own.example\nrootNamespace: own\ndefaultConfig: {concurrency: 2}\n",
        ));
        assert_eq!(own.root_namespace, "own");
        assert_eq!(own.trust_domain, "own.example");
        assert_eq!(own.default_config, json!({"concurrency": 2, "statusPort": 15020}));
        assert_eq!(read(Some("# nothing\n")), plain);
    }

    #[test]
    fn what_is_broken_is_named() {
        let check = |settings: &str, mesh: &str, words: &str| {
            let error = read(Some(settings), Some(mesh)).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        };
        check("imag: x\n", "", "imag");
        check(
            "",
            "defaultConfig: {concurrency: many}\n",
            "defaultConfig.concurrency",
        );
        check("templates: {own: {spec: {containers: 3}}}\n", "", "\"own\"");
    }

    #[tokio::test]
    async fn a_changed_file_counts_and_a_broken_one_does_not() {
        let folder = testkit::Rundir::new("injector-settings").unwrap();
        let path = folder.path().join("settings.yaml");
        std::fs::write(&path, "image: proxy:1\n").unwrap();
        let files = FileArgs {
            settings: Some(path.clone()),
            mesh_config: None,
        };
        let ground = Arc::new(Ground::default());
        let (settings, texts) = load_texts(&files).unwrap();
        ground.settings.store(Arc::new(settings));
        let metrics = Metrics::new();
        let end = CancellationToken::new();
        let following = tokio::spawn(follow(
            files,
            texts,
            ground.clone(),
            Stale::new(&metrics),
            end.clone(),
        ));
        let image = || ground.settings.load().image.clone();
        assert_eq!(image(), "proxy:1");
        std::fs::write(&path, "image: [\n").unwrap();
        until(|| metrics.encode().contains("injector_settings_stale 1")).await;
        assert_eq!(image(), "proxy:1");
        std::fs::write(&path, "image: proxy:2\n").unwrap();
        until(|| image() == "proxy:2").await;
        until(|| metrics.encode().contains("injector_settings_stale 0")).await;
        end.cancel();
        following.await.unwrap();
    }

    async fn until(holds: impl Fn() -> bool) {
        let end = tokio::time::Instant::now() + Duration::from_secs(60);
        while !holds() {
            assert!(tokio::time::Instant::now() < end, "not in time");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
