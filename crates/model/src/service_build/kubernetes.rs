//! Services of Kubernetes Services: ClusterIP, headless, ExternalName, NodePort and LoadBalancer.

use config::kube::{IntOrString, Service as KubernetesService, ServiceSpec};
use config::{Kind, Object};

use super::{Sources, finish, unique};
use crate::export::ExportTo;
use crate::host;
use crate::identity::Identity;
use crate::protocol::Protocol;
use crate::service::{Health, Port, Registry, Resolution, Service, TrafficDistribution};
use crate::workload::Workload;

/// Annotation of a Service that says who sees it.
const EXPORT_TO: &str = "networking.istio.io/exportTo";
/// Annotation of a Service that names its servers' identities, in full.
const CANONICAL_ACCOUNTS: &str = "alpha.istio.io/canonical-serviceaccounts";
/// Annotation of a Service that names its servers' service accounts in its namespace.
const KUBERNETES_ACCOUNTS: &str = "alpha.istio.io/kubernetes-serviceaccounts";

impl Sources<'_> {
    /// The service of a Kubernetes Service. Its EndpointSlices say where it is served; where there are none (a folder without
    /// a cluster) the Pods that it selects do, and WorkloadEntries in any case.
    pub(super) fn kubernetes(&self, object: &Object, declared: &KubernetesService) -> Service {
        let (meta, spec) = (&object.meta, &declared.spec);
        let resolution = resolution(spec);
        let external = matches!(resolution, Resolution::Alias(_));
        let mut service = Service {
            host: host::fqdn(&meta.name, &meta.namespace, self.domain),
            name: meta.name.clone(),
            namespace: meta.namespace.clone(),
            registry: Registry::Kubernetes,
            ports: unique(spec.ports.iter().filter_map(port).collect()),
            resolution,
            mesh_external: external,
            addresses: cluster_ips(spec),
            auto_addresses: Vec::new(),
            external_addresses: external_addresses(declared),
            aliases: Vec::new(),
            traffic_distribution: self.distribution(object, &spec.traffic_distribution),
            node_local: spec.internal_traffic_policy == "Local",
            export_to: ExportTo::new(&listed(object, EXPORT_TO), self.default_export, &meta.namespace),
            subject_alt_names: self.identities(object),
            labels: meta.labels.clone(),
            created: meta.created,
            endpoints: Vec::new(),
            origins: vec![object.key()],
        };
        if external {
            return service;
        }
        let sliced = self.add_slices(&mut service, spec);
        let takes = |workload: &Workload| !sliced || workload.key.kind != Kind::Pod;
        self.add_workloads(&mut service, &spec.selector, takes, |workload, port| {
            target(spec, workload, port)
        });
        if spec.publish_not_ready_addresses {
            for endpoint in &mut service.endpoints {
                if endpoint.health == Health::Unhealthy {
                    endpoint.health = Health::Healthy;
                }
            }
        }
        finish(service)
    }

    /// How near clients should stay: the field counts, then the annotation, then the namespace's (Istio's order).
    pub(super) fn distribution(&self, object: &Object, field: &str) -> TrafficDistribution {
        let field = TrafficDistribution::parse(field).filter(|known| *known != TrafficDistribution::Any);
        field
            .or_else(|| TrafficDistribution::annotated(&object.meta.annotations))
            .or_else(|| self.platform.traffic_distribution(&object.meta.namespace))
            .unwrap_or_default()
    }

    fn identities(&self, object: &Object) -> Vec<String> {
        let accounts = listed(object, KUBERNETES_ACCOUNTS).into_iter();
        let own = accounts
            .map(|account| Identity::new(self.trust_domain, &object.meta.namespace, &account).to_string());
        listed(object, CANONICAL_ACCOUNTS)
            .into_iter()
            .chain(own)
            .collect()
    }
}

/// The values of an annotation that holds several, separated by commas.
fn listed(object: &Object, annotation: &str) -> Vec<String> {
    let values = object.meta.annotations.get(annotation).into_iter();
    let values = values.flat_map(|list| list.split(',')).map(str::trim);
    values
        .filter(|value| !value.is_empty())
        .map(str::to_owned)
        .collect()
}

fn resolution(spec: &ServiceSpec) -> Resolution {
    if spec.r#type == "ExternalName" && !spec.external_name.is_empty() {
        let name = spec.external_name.trim_end_matches('.');
        Resolution::Alias(name.to_ascii_lowercase())
    } else if spec.cluster_ip == "None" {
        Resolution::Passthrough
    } else {
        Resolution::Static
    }
}

/// Its virtual addresses, the first family first.
fn cluster_ips(spec: &ServiceSpec) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for ip in std::iter::once(&spec.cluster_ip).chain(&spec.cluster_ips) {
        if !ip.is_empty() && ip != "None" && !all.contains(ip) {
            all.push(ip.clone());
        }
    }
    all
}

fn external_addresses(service: &KubernetesService) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    if service.spec.r#type == "LoadBalancer" {
        for ingress in &service.status.load_balancer.ingress {
            let address = if ingress.ip.is_empty() {
                &ingress.hostname
            } else {
                &ingress.ip
            };
            all.extend((!address.is_empty()).then(|| address.clone()));
        }
    }
    all.extend(service.spec.external_ips.iter().cloned());
    all
}

fn port(port: &config::kube::ServicePort) -> Option<Port> {
    let number = u16::try_from(port.port).ok()?;
    let app = (!port.app_protocol.is_empty()).then_some(port.app_protocol.as_str());
    Some(Port {
        name: port.name.clone(),
        number,
        protocol: Protocol::of_service_port(&port.protocol, app, &port.name, number),
    })
}

/// A workload's port behind a Service's port: a WorkloadEntry's own port of that name, else the target port's number, or
/// the workload's port that the target port names.
fn target(spec: &ServiceSpec, workload: &Workload, port: &Port) -> Option<u16> {
    let own = workload.ports.get(&port.name);
    if let (Some(own), true) = (own, workload.key.kind != Kind::Pod) {
        return Some(*own);
    }
    let declared = spec
        .ports
        .iter()
        .find(|p| p.port == u32::from(port.number) && p.name == port.name)?;
    match &declared.target_port {
        None | Some(IntOrString::Int(0)) => Some(port.number),
        Some(IntOrString::Int(number)) => u16::try_from(*number).ok(),
        Some(IntOrString::String(name)) => name.parse().ok().or_else(|| workload.ports.get(name).copied()),
    }
}
