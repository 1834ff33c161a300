//! The whole of injection: from a pod to the pod with a proxy, or to the JSON patch that makes it so.

use config::Owner;
use json_patch::Patch;
use k8s_openapi::api::core::v1::{Container, Pod};

use crate::decide::{Decision, Skipped, decide};
use crate::owner;
use crate::settings::Settings;
use crate::template::{Ground, render};
use crate::wishes::Wishes;
use crate::{InjectError, merge, metrics, names, probes, template};

/// A pod that may be injected.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// The pod as it would be made.
    pub pod: &'a Pod,
    /// Where it would be made; pods that controllers make do not say so themselves.
    pub namespace: &'a str,
    /// The operator's decisions.
    pub settings: &'a Settings,
}

/// What becomes of it.
#[derive(Debug, Clone, PartialEq)]
pub enum Injected {
    /// It has a proxy.
    Pod(Box<Pod>),
    /// It stays as it is.
    Skipped(Skipped),
}

/// Gives a pod its proxy, if it is to have one. Injecting the result again changes nothing.
pub fn inject(request: &Request<'_>) -> Result<Injected, InjectError> {
    if let Decision::Skip(reason) = decide(request.pod, request.namespace, request.settings) {
        return Ok(Injected::Skipped(reason));
    }
    let owner = owner::of(request.pod);
    into_pod(request, &owner).map(|pod| Injected::Pod(Box::new(pod)))
}

/// The same for a pod that is known to get a proxy, with what its user made.
pub(crate) fn into_pod(request: &Request<'_>, owner: &Owner) -> Result<Pod, InjectError> {
    let settings = request.settings;
    let annotations = request.pod.metadata.annotations.clone().unwrap_or_default();
    let wishes = Wishes::read(&annotations, settings).map_err(InjectError::Annotations)?;
    let again = annotations.contains_key(names::STATUS);
    let probers = again.then(|| variable(request.pod, PROBERS)).flatten();
    let scraped = again.then(|| variable(request.pod, SCRAPED)).flatten();
    let (stripped, overrides) = merge::strip(request.pod.clone(), wishes.status_port)?;
    let part = render(&Ground {
        settings,
        wishes: &wishes,
        pod: &stripped,
        namespace: request.namespace,
        owner,
    })?;
    let mut pod = merge::merge(stripped, part, &overrides, &settings.revision)?;
    let earlier = Earlier { probers, scraped };
    let told = finish(&mut pod, &wishes, &earlier)?;
    tell(&mut pod, told);
    merge::order(pod.spec.get_or_insert_default(), wishes.hold);
    Ok(pod)
}

/// Variable with what the agent asks of the application for the kubelet.
const PROBERS: &str = "ISTIO_KUBE_APP_PROBERS";
/// Variable with what it scrapes of the application for Prometheus.
const SCRAPED: &str = "ISTIO_PROMETHEUS_ANNOTATIONS";

/// What an earlier injection told the agent: the pod itself no longer says it.
struct Earlier {
    probers: Option<String>,
    scraped: Option<String>,
}

/// Rewrites probes and the pod's metrics page; gives the variables that tell the agent of it.
fn finish(
    pod: &mut Pod,
    wishes: &Wishes,
    earlier: &Earlier,
) -> Result<Vec<(&'static str, String)>, InjectError> {
    let mut told = Vec::new();
    if wishes.status_port == 0 {
        return Ok(told);
    }
    if wishes.rewrite_probes {
        let found = probes::rewrite(pod.spec.get_or_insert_default(), wishes.status_port);
        let mut all: probes::AppProbes = match &earlier.probers {
            Some(text) => serde_json::from_str(text)
                .map_err(|error| InjectError::BrokenRecord { name: PROBERS, error })?,
            None => probes::AppProbes::new(),
        };
        all.extend(found);
        if !all.is_empty() {
            told.push((PROBERS, serde_json::to_string(&all)?));
        }
    }
    if wishes.merge_metrics {
        let annotations = pod.metadata.annotations.get_or_insert_default();
        let scrape = metrics::merge(annotations, wishes.status_port);
        let text = scrape.map(|scrape| serde_json::to_string(&scrape)).transpose()?;
        told.extend(
            text.or_else(|| earlier.scraped.clone())
                .map(|text| (SCRAPED, text)),
        );
    }
    Ok(told)
}

fn proxies(pod: &mut Pod) -> impl Iterator<Item = &mut Container> {
    let spec = pod.spec.get_or_insert_default();
    let init = spec.init_containers.iter_mut().flatten();
    init.chain(&mut spec.containers)
        .filter(|container| container.name == names::PROXY)
}

fn tell(pod: &mut Pod, told: Vec<(&'static str, String)>) {
    if let Some(proxy) = proxies(pod).next() {
        let env = proxy.env.get_or_insert_default();
        for (name, value) in told {
            env.retain(|variable| variable.name != name);
            env.push(template::variable(name, &value));
        }
    }
}

fn variable(pod: &Pod, name: &str) -> Option<String> {
    let mut pod = pod.clone();
    let proxy = proxies(&mut pod).next()?;
    let variable = proxy
        .env
        .iter()
        .flatten()
        .find(|variable| variable.name == name)?;
    variable.value.clone()
}

/// The JSON patch (RFC 6902) that gives a pod its proxy; `None` for one that stays as it is. It names only what injection
/// changes: fields of the pod that this release does not know stay as they are.
pub fn patch(request: &Request<'_>) -> Result<Option<Patch>, InjectError> {
    match inject(request)? {
        Injected::Skipped(_) => Ok(None),
        Injected::Pod(injected) => difference(request.pod, &injected).map(Some),
    }
}

/// What makes one pod of the other.
pub(crate) fn difference(before: &Pod, after: &Pod) -> Result<Patch, InjectError> {
    let (before, after) = (serde_json::to_value(before)?, serde_json::to_value(after)?);
    Ok(json_patch::diff(&before, &after))
}
