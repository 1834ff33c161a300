//! Services that are not the same in all clusters of the mesh.

use std::collections::{BTreeMap, BTreeSet};

use config::kube::{IntOrString, Service, ServicePort};
use config::{Object, Spec};

use crate::analyzer::Check;
use crate::{Analyzer, Code, Report, Set};

/// Whether Services of one name and namespace agree in all clusters, which clients take for one.
pub(crate) const SERVICES: Analyzer = Analyzer::new(
    "multicluster.ServiceAnalyzer",
    "Services that are not the same in all clusters of the mesh",
    &[Code::MultiClusterInconsistentService],
    &[],
    Check::Mesh(run),
)
.alias("services.MultiClusterServiceAnalyzer")
.by_facts();

/// A Service in one cluster.
type Instance<'a> = (&'a str, &'a Object, &'a Service);

fn run(set: &Set<'_>, report: &mut Report) {
    let mut by_name: BTreeMap<(&str, &str), Vec<Instance<'_>>> = BTreeMap::new();
    for (cluster, objects) in &set.facts().clusters {
        for object in objects {
            if let Spec::Service(service) = &object.spec {
                let name = (object.meta.namespace.as_str(), object.meta.name.as_str());
                let instances = by_name.entry(name).or_default();
                instances.push((cluster, object, service));
            }
        }
    }
    for ((namespace, name), instances) in by_name {
        let Some(((first, object, model), others)) = instances.split_first() else {
            continue;
        };
        let mut clusters = BTreeSet::new();
        let mut reasons = BTreeSet::new();
        for (cluster, _, service) in others {
            let differences = differences(model, service);
            if !differences.is_empty() {
                clusters.extend([*first, *cluster]);
                reasons.extend(differences);
            }
        }
        if !clusters.is_empty() {
            let code = Code::MultiClusterInconsistentService;
            report.say(
                code,
                object,
                "spec",
                &[&name, &namespace, &join(clusters), &join(reasons)],
            );
        }
    }
}

fn differences(a: &Service, b: &Service) -> Vec<&'static str> {
    let (a, b) = (&a.spec, &b.spec);
    let checks = [
        (
            "headless or not",
            is_headless(&a.cluster_ip) != is_headless(&b.cluster_ip),
        ),
        ("type", kind(&a.r#type) != kind(&b.r#type)),
        ("ports", ports(&a.ports) != ports(&b.ports)),
    ];
    checks
        .into_iter()
        .filter_map(|(what, differ)| differ.then_some(what))
        .collect()
}

fn is_headless(cluster_ip: &str) -> bool {
    cluster_ip == "None"
}

fn kind(given: &str) -> &str {
    if given.is_empty() { "ClusterIP" } else { given }
}

/// Ports as clients see them, in the order of their names. Node ports are each cluster's own.
fn ports(ports: &[ServicePort]) -> Vec<(&str, u32, &str, &str, String)> {
    let mut ports: Vec<_> = ports
        .iter()
        .map(|port| {
            let protocol = if port.protocol.is_empty() {
                "TCP"
            } else {
                &port.protocol
            };
            let target = match &port.target_port {
                None => port.port.to_string(),
                Some(IntOrString::Int(number)) => number.to_string(),
                Some(IntOrString::String(name)) => name.clone(),
            };
            (
                port.name.as_str(),
                port.port,
                protocol,
                port.app_protocol.as_str(),
                target,
            )
        })
        .collect();
    ports.sort();
    ports
}

fn join(texts: BTreeSet<&str>) -> String {
    texts.into_iter().collect::<Vec<_>>().join(", ")
}
