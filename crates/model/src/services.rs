//! All services, found by host and namespace, and which of several that share a host a client means.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use crate::service::{Registry, Service};
use crate::service_build::unique;
use crate::workload::{Address, Workload};

/// The mesh's services.
#[derive(Debug, Clone, Default)]
pub struct Services {
    by_host: BTreeMap<String, Vec<Arc<Service>>>,
    /// Services whose endpoints have this address.
    by_ip: BTreeMap<IpAddr, BTreeSet<(String, String)>>,
}

impl Services {
    /// Indexes services. Those of one host and namespace become one: a Kubernetes Service defines it, then the oldest, and
    /// the others add ports and endpoints.
    pub(crate) fn build(all: impl Iterator<Item = Service>) -> Services {
        let mut grouped: BTreeMap<(String, String), Vec<Service>> = BTreeMap::new();
        for service in all {
            grouped
                .entry((service.host.clone(), service.namespace.clone()))
                .or_default()
                .push(service);
        }
        let mut out = Services::default();
        for ((host, namespace), mut group) in grouped {
            group.sort_by(|a, b| precedence(a).cmp(&precedence(b)));
            let Some(service) = group.into_iter().reduce(absorb) else {
                continue;
            };
            for endpoint in &service.endpoints {
                if let Address::Ip(ip) = endpoint.address {
                    out.by_ip
                        .entry(ip)
                        .or_default()
                        .insert((host.clone(), namespace.clone()));
                }
            }
            out.by_host.entry(host).or_default().push(Arc::new(service));
        }
        for services in out.by_host.values_mut() {
            services.sort_by(|a, b| precedence(a).cmp(&precedence(b)));
        }
        out
    }

    /// All services, by host.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.by_host.values().flatten()
    }

    /// The service of this host and namespace.
    pub fn get(&self, host: &str, namespace: &str) -> Option<&Arc<Service>> {
        self.by_host
            .get(host)?
            .iter()
            .find(|service| service.namespace == namespace)
    }

    /// The service that a client in `namespace` means by `host`: its own namespace's, else the first that it sees
    /// (Kubernetes Services first, then the oldest).
    pub fn seen_from(&self, host: &str, namespace: &str) -> Option<&Arc<Service>> {
        self.choose(self.by_host.get(host)?, namespace)
    }

    /// All that a client in `namespace` sees, one for each host.
    pub fn all_seen_from(&self, namespace: &str) -> impl Iterator<Item = &Arc<Service>> {
        self.by_host
            .values()
            .filter_map(move |group| self.choose(group, namespace))
    }

    fn choose<'a>(&self, group: &'a [Arc<Service>], namespace: &str) -> Option<&'a Arc<Service>> {
        let own = group.iter().find(|service| service.namespace == namespace);
        own.or_else(|| {
            group
                .iter()
                .find(|service| service.export_to.visible_in(namespace))
        })
    }

    /// The services that have this workload among their endpoints, by host.
    pub fn of_workload<'a>(&'a self, workload: &'a Workload) -> impl Iterator<Item = &'a Arc<Service>> {
        let ids = workload
            .ip()
            .and_then(|ip| self.by_ip.get(&ip))
            .into_iter()
            .flatten();
        ids.filter_map(|(host, namespace)| self.get(host, namespace))
            .filter(|service| service.namespace == workload.key.namespace)
    }
}

fn precedence(service: &Service) -> (Registry, bool, Option<i64>, &str, &str) {
    (
        service.registry,
        service.created.is_none(),
        service.created,
        &service.name,
        &service.namespace,
    )
}

/// Adds what a second object of the same host and namespace declares.
fn absorb(mut first: Service, other: Service) -> Service {
    let ports = std::mem::take(&mut first.ports);
    first.ports = unique(ports.into_iter().chain(other.ports).collect());
    for endpoint in other.endpoints {
        if !first
            .endpoints
            .iter()
            .any(|e| e.address == endpoint.address && e.ports == endpoint.ports)
        {
            first.endpoints.push(endpoint);
        }
    }
    for address in other.addresses {
        if !first.addresses.contains(&address) {
            first.addresses.push(address);
        }
    }
    first.origins.extend(other.origins);
    first
}
