//! Services of ServiceEntries, one for each host.

use std::collections::BTreeMap;
use std::net::IpAddr;

use config::networking::{self as api, Location};
use config::{Finding, Object};
use ipnet::IpNet;

use super::{Sources, endpoint, finish, unique};
use crate::export::ExportTo;
use crate::finding;
use crate::host;
use crate::protocol::Protocol;
use crate::service::{Endpoint, Port, Registry, Resolution, Service, ServiceId};
use crate::workload::{Address, Workload};

/// Label of a ServiceEntry that says whether it wants addresses of the reserved ranges.
const ALLOCATE_LABEL: &str = "networking.istio.io/enable-autoallocate-ip";

/// The hosts of a ServiceEntry, each once.
pub(crate) fn hosts(entry: &api::ServiceEntry) -> Vec<String> {
    let mut hosts: Vec<String> = entry.hosts.iter().map(|host| host.to_ascii_lowercase()).collect();
    hosts.sort();
    hosts.dedup();
    hosts
}

/// Whether a ServiceEntry's hosts get addresses of the reserved ranges: it has none of its own, resolves them somehow, and does
/// not opt out (Istio).
pub(crate) fn allocates(object: &Object, entry: &api::ServiceEntry) -> bool {
    let label = object.meta.labels.get(ALLOCATE_LABEL);
    entry.addresses.is_empty()
        && entry.resolution != api::Resolution::None
        && !label.is_some_and(|value| value.eq_ignore_ascii_case("false"))
}

/// The addresses that the status of a ServiceEntry has for one of its hosts, IPv4 first.
pub(crate) fn given(object: &Object, host: &str) -> Vec<IpAddr> {
    let all = api::allocated_addresses(&object.meta).into_iter();
    let mut own: Vec<IpAddr> = all
        .filter(|(of, _)| of == host)
        .map(|(_, address)| address)
        .collect();
    own.sort();
    own.dedup();
    own
}

/// What of a ServiceEntry cannot be used, and why.
pub(crate) fn findings(object: &Object, entry: &api::ServiceEntry) -> Vec<Finding> {
    let mut found = Vec::new();
    if entry.resolution == api::Resolution::DynamicDns {
        found.push(finding::warning(
            &object.key(),
            "spec.resolution",
            "DYNAMIC_DNS is not served yet: connections go to their original destination; use DNS for named hosts",
        ));
    }
    let by_name = matches!(
        entry.resolution,
        api::Resolution::Dns | api::Resolution::DnsRoundRobin
    );
    for (index, endpoint) in entry.endpoints.iter().enumerate() {
        let address = Address::parse(&endpoint.address);
        let unknown = endpoint.address.is_empty() && !endpoint.network.is_empty();
        if matches!(address, Address::Host(_)) && !by_name && !unknown {
            found.push(finding::warning(
                &object.key(),
                format!("spec.endpoints[{index}].address"),
                format!(
                    "{:?} is not an IP address; use resolution DNS for names",
                    endpoint.address
                ),
            ));
        }
    }
    found
}

impl Sources<'_> {
    pub(super) fn entry_host(&self, object: &Object, spec: &api::ServiceEntry, host: &str) -> Service {
        let meta = &object.meta;
        let id = ServiceId::new(host, &meta.namespace);
        let mut service = Service {
            host: host.to_owned(),
            name: meta.name.clone(),
            namespace: meta.namespace.clone(),
            registry: Registry::ServiceEntry,
            ports: unique(spec.ports.iter().filter_map(port).collect()),
            resolution: resolution(spec, host),
            mesh_external: spec.location == Location::MeshExternal,
            addresses: spec.addresses.iter().map(|address| plain(address)).collect(),
            auto_addresses: self.auto_addresses(object, spec, &id),
            external_addresses: Vec::new(),
            aliases: Vec::new(),
            traffic_distribution: self.distribution(object, ""),
            node_local: false,
            export_to: ExportTo::new(&spec.export_to, self.default_export, &meta.namespace),
            subject_alt_names: spec.subject_alt_names.clone(),
            labels: meta.labels.clone(),
            created: meta.created,
            endpoints: Vec::new(),
            origins: vec![object.key()],
        };
        let by_name = matches!(service.resolution, Resolution::Dns | Resolution::DnsRoundRobin);
        for entry in &spec.endpoints {
            let workload = Workload::new(object.key(), &BTreeMap::new(), entry, self.platform);
            let named = matches!(workload.address, Address::Host(_)) && !by_name;
            if named && (!entry.address.is_empty() || workload.network.is_empty()) {
                continue;
            }
            let mut endpoint = endpoint(&service, &workload, |port| target(spec, &workload, port));
            endpoint.workload.clear();
            endpoint.workload_name.clear();
            service.endpoints.push(endpoint);
        }
        if let Some(selector) = &spec.workload_selector {
            self.add_workloads(
                &mut service,
                &selector.labels,
                |_| true,
                |workload, port| target(spec, workload, port),
            );
        } else if service.endpoints.is_empty() {
            let own = self.own_name(&service, spec, object);
            service.endpoints.extend(own);
        }
        finish(service)
    }

    /// The addresses given to a host that has none of its own: those that a controller has written into the status, else
    /// those that its name leads to.
    fn auto_addresses(&self, object: &Object, spec: &api::ServiceEntry, id: &ServiceId) -> Vec<IpAddr> {
        if !allocates(object, spec) {
            return Vec::new();
        }
        match given(object, &id.host) {
            given if given.is_empty() => (self.allocated)(id),
            given => given,
        }
    }

    /// A DNS service without endpoints is found under its own name.
    fn own_name(&self, service: &Service, spec: &api::ServiceEntry, object: &Object) -> Option<Endpoint> {
        let by_dns = matches!(service.resolution, Resolution::Dns | Resolution::DnsRoundRobin);
        if !by_dns || host::is_wildcard(&service.host) {
            return None;
        }
        let entry = api::WorkloadEntry {
            address: service.host.clone(),
            ..Default::default()
        };
        let workload = Workload::new(object.key(), &BTreeMap::new(), &entry, self.platform);
        let mut found = endpoint(service, &workload, |port| target(spec, &workload, port));
        found.workload.clear();
        found.service_account = None;
        Some(found)
    }
}

/// A prefix that has one address only is written as that address.
fn plain(address: &str) -> String {
    match address.parse::<IpNet>() {
        Ok(range) if range.prefix_len() == range.max_prefix_len() => range.addr().to_string(),
        _ => address.to_owned(),
    }
}

fn port(port: &api::ServicePort) -> Option<Port> {
    Some(Port {
        name: port.name.clone(),
        number: u16::try_from(port.number).ok()?,
        protocol: Protocol::parse(&port.protocol),
    })
}

/// A workload's port behind a ServiceEntry's port: its own port of that name, else the target port, else the same number.
fn target(spec: &api::ServiceEntry, workload: &Workload, port: &Port) -> Option<u16> {
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
