//! A mesh from a folder of configuration, without any service running: what `simulate` and `explain` look at.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use config::{Finding, ObjectKey};
use envoygen::{Generator, Interception, Output, Proxy, ProxyKind, Scope, Settings};
use galley::folder::Folder;
use galley::store::Store;
use model::{Snapshot, Workload};

/// Address of Mixer in a mesh that names none; as `argosy run` has it.
const MIXER: &str = "127.0.0.1:15004";

/// A mesh of files.
pub(crate) struct Mesh {
    pub(crate) generator: Generator,
    /// What is wrong with the files, and with the objects together.
    pub(crate) findings: Vec<Finding>,
}

/// Which proxy of the mesh.
#[derive(clap::Args)]
pub(crate) struct Which {
    /// The proxy: NAMESPACE/NAME of its workload, or a node id (TYPE~IP~NAME.NAMESPACE~DOMAIN)
    #[arg(long, value_name = "PROXY")]
    proxy: String,
    /// What it is; by default a router if a Gateway selects its labels, else a sidecar
    #[arg(long, value_enum)]
    proxy_type: Option<Type>,
    /// How traffic reaches a sidecar; by default as MeshConfig says
    #[arg(long, value_enum)]
    interception: Option<Mode>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Type {
    Sidecar,
    Router,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Mode {
    Redirect,
    Tproxy,
    None,
}

/// One proxy of a mesh, and all that it would get.
pub(crate) struct Tables {
    pub(crate) proxy: Proxy,
    pub(crate) interception: Interception,
    pub(crate) output: Output,
}

impl Mesh {
    /// Reads a folder as Galley does.
    pub(crate) fn read(folder: &Path) -> Result<Mesh> {
        let mut store = Store::default();
        let scan = Folder::new(folder).scan();
        store.apply(scan.with_context(|| format!("cannot read {}", folder.display()))?);
        let state = store.state();
        let snapshot = Snapshot::build(state.objects.iter().map(Arc::clone));
        let mut findings = state.findings;
        findings.extend(snapshot.rejected.iter().cloned());
        let settings = Settings {
            mixer_address: Some(MIXER.to_owned()),
            ..Settings::default()
        };
        let generator = Generator::new(Arc::new(snapshot), settings);
        findings.extend(generator.findings().iter().cloned());
        Ok(Mesh { generator, findings })
    }

    pub(crate) fn snapshot(&self) -> &Snapshot {
        self.generator.snapshot()
    }

    /// What a proxy would get.
    pub(crate) fn tables(&self, which: &Which) -> Result<Tables> {
        let mut proxy = self.proxy(which)?;
        if let Some(mode) = which.interception {
            proxy.interception = Some(match mode {
                Mode::Redirect => Interception::Redirect,
                Mode::Tproxy => Interception::Tproxy,
                Mode::None => Interception::None,
            });
        }
        let scope = Scope::of(&proxy, &self.generator);
        Ok(Tables {
            interception: scope.outbound.interception,
            output: self.generator.generate(&scope),
            proxy,
        })
    }

    fn proxy(&self, which: &Which) -> Result<Proxy> {
        if which.proxy.contains('~') {
            return Ok(Proxy::parse(&which.proxy, None)?);
        }
        let Some((namespace, name)) = which.proxy.split_once('/') else {
            bail!(
                "--proxy {:?} is neither NAMESPACE/NAME nor a node id",
                which.proxy
            );
        };
        let Some(workload) = self.snapshot().workloads().get(namespace, name) else {
            bail!(
                "the mesh has no workload {namespace}/{name}; it has {}",
                self.some_workloads()
            );
        };
        let kind = match which.proxy_type {
            Some(Type::Sidecar) => "sidecar",
            Some(Type::Router) => "router",
            None if self.is_router(workload) => "router",
            None => "sidecar",
        };
        let ip = workload
            .ip()
            .map_or_else(|| "0.0.0.0".to_owned(), |ip| ip.to_string());
        let domain = model::DNS_DOMAIN;
        Ok(Proxy::parse(
            &format!("{kind}~{ip}~{name}.{namespace}~{namespace}.svc.{domain}"),
            None,
        )?)
    }

    fn is_router(&self, workload: &Workload) -> bool {
        let gateways = self.snapshot().gateways().iter();
        let mut selecting = gateways.filter(|gateway| !gateway.spec.selector.is_empty());
        selecting.any(|gateway| gateway.selects(&workload.labels))
    }

    fn some_workloads(&self) -> String {
        let names: Vec<String> = self
            .snapshot()
            .workloads()
            .iter()
            .map(|w| w.key.resource_name())
            .collect();
        match names.as_slice() {
            [] => "none".to_owned(),
            few if few.len() <= 20 => few.join(", "),
            many => format!("{} others", many.len()),
        }
    }

    /// An object for people: with its generation, if it has one, and its file.
    pub(crate) fn shown(&self, key: &ObjectKey) -> String {
        let Some(object) = self.snapshot().objects().get(key) else {
            return key.to_string();
        };
        let generation = match object.meta.generation {
            0 => String::new(),
            generation => format!(", generation {generation}"),
        };
        match &object.origin.file {
            Some(file) => format!("{key} ({file}:{}{generation})", object.origin.line),
            None => format!("{key}{generation}"),
        }
    }
}

impl Tables {
    /// Whether it is at the mesh's edge.
    pub(crate) fn is_router(&self) -> bool {
        self.proxy.kind == ProxyKind::Router
    }

    /// The objects behind a resource.
    pub(crate) fn origins(&self, type_url: &str, name: &str) -> &[ObjectKey] {
        self.output
            .get(type_url, name)
            .map(|resource| resource.origins.as_slice())
            .unwrap_or_default()
    }
}
