//! Makes services of Kubernetes Services and ServiceEntries, and finds the endpoints behind them: EndpointSlices, inline
//! endpoints, and workloads chosen by label in the same namespace.

mod entry;
mod kubernetes;
mod slices;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use config::{Object, Spec};

use crate::platform::Platform;
use crate::protocol::Protocol;
use crate::service::{Endpoint, Port, ServiceId};
use crate::service::{Resolution, Service};
use crate::slices::Slices;
use crate::workload::{Address, Workload};
use crate::workloads::Workloads;

pub(crate) use entry::{allocates, findings, given, hosts as entry_hosts};

/// What services are made from.
pub(crate) struct Sources<'a> {
    pub(crate) domain: &'a str,
    pub(crate) trust_domain: &'a str,
    pub(crate) default_export: &'a [String],
    pub(crate) workloads: &'a Workloads,
    pub(crate) platform: &'a Platform,
    pub(crate) slices: &'a Slices,
    /// Addresses given to ServiceEntries' hosts.
    pub(crate) allocated: &'a dyn Fn(&ServiceId) -> Vec<IpAddr>,
}

/// The hosts that an object declares, if it declares any.
pub(crate) fn hosts(object: &Object, domain: &str) -> Vec<String> {
    match &object.spec {
        Spec::Service(_) => vec![crate::host::fqdn(
            &object.meta.name,
            &object.meta.namespace,
            domain,
        )],
        Spec::ServiceEntry(entry) => entry_hosts(entry),
        _ => Vec::new(),
    }
}

impl Sources<'_> {
    /// What `object` declares for `host`, one of its hosts.
    pub(crate) fn service(&self, object: &Object, host: &str) -> Option<Service> {
        match &object.spec {
            Spec::Service(service) => Some(self.kubernetes(object, service)),
            Spec::ServiceEntry(entry) => Some(self.entry_host(object, entry, host)),
            _ => None,
        }
    }

    /// Adds the workloads that carry `selector` in the service's namespace, as far as `takes` takes them.
    fn add_workloads(
        &self,
        service: &mut Service,
        selector: &BTreeMap<String, String>,
        takes: impl Fn(&Workload) -> bool,
        target: impl Fn(&Workload, &Port) -> Option<u16>,
    ) {
        if selector.is_empty() {
            return;
        }
        let by_name = matches!(service.resolution, Resolution::Dns | Resolution::DnsRoundRobin);
        for workload in self.workloads.select(&service.namespace, selector) {
            let unreachable = matches!(workload.address, Address::Host(_)) && !by_name;
            if !takes(workload) || (unreachable && workload.network.is_empty()) {
                continue;
            }
            let found = endpoint(service, workload, |port| target(workload, port));
            if !found.ports.is_empty() {
                service.endpoints.push(found);
            }
        }
    }
}

fn endpoint(service: &Service, workload: &Workload, target: impl Fn(&Port) -> Option<u16>) -> Endpoint {
    let ports = service
        .ports
        .iter()
        .filter_map(|port| Some((port.number, target(port)?)));
    Endpoint {
        address: workload.address.clone(),
        additional: workload.additional.clone(),
        ports: ports.collect(),
        labels: Arc::clone(&workload.labels),
        namespace: service.namespace.clone(),
        workload: workload.key.name.clone(),
        workload_name: workload.workload_name().to_owned(),
        service_account: Some(workload.account().to_owned()),
        mtls: workload.accepts_mtls() && !service.mesh_external,
        network: workload.network.clone(),
        locality: workload.locality.clone(),
        node: workload.node.clone(),
        weight: workload.weight,
        health: workload.health,
        origin: workload.key.clone(),
    }
}

fn finish(mut service: Service) -> Service {
    service
        .endpoints
        .sort_by(|a, b| (&a.address, &a.ports, &a.origin).cmp(&(&b.address, &b.ports, &b.origin)));
    service.endpoints.dedup_by(|b, a| {
        a.address == b.address && a.ports == b.ports && a.address != Address::Host(String::new())
    });
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
