//! All services, found by host and namespace, and which of several that share a host a client means. A persistent structure: the
//! next snapshot shares what did not change.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use imbl::{OrdMap, OrdSet};

use crate::service::{Registry, Service, ServiceId};
use crate::service_build::unique;
use crate::workload::Workload;

/// The mesh's services.
#[derive(Debug, Clone, Default)]
pub struct Services {
    pub(crate) all: OrdMap<ServiceId, Arc<Service>>,
    /// Services whose endpoints have this address.
    by_ip: OrdSet<(IpAddr, ServiceId)>,
    /// Services whose endpoints are on this node.
    by_node: OrdSet<(String, ServiceId)>,
}

/// Comes before every service of the same first part.
const FIRST: ServiceId = ServiceId {
    host: String::new(),
    namespace: String::new(),
};

impl Services {
    /// Takes a service in place of the one of this id, or that it is gone. One that equals what is there stays as it is.
    pub(crate) fn set(&mut self, id: &ServiceId, service: Option<Service>) {
        let old = self.all.get(id);
        if old.map(|old| &**old) == service.as_ref() {
            return;
        }
        if let Some(old) = old.cloned() {
            for endpoint in &old.endpoints {
                endpoint
                    .ips()
                    .for_each(|ip| drop(self.by_ip.remove(&(ip, id.clone()))));
                self.by_node.remove(&(endpoint.node.clone(), id.clone()));
            }
            self.all.remove(id);
        }
        if let Some(new) = service {
            for endpoint in &new.endpoints {
                endpoint
                    .ips()
                    .for_each(|ip| drop(self.by_ip.insert((ip, id.clone()))));
                if !endpoint.node.is_empty() {
                    self.by_node.insert((endpoint.node.clone(), id.clone()));
                }
            }
            self.all.insert(id.clone(), Arc::new(new));
        }
    }

    /// All services, by host and namespace.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.all.values()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The service of this host and namespace.
    pub fn get(&self, host: &str, namespace: &str) -> Option<&Arc<Service>> {
        self.all.get(&ServiceId::new(host, namespace))
    }

    /// The services of this host, by namespace.
    pub fn of_host(&self, host: &str) -> impl Iterator<Item = &Arc<Service>> + use<'_> {
        let host = host.to_owned();
        let first = ServiceId::new(host.as_str(), "");
        let here = self.all.range(first..).take_while(move |(id, _)| id.host == host);
        here.map(|(_, service)| service)
    }

    /// The service that a client in `namespace` means by `host`: its own namespace's, else the first that it sees
    /// (Kubernetes Services first, then the oldest).
    pub fn seen_from(&self, host: &str, namespace: &str) -> Option<&Arc<Service>> {
        choose(self.of_host(host), namespace)
    }

    /// All that a client in `namespace` sees, one for each host.
    pub fn all_seen_from(&self, namespace: &str) -> impl Iterator<Item = &Arc<Service>> {
        let mut rest = self.all.values().peekable();
        std::iter::from_fn(move || {
            loop {
                let first = rest.next()?;
                let mut group = vec![first];
                while let Some(next) = rest.next_if(|next| next.host == first.host) {
                    group.push(next);
                }
                if let Some(chosen) = choose(group.into_iter(), namespace) {
                    return Some(chosen);
                }
            }
        })
    }

    /// The services with an endpoint at this address.
    pub(crate) fn at(&self, ip: IpAddr) -> impl Iterator<Item = &ServiceId> {
        let here = self
            .by_ip
            .range((ip, FIRST)..)
            .take_while(move |(at, _)| *at == ip);
        here.map(|(_, id)| id)
    }

    /// The services with an endpoint on this node.
    pub(crate) fn on_node(&self, node: &str) -> Vec<ServiceId> {
        let here = self.by_node.range((node.to_owned(), FIRST)..);
        here.take_while(|(at, _)| at == node)
            .map(|(_, id)| id.clone())
            .collect()
    }

    /// The services that have this workload among their endpoints, by host.
    pub fn of_workload<'a>(&'a self, workload: &'a Workload) -> impl Iterator<Item = &'a Arc<Service>> {
        let ids: BTreeSet<&ServiceId> = workload.ips().flat_map(|ip| self.at(ip)).collect();
        ids.into_iter()
            .filter(|id| id.namespace == workload.key.namespace)
            .filter_map(|id| self.all.get(id))
    }
}

/// Of several services of one host the client's own, else the first that it sees.
fn choose<'a>(group: impl Iterator<Item = &'a Arc<Service>>, namespace: &str) -> Option<&'a Arc<Service>> {
    let mut best: Option<&Arc<Service>> = None;
    for service in group {
        if service.namespace == namespace {
            return Some(service);
        }
        let better = best.is_none_or(|best| precedence(service) < precedence(best));
        if better && service.export_to.visible_in(namespace) {
            best = Some(service);
        }
    }
    best
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

/// Makes one service of those that several objects declare for one host and namespace: a Kubernetes Service defines it, then the
/// oldest, and the others add ports and endpoints.
pub(crate) fn merge(mut group: Vec<Service>) -> Option<Service> {
    group.sort_by(|a, b| precedence(a).cmp(&precedence(b)));
    group.into_iter().reduce(absorb)
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
