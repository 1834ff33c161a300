//! Workloads that get in the sidecar's way: its user id, and Services that disagree about a port.

use std::collections::{BTreeMap, BTreeSet};

use config::kube::{Deployment, IntOrString, PodSpec, SecurityContext, Service};
use config::{Kind, Object, Spec};
use model::selects;

use crate::analyzer::Check;
use crate::workload::{PROXY, deployment_in_mesh, is_control_plane, label};
use crate::{Analyzer, Code, Report, Set};

/// Whether an application runs as the sidecar's user.
pub(crate) const APPLICATION_UID: Analyzer = Analyzer::new(
    "deployment.ApplicationUIDAnalyzer",
    "Applications that run as the sidecar's user",
    &[Code::InvalidApplicationUID],
    &[Kind::Pod, Kind::Deployment, Kind::DaemonSet],
    Check::Each(&[Kind::Pod, Kind::Deployment, Kind::DaemonSet], application_uid),
)
.alias("applicationUID.Analyzer");

/// Whether Services in front of one Deployment use its ports in the same way.
pub(crate) const SERVICE_ASSOCIATION: Analyzer = Analyzer::new(
    "deployment.ServiceAssociationAnalyzer",
    "Services in front of one Deployment that use its ports differently",
    &[
        Code::DeploymentAssociatedToMultipleServices,
        Code::DeploymentConflictingPorts,
    ],
    &[Kind::Service, Kind::Deployment, Kind::Namespace],
    Check::Each(&[Kind::Deployment], service_association),
)
.alias("deployment.MultiServiceAnalyzer");

/// The sidecar's user id, by which its own traffic is told apart.
const PROXY_UID: i64 = 1337;

fn application_uid(_: &Set<'_>, object: &Object, report: &mut Report) {
    let (spec, at) = match &object.spec {
        Spec::Pod(pod) => (&pod.spec, "spec"),
        Spec::Deployment(deployment) => (&deployment.spec.template.spec, "spec.template.spec"),
        Spec::DaemonSet(daemons) => (&daemons.spec.template.spec, "spec.template.spec"),
        _ => return,
    };
    if is_control_plane(object) {
        return;
    }
    // Once for an object, whatever runs as that user.
    if let Some(path) = proxy_user(spec) {
        report.say(Code::InvalidApplicationUID, object, format!("{at}.{path}"), &[]);
    }
}

/// The path of the first that runs as the sidecar's user without being the sidecar.
fn proxy_user(spec: &PodSpec) -> Option<String> {
    let is_proxy = |context: &Option<SecurityContext>| {
        context.as_ref().and_then(|context| context.run_as_user) == Some(PROXY_UID)
    };
    let field = "securityContext.runAsUser";
    if is_proxy(&spec.security_context) {
        return Some(field.to_owned());
    }
    let index = spec.containers.iter().position(|container| {
        !matches!(container.name.as_str(), PROXY | "istio-operator") && is_proxy(&container.security_context)
    })?;
    Some(format!("containers[{index}].{field}"))
}

fn service_association(set: &Set<'_>, object: &Object, report: &mut Report) {
    let Spec::Deployment(deployment) = &object.spec else {
        return;
    };
    let waypoint = label(object, "gateway.istio.io/managed") == Some("istio.io-mesh-controller");
    if !waypoint && deployment_in_mesh(set, object, deployment) {
        association(object, &in_front(set, object, deployment), report);
    }
}

/// The Services that select a Deployment's pods.
fn in_front<'a>(set: &Set<'a>, object: &Object, deployment: &Deployment) -> Vec<(&'a Object, &'a Service)> {
    let labels = &deployment.spec.template.metadata.labels;
    let each = labels.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    set.services_of(&object.meta.namespace, each, |selector| selects(selector, labels))
}

/// `services` are those in front of it.
fn association(object: &Object, services: &[(&Object, &Service)], report: &mut Report) {
    let mut protocols: BTreeMap<u32, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
    let mut targets: BTreeMap<String, BTreeMap<u32, String>> = BTreeMap::new();
    for (service, body) in services {
        let name = super::full_name(service);
        for port in &body.spec.ports {
            let protocol = match port.protocol.as_str() {
                "" => "TCP".to_owned(),
                given => given.to_owned(),
            };
            let users = protocols
                .entry(port.port)
                .or_default()
                .entry(protocol)
                .or_default();
            users.insert(name.clone());
            let target = target(port.target_port.as_ref(), port.port);
            targets.entry(target).or_default().insert(port.port, name.clone());
        }
    }
    let own = &object.meta.name;
    for (port, by_protocol) in protocols.iter().filter(|(_, by_protocol)| by_protocol.len() > 1) {
        let users: BTreeSet<&str> = by_protocol.values().flatten().map(String::as_str).collect();
        report.say(
            Code::DeploymentAssociatedToMultipleServices,
            object,
            "metadata.name",
            &[own, port, &join(users)],
        );
    }
    for (target, by_port) in targets.iter().filter(|(_, by_port)| by_port.len() > 1) {
        let users: BTreeSet<&str> = by_port.values().map(String::as_str).collect();
        let ports: Vec<String> = by_port.keys().map(u32::to_string).collect();
        report.say(
            Code::DeploymentConflictingPorts,
            object,
            "metadata.name",
            &[own, &join(users), target, &ports.join(", ")],
        );
    }
}

/// A target port as written; the port itself when there is none.
fn target(target: Option<&IntOrString>, port: u32) -> String {
    match target {
        Some(IntOrString::Int(number)) if *number != 0 => number.to_string(),
        Some(IntOrString::String(name)) if !name.is_empty() => name.clone(),
        _ => port.to_string(),
    }
}

fn join(names: BTreeSet<&str>) -> String {
    names.into_iter().collect::<Vec<_>>().join(", ")
}
