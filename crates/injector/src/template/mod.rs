//! What is laid over a pod: the templates `sidecar` and `gateway`, and those of the settings, as parts of a pod that
//! Kubernetes' strategic merge puts together.

mod init;
mod proxy;
mod volumes;

use std::collections::BTreeMap;

use config::Owner;
use k8s_openapi::DeepMerge;
use k8s_openapi::api::core::v1::{Container, LocalObjectReference, Pod, PodSpec};
use serde_json::Value;

use crate::InjectError;
use crate::names;
use crate::settings::Settings;
use crate::wishes::{Interception, Wishes};

pub(crate) use proxy::variable;

/// The kind of proxy that a template makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Beside an application.
    Sidecar,
    /// The pod's purpose.
    Gateway,
}

/// All that templates read.
pub(crate) struct Ground<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) wishes: &'a Wishes,
    /// The pod without what an earlier injection added.
    pub(crate) pod: &'a Pod,
    pub(crate) namespace: &'a str,
    pub(crate) owner: &'a Owner,
}

impl Ground<'_> {
    pub(crate) fn annotation(&self, name: &str) -> Option<&str> {
        Some(self.pod.metadata.annotations.as_ref()?.get(name)?.as_str())
    }

    pub(crate) fn label(&self, name: &str) -> Option<&str> {
        let value = self.pod.metadata.labels.as_ref()?.get(name)?;
        Some(value.as_str()).filter(|value| !value.is_empty())
    }

    pub(crate) fn annotation_or<'b>(&'b self, name: &str, other: &'b str) -> &'b str {
        self.annotation(name).unwrap_or(other)
    }

    /// Containers of the application.
    pub(crate) fn containers(&self) -> impl Iterator<Item = &Container> {
        let spec = self.pod.spec.iter();
        spec.flat_map(|spec| &spec.containers)
            .filter(|c| c.name != names::PROXY)
    }

    /// The network of the pod's address: its label's, else the cluster's.
    pub(crate) fn network(&self) -> &str {
        self.label(names::NETWORK).unwrap_or(&self.settings.network)
    }
}

/// The templates that a pod is to have, aliases resolved, laid over one another in order.
pub(crate) fn render(ground: &Ground<'_>) -> Result<Pod, InjectError> {
    let mut part = Pod::default();
    for name in chosen(ground) {
        part.merge_from(one(&name, ground)?);
    }
    Ok(part)
}

fn chosen(ground: &Ground<'_>) -> Vec<String> {
    let settings = ground.settings;
    let asked = ground.annotation(names::TEMPLATES).map(|text| {
        let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
        names.map(str::to_owned).collect::<Vec<_>>()
    });
    let resolve = |name: String| match settings.aliases.get(&name) {
        Some(names) => names.clone(),
        None => vec![name],
    };
    let names = asked.unwrap_or_else(|| settings.default_templates.clone());
    names.into_iter().flat_map(resolve).collect()
}

/// The operator's template of a name is stronger than ours.
fn one(name: &str, ground: &Ground<'_>) -> Result<Pod, InjectError> {
    match (ground.settings.templates.get(name), name) {
        (Some(template), _) => custom(name, template),
        (None, "sidecar") => Ok(built_in(Role::Sidecar, ground)),
        (None, "gateway") => Ok(built_in(Role::Gateway, ground)),
        (None, _) => Err(InjectError::UnknownTemplate {
            name: name.to_owned(),
            known: known(ground.settings),
        }),
    }
}

fn known(settings: &Settings) -> String {
    let ours = ["sidecar", "gateway"].map(str::to_owned);
    let own = settings.templates.keys().chain(settings.aliases.keys()).cloned();
    let names: std::collections::BTreeSet<String> = own.chain(ours).collect();
    names.into_iter().collect::<Vec<_>>().join(", ")
}

impl Settings {
    /// Whether each template of the operator's is a part of a pod.
    pub(crate) fn check_templates(&self) -> Result<(), InjectError> {
        let mut templates = self.templates.iter();
        templates.try_for_each(|(name, template)| custom(name, template).map(drop))
    }
}

/// Kubernetes' types want a list of containers, and names of them, which a part of a pod need not have.
fn custom(name: &str, template: &Value) -> Result<Pod, InjectError> {
    let mut template = template.clone();
    if let Some(spec) = template.get_mut("spec").and_then(Value::as_object_mut) {
        spec.entry("containers")
            .or_insert_with(|| Value::Array(Vec::new()));
    }
    serde_json::from_value(template).map_err(|error| InjectError::BrokenTemplate {
        name: name.to_owned(),
        error,
    })
}

fn built_in(role: Role, ground: &Ground<'_>) -> Pod {
    let proxy = proxy::container(role, ground);
    let native = role == Role::Sidecar && ground.wishes.native;
    let redirects = role == Role::Sidecar && ground.wishes.interception != Interception::None;
    let mut init: Vec<Container> = redirects.then(|| init::container(ground)).into_iter().collect();
    let mut containers = Vec::new();
    if native {
        init.push(proxy);
    } else {
        containers.push(proxy);
    }
    let secrets = ground.settings.image_pull_secrets.iter();
    let mut pod = Pod {
        spec: Some(PodSpec {
            containers,
            init_containers: (!init.is_empty()).then_some(init),
            volumes: Some(volumes::all(ground)),
            image_pull_secrets: (secrets.len() > 0).then(|| {
                let name = |name: &String| LocalObjectReference { name: name.clone() };
                secrets.map(name).collect()
            }),
            ..PodSpec::default()
        }),
        ..Pod::default()
    };
    pod.metadata.labels = Some(labels(role, ground));
    pod.metadata.annotations = Some(annotations(ground));
    pod
}

/// Labels that telemetry and peers read, unless the pod has them.
fn labels(role: Role, ground: &Ground<'_>) -> BTreeMap<String, String> {
    let first = |keys: [&str; 3], other: &str| {
        let own = keys.iter().find_map(|key| ground.label(key));
        own.unwrap_or(other).chars().take(63).collect::<String>()
    };
    let name = [names::CANONICAL_NAME, "app.kubernetes.io/name", "app"];
    let revision = [names::CANONICAL_REVISION, "app.kubernetes.io/version", "version"];
    let mut labels = BTreeMap::from([
        (names::CANONICAL_NAME.to_owned(), first(name, &ground.owner.name)),
        (names::CANONICAL_REVISION.to_owned(), first(revision, "latest")),
    ]);
    if role == Role::Sidecar {
        let mode = ground.label(names::TLS_MODE).unwrap_or("istio");
        labels.insert(names::TLS_MODE.to_owned(), mode.to_owned());
    }
    if !ground.network().is_empty() {
        labels.insert(names::NETWORK.to_owned(), ground.network().to_owned());
    }
    labels
}

/// kubectl's default container stays the application's first.
fn annotations(ground: &Ground<'_>) -> BTreeMap<String, String> {
    let mut annotations = ground.settings.injected_annotations.clone();
    annotations.insert(names::REVISION.to_owned(), ground.settings.revision.clone());
    let first = ground.containers().next().map(|container| container.name.clone());
    for key in ["default-container", "default-logs-container"] {
        let key = format!("kubectl.kubernetes.io/{key}");
        if let (Some(name), None) = (&first, ground.annotation(&key)) {
            annotations.insert(key, name.clone());
        }
    }
    annotations
}
