//! Puts pod and template together, and takes an earlier injection away again, so that injecting twice is injecting once.

use k8s_openapi::DeepMerge;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use serde::{Deserialize, Serialize};

use crate::InjectError;
use crate::names::{AUTO, INIT, OVERRIDES, PROXY, PROXY_USER, STATUS};
use crate::{metrics, names};

/// What injection added, as `sidecar.istio.io/status` tells it in Istio's form.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Status {
    init_containers: Option<Vec<String>>,
    containers: Option<Vec<String>>,
    volumes: Option<Vec<String>>,
    image_pull_secrets: Option<Vec<String>>,
    revision: String,
}

/// Containers that the user wrote to change ours, as `proxy.istio.io/overrides` keeps them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Overrides {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    containers: Vec<Container>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    init_containers: Vec<Container>,
}

fn record<T: serde::de::DeserializeOwned + Default>(
    pod: &Pod,
    name: &'static str,
) -> Result<Option<T>, InjectError> {
    let text = pod
        .metadata
        .annotations
        .as_ref()
        .and_then(|annotations| annotations.get(name));
    let read =
        |text: &String| serde_json::from_str(text).map_err(|error| InjectError::BrokenRecord { name, error });
    text.map(read).transpose()
}

/// Names of the containers that an earlier injection added.
fn remove(containers: &mut Vec<Container>, names: Option<&Vec<String>>) {
    containers.retain(|container| !names.is_some_and(|names| names.contains(&container.name)));
}

/// The pod as its user wrote it: without what an earlier injection added, and with the user's own container for the proxy
/// taken out. Gives that container apart.
pub(crate) fn strip(mut pod: Pod, status_port: u16) -> Result<(Pod, Overrides), InjectError> {
    let status: Option<Status> = record(&pod, STATUS)?;
    let kept: Option<Overrides> = record(&pod, OVERRIDES)?;
    let spec = pod.spec.get_or_insert_default();
    if let Some(status) = &status {
        remove(&mut spec.containers, status.containers.as_ref());
        if let Some(init) = &mut spec.init_containers {
            remove(init, status.init_containers.as_ref());
        }
        let ours = |name: &String| status.volumes.as_ref().is_some_and(|names| names.contains(name));
        if let Some(volumes) = &mut spec.volumes {
            volumes.retain(|volume| !ours(&volume.name));
        }
        let annotations = pod.metadata.annotations.get_or_insert_default();
        metrics::clear(annotations, status_port);
        annotations.remove(STATUS);
        annotations.remove(OVERRIDES);
    }
    let taken = taken(spec);
    Ok((pod, kept.filter(|_| status.is_some()).unwrap_or(taken)))
}

fn taken(spec: &mut PodSpec) -> Overrides {
    let ours = |container: &mut Container| container.name == PROXY || container.name == INIT;
    let init = spec.init_containers.get_or_insert_default();
    let overrides = Overrides {
        containers: spec.containers.extract_if(.., ours).collect(),
        init_containers: init.extract_if(.., ours).collect(),
    };
    if init.is_empty() {
        spec.init_containers = None;
    }
    overrides
}

/// Lays the template over the pod, and the user's own containers over that.
pub(crate) fn merge(
    mut pod: Pod,
    template: Pod,
    overrides: &Overrides,
    revision: &str,
) -> Result<Pod, InjectError> {
    let status = serde_json::to_string(&Status::of(&template, revision))?;
    pod.merge_from(template);
    let spec = pod.spec.get_or_insert_default();
    let users = overrides.containers.iter().chain(&overrides.init_containers);
    for user in users {
        lay_over(spec, user.clone());
    }
    adopt_user(spec);
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(STATUS.to_owned(), status);
    if *overrides != Overrides::default() {
        annotations.insert(OVERRIDES.to_owned(), serde_json::to_string(overrides)?);
    }
    Ok(pod)
}

impl Status {
    fn of(template: &Pod, revision: &str) -> Self {
        fn names<T>(list: Option<&Vec<T>>, name: impl Fn(&T) -> &String) -> Option<Vec<String>> {
            list.filter(|list| !list.is_empty())
                .map(|list| list.iter().map(|item| name(item).clone()).collect())
        }
        let spec = template.spec.clone().unwrap_or_default();
        Self {
            init_containers: names(spec.init_containers.as_ref(), |c| &c.name),
            containers: names(Some(&spec.containers), |c| &c.name),
            volumes: names(spec.volumes.as_ref(), |v| &v.name),
            image_pull_secrets: names(spec.image_pull_secrets.as_ref(), |s| &s.name),
            revision: revision.to_owned(),
        }
    }
}

/// Over our container of that name wherever it is: a native sidecar is among the init containers, and the user need not know.
fn lay_over(spec: &mut PodSpec, mut user: Container) {
    if user.image.as_deref() == Some(AUTO) {
        user.image = None;
        // The API server's default for an image without a tag is no wish of the user's.
        user.image_pull_policy.take_if(|policy| policy == "Always");
    }
    let init = spec.init_containers.iter_mut().flatten();
    match init
        .chain(&mut spec.containers)
        .find(|ours| ours.name == user.name)
    {
        Some(ours) => ours.merge_from(user),
        None => spec.containers.push(user),
    }
}

/// Redirection leaves out the traffic of the user that the proxy runs as, whoever chose it. Root cannot be that user: then the
/// application's traffic as root would be left out as well.
fn adopt_user(spec: &mut PodSpec) {
    let init = spec.init_containers.iter().flatten();
    let proxy = init
        .chain(&spec.containers)
        .find(|container| container.name == PROXY);
    let user = proxy.and_then(|proxy| proxy.security_context.as_ref()?.run_as_user);
    let Some(user) = user.filter(|user| *user != 0 && *user != PROXY_USER) else {
        return;
    };
    let redirecting = spec.init_containers.iter_mut().flatten().find(|c| c.name == INIT);
    let args = redirecting.and_then(|container| container.args.as_mut());
    let value = args.and_then(|args| {
        let flag = args.iter().position(|arg| arg == "-u")?;
        args.get_mut(flag + 1)
    });
    if let Some(value) = value {
        *value = user.to_string();
    }
}

/// Containers in the order in which they must start. A native sidecar runs before the pod's other init containers, which then
/// are in the mesh too; else redirection is set up last, so that they reach the network without a proxy.
pub(crate) fn order(spec: &mut PodSpec, hold: bool) {
    let first = |containers: &mut Vec<Container>, name: &str| containers.sort_by_key(|c| c.name != name);
    let last = |containers: &mut Vec<Container>, name: &str| containers.sort_by_key(|c| c.name == name);
    match hold {
        true => first(&mut spec.containers, PROXY),
        false => last(&mut spec.containers, PROXY),
    }
    let Some(init) = &mut spec.init_containers else {
        return;
    };
    if init.iter().any(|container| container.name == PROXY) {
        first(init, PROXY);
        first(init, INIT);
    } else {
        last(init, names::INIT);
    }
}
