//! Makes services of Kubernetes Services (with their EndpointSlices) and ServiceEntries, and finds the endpoints behind them:
//! slices, inline endpoints, and workloads chosen by label in the same namespace.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use config::kube::{self, IntOrString};
use config::networking::{self as api, Location};
use config::{Finding, Object};

use crate::export::ExportTo;
use crate::finding;
use crate::host;
use crate::protocol::Protocol;
use crate::service::{Endpoint, Health, Port, Registry, Resolution, Service};
use crate::workload::{Address, Workload};
use crate::workloads::Workloads;

/// Annotation of a Kubernetes Service that says who sees it.
const EXPORT_TO: &str = "networking.istio.io/exportTo";
/// Label of an EndpointSlice that names its Service.
const SLICE_SERVICE: &str = "kubernetes.io/service-name";

/// What services are made from.
pub(crate) struct Sources<'a> {
    pub(crate) domain: &'a str,
    pub(crate) default_export: &'a [String],
    pub(crate) workloads: &'a Workloads,
    /// Slices by namespace and the service's name.
    pub(crate) slices: HashMap<(&'a str, &'a str), Vec<(&'a Object, &'a kube::EndpointSlice)>>,
}

/// Groups slices by the service that they belong to.
pub(crate) fn slices<'a>(
    all: impl Iterator<Item = (&'a Object, &'a kube::EndpointSlice)>,
) -> HashMap<(&'a str, &'a str), Vec<(&'a Object, &'a kube::EndpointSlice)>> {
    let mut grouped: HashMap<_, Vec<_>> = HashMap::new();
    for (object, slice) in all {
        if let Some(service) = object.meta.labels.get(SLICE_SERVICE) {
            grouped
                .entry((object.meta.namespace.as_str(), service.as_str()))
                .or_default()
                .push((object, slice));
        }
    }
    grouped
}

impl Sources<'_> {
    /// The service of a Kubernetes Service.
    pub(crate) fn kubernetes(&self, object: &Object, spec: &kube::ServiceSpec) -> Service {
        let meta = &object.meta;
        let exported: Vec<String> = match meta.annotations.get(EXPORT_TO) {
            Some(list) => list
                .split(',')
                .map(|n| n.trim().to_owned())
                .filter(|n| !n.is_empty())
                .collect(),
            None => Vec::new(),
        };
        let ports = unique(spec.ports.iter().filter_map(kubernetes_port).collect());
        let addresses = cluster_ips(spec);
        let resolution = if spec.r#type == "ExternalName" {
            Resolution::Alias(host::resolve(&spec.external_name, &meta.namespace, self.domain))
        } else if spec.cluster_ip == "None" && spec.selector.is_empty() {
            Resolution::Passthrough
        } else {
            Resolution::Static
        };
        let mut service = Service {
            host: host::fqdn(&meta.name, &meta.namespace, self.domain),
            name: meta.name.clone(),
            namespace: meta.namespace.clone(),
            registry: Registry::Kubernetes,
            ports,
            resolution,
            mesh_external: false,
            addresses,
            export_to: ExportTo::new(&exported, self.default_export, &meta.namespace),
            subject_alt_names: Vec::new(),
            labels: meta.labels.clone(),
            created: meta.created,
            endpoints: Vec::new(),
            origins: vec![object.key()],
        };
        self.add_slices(&mut service);
        if !spec.selector.is_empty() {
            self.add_workloads(&mut service, &spec.selector, |workload, port| {
                kubernetes_target(spec, workload, port)
            });
        }
        finish(service)
    }

    /// One service for each host of a ServiceEntry.
    pub(crate) fn service_entry(
        &self,
        object: &Object,
        spec: &api::ServiceEntry,
        findings: &mut Vec<Finding>,
    ) -> Vec<Service> {
        if spec.resolution == api::Resolution::DynamicDns {
            findings.push(finding::warning(
                &object.key(),
                "spec.resolution",
                "DYNAMIC_DNS is not served yet: connections go to their original destination; use DNS for named hosts",
            ));
        }
        let hosts = spec.hosts.iter().map(|host| host.to_ascii_lowercase());
        hosts
            .map(|host| self.entry_host(object, spec, host, findings))
            .collect()
    }

    fn entry_host(
        &self,
        object: &Object,
        spec: &api::ServiceEntry,
        host: String,
        findings: &mut Vec<Finding>,
    ) -> Service {
        let meta = &object.meta;
        let mut service = Service {
            name: meta.name.clone(),
            namespace: meta.namespace.clone(),
            registry: Registry::ServiceEntry,
            ports: unique(spec.ports.iter().filter_map(entry_port).collect()),
            resolution: resolution(spec, &host),
            mesh_external: spec.location == Location::MeshExternal,
            addresses: spec.addresses.clone(),
            export_to: ExportTo::new(&spec.export_to, self.default_export, &meta.namespace),
            subject_alt_names: spec.subject_alt_names.clone(),
            labels: meta.labels.clone(),
            created: meta.created,
            endpoints: Vec::new(),
            origins: vec![object.key()],
            host,
        };
        for (index, entry) in spec.endpoints.iter().enumerate() {
            let workload = Workload::new(object.key(), &BTreeMap::new(), entry);
            if matches!(workload.address, Address::Host(_)) && service.resolution == Resolution::Static {
                findings.push(finding::warning(
                    &object.key(),
                    format!("spec.endpoints[{index}].address"),
                    format!(
                        "{:?} is not an IP address; use resolution DNS for names",
                        entry.address
                    ),
                ));
                continue;
            }
            let mut endpoint = endpoint(&service, &workload, |port| entry_target(spec, &workload, port));
            endpoint.workload.clear();
            service.endpoints.push(endpoint);
        }
        if let Some(selector) = &spec.workload_selector {
            self.add_workloads(&mut service, &selector.labels, |workload, port| {
                entry_target(spec, workload, port)
            });
        } else if service.endpoints.is_empty() {
            service.endpoints.extend(own_name(&service, spec, object));
        }
        finish(service)
    }

    fn add_workloads(
        &self,
        service: &mut Service,
        selector: &BTreeMap<String, String>,
        target: impl Fn(&Workload, &Port) -> Option<u16>,
    ) {
        let by_ip = matches!(service.resolution, Resolution::Static);
        for workload in self.workloads.select(&service.namespace, selector) {
            if by_ip && matches!(workload.address, Address::Host(_)) {
                continue;
            }
            let found = endpoint(service, workload, |port| target(workload, port));
            if !found.ports.is_empty() {
                service.endpoints.push(found);
            }
        }
    }

    fn add_slices(&self, service: &mut Service) {
        let found = self
            .slices
            .get(&(service.namespace.as_str(), service.name.as_str()));
        for (object, slice) in found.into_iter().flatten() {
            if slice.address_type == "FQDN" {
                continue;
            }
            let ports: Vec<(u16, u16)> = service
                .ports
                .iter()
                .filter_map(|port| {
                    let target = slice.ports.iter().find(|p| p.name == port.name)?.port?;
                    Some((port.number, u16::try_from(target).ok()?))
                })
                .collect();
            for one in &slice.endpoints {
                service.endpoints.extend(self.slice_endpoint(object, one, &ports));
            }
        }
    }

    fn slice_endpoint(
        &self,
        object: &Object,
        one: &kube::Endpoint,
        ports: &[(u16, u16)],
    ) -> Option<Endpoint> {
        let address = one.addresses.first()?.parse().ok()?;
        let workload = self
            .workloads
            .at(address)
            .find(|w| w.key.namespace == object.meta.namespace);
        Some(Endpoint {
            address: Address::Ip(address),
            ports: ports.to_vec(),
            labels: workload.map(|w| Arc::clone(&w.labels)).unwrap_or_default(),
            namespace: object.meta.namespace.clone(),
            workload: workload.map(|w| w.key.name.clone()).unwrap_or_default(),
            service_account: workload.map(|w| w.account().to_owned()),
            mtls: workload.is_some_and(Workload::accepts_mtls),
            network: workload.map(|w| w.network.clone()).unwrap_or_default(),
            locality: workload.map(|w| w.locality.clone()).unwrap_or_default(),
            weight: 1,
            health: slice_health(&one.conditions),
            origin: object.key(),
        })
    }
}

/// An absent condition means ready; an endpoint that ends but still serves drains (Kubernetes, EndpointSlice conditions).
fn slice_health(conditions: &kube::EndpointConditions) -> Health {
    let serving = conditions.serving.or(conditions.ready).unwrap_or(true);
    match (conditions.terminating.unwrap_or(false), serving) {
        (true, true) => Health::Draining,
        (false, true) if conditions.ready.unwrap_or(true) => Health::Healthy,
        _ => Health::Unhealthy,
    }
}

fn endpoint(service: &Service, workload: &Workload, target: impl Fn(&Port) -> Option<u16>) -> Endpoint {
    let ports = service
        .ports
        .iter()
        .filter_map(|port| Some((port.number, target(port)?)));
    Endpoint {
        address: workload.address.clone(),
        ports: ports.collect(),
        labels: Arc::clone(&workload.labels),
        namespace: service.namespace.clone(),
        workload: workload.key.name.clone(),
        service_account: Some(workload.account().to_owned()),
        mtls: workload.accepts_mtls() && !service.mesh_external,
        network: workload.network.clone(),
        locality: workload.locality.clone(),
        weight: workload.weight,
        health: workload.health,
        origin: workload.key.clone(),
    }
}

/// A DNS service without endpoints is found under its own name.
fn own_name(service: &Service, spec: &api::ServiceEntry, object: &Object) -> Option<Endpoint> {
    let by_dns = matches!(service.resolution, Resolution::Dns | Resolution::DnsRoundRobin);
    if !by_dns || host::is_wildcard(&service.host) {
        return None;
    }
    let entry = api::WorkloadEntry {
        address: service.host.clone(),
        ..Default::default()
    };
    let workload = Workload::new(object.key(), &BTreeMap::new(), &entry);
    let mut found = endpoint(service, &workload, |port| entry_target(spec, &workload, port));
    found.workload.clear();
    found.service_account = None;
    Some(found)
}

fn finish(mut service: Service) -> Service {
    service
        .endpoints
        .sort_by(|a, b| (&a.address, &a.ports, &a.origin).cmp(&(&b.address, &b.ports, &b.origin)));
    service
        .endpoints
        .dedup_by(|b, a| a.address == b.address && a.ports == b.ports);
    service
}

/// Keeps the first port of each number.
pub(crate) fn unique(ports: Vec<Port>) -> Vec<Port> {
    let mut out: Vec<Port> = Vec::with_capacity(ports.len());
    for port in ports {
        if !out.iter().any(|known| {
            known.number == port.number
                && (known.protocol == Protocol::Udp) == (port.protocol == Protocol::Udp)
        }) {
            out.push(port);
        }
    }
    out
}

fn cluster_ips(spec: &kube::ServiceSpec) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for ip in std::iter::once(&spec.cluster_ip).chain(&spec.cluster_ips) {
        if !ip.is_empty() && ip != "None" && !all.contains(ip) {
            all.push(ip.clone());
        }
    }
    all
}

fn kubernetes_port(port: &kube::ServicePort) -> Option<Port> {
    let number = u16::try_from(port.port).ok()?;
    let app = (!port.app_protocol.is_empty()).then_some(port.app_protocol.as_str());
    let protocol = Protocol::of_service_port(&port.protocol, app, &port.name, number);
    Some(Port {
        name: port.name.clone(),
        number,
        protocol,
    })
}

fn entry_port(port: &api::ServicePort) -> Option<Port> {
    Some(Port {
        name: port.name.clone(),
        number: u16::try_from(port.number).ok()?,
        protocol: Protocol::parse(&port.protocol),
    })
}

/// A workload's port behind a Kubernetes Service's port: by the port's name in the workload's own ports, then by the target
/// port's name there, then the target port's number.
fn kubernetes_target(spec: &kube::ServiceSpec, workload: &Workload, port: &Port) -> Option<u16> {
    if let Some(own) = workload.ports.get(&port.name) {
        return Some(*own);
    }
    let declared = spec
        .ports
        .iter()
        .find(|p| p.port == u32::from(port.number) && p.name == port.name)?;
    match &declared.target_port {
        None => Some(port.number),
        Some(IntOrString::Int(0)) => Some(port.number),
        Some(IntOrString::Int(number)) => u16::try_from(*number).ok(),
        Some(IntOrString::String(name)) => name.parse().ok().or_else(|| workload.ports.get(name).copied()),
    }
}

/// A workload's port behind a ServiceEntry's port: its own port of that name, else the target port, else the same number.
fn entry_target(spec: &api::ServiceEntry, workload: &Workload, port: &Port) -> Option<u16> {
    if matches!(workload.address, Address::Unix(_)) {
        return Some(0);
    }
    if let Some(own) = workload.ports.get(&port.name) {
        return Some(*own);
    }
    let declared = spec.ports.iter().find(|p| p.number == u32::from(port.number))?;
    match declared.target_port {
        0 => Some(port.number),
        target => u16::try_from(target).ok(),
    }
}

fn resolution(spec: &api::ServiceEntry, host: &str) -> Resolution {
    match spec.resolution {
        api::Resolution::None => Resolution::Passthrough,
        api::Resolution::Static => Resolution::Static,
        api::Resolution::Dns if host::is_wildcard(host) && spec.endpoints.is_empty() => {
            Resolution::Passthrough
        }
        api::Resolution::Dns => Resolution::Dns,
        api::Resolution::DnsRoundRobin => Resolution::DnsRoundRobin,
        api::Resolution::DynamicDns => Resolution::DynamicDns,
    }
}
