//! Which service a host names, seen from a namespace: ServiceEntries and Kubernetes' Services by the scope that they are
//! exported to. Coarser than `model`'s services, as Istio's analysis is: objects are taken as they are, valid or not.

use std::collections::HashMap;

use config::networking::ServiceEntry;
use config::{Object, kube};
use model::{DNS_DOMAIN, host};

use crate::Set;
use crate::selector::Labels;

/// Exported to every namespace.
pub(crate) const EVERYWHERE: &str = "*";

/// A service.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Service<'a> {
    Entry(&'a ServiceEntry),
    Kubernetes(&'a kube::Service),
}

impl<'a> Service<'a> {
    /// The numbers of its ports.
    pub(crate) fn ports(self) -> Vec<u32> {
        match self {
            Self::Entry(entry) => entry.ports.iter().map(|port| port.number).collect(),
            Self::Kubernetes(service) => service.spec.ports.iter().map(|port| port.port).collect(),
        }
    }

    /// The labels by which a ServiceEntry selects workloads.
    pub(crate) fn workload_labels(self) -> Labels {
        match self {
            Self::Entry(entry) => entry
                .workload_selector
                .as_ref()
                .map(|selector| selector.labels.clone())
                .unwrap_or_default(),
            Self::Kubernetes(_) => Labels::new(),
        }
    }

    /// Labels of the endpoints written into a ServiceEntry.
    pub(crate) fn endpoint_labels(self) -> impl Iterator<Item = &'a Labels> {
        let endpoints = match self {
            Self::Entry(entry) => entry.endpoints.as_slice(),
            Self::Kubernetes(_) => &[],
        };
        endpoints.iter().map(|endpoint| &endpoint.labels)
    }
}

/// The services of a set by host.
#[derive(Debug)]
pub(crate) struct Hosts<'a> {
    /// By host, then by scope: a namespace or [`EVERYWHERE`].
    exact: HashMap<String, HashMap<String, Service<'a>>>,
    /// Scope, suffix behind the `*`, service.
    wildcards: Vec<(String, String, Service<'a>)>,
}

impl<'a> Hosts<'a> {
    pub(crate) fn of(set: &Set<'a>) -> Self {
        let mut hosts = Self {
            exact: HashMap::new(),
            wildcards: Vec::new(),
        };
        for (object, entry) in set.service_entries() {
            let scopes = scopes(&entry.export_to, &object.meta.namespace);
            for name in &entry.hosts {
                hosts.add(name, object, &scopes, Service::Entry(entry));
            }
        }
        for (object, service) in set.services() {
            let exported: Vec<String> = object
                .meta
                .annotations
                .get("networking.istio.io/exportTo")
                .into_iter()
                .flat_map(|value| value.split(','))
                .map(|value| value.trim().to_owned())
                .filter(|value| !value.is_empty())
                .collect();
            let scopes = scopes(&exported, &object.meta.namespace);
            hosts.add(&object.meta.name, object, &scopes, Service::Kubernetes(service));
        }
        hosts
    }

    fn add(&mut self, name: &str, object: &Object, scopes: &[String], service: Service<'a>) {
        let name = fqdn(name, &object.meta.namespace);
        for scope in scopes {
            if let Some(suffix) = name.strip_prefix('*') {
                self.wildcards.push((scope.clone(), suffix.to_owned(), service));
            }
            self.exact
                .entry(name.clone())
                .or_default()
                .insert(scope.clone(), service);
        }
    }

    /// The service that `name` means for an object of `namespace` with that `exportTo`: one exported to all, or to a
    /// namespace that the object itself is exported to, or else one with a wildcard that covers the name.
    pub(crate) fn find(&self, name: &str, namespace: &str, export_to: &[String]) -> Option<Service<'a>> {
        let host = fqdn(name, namespace);
        if let Some(found) = self.exact.get(&host) {
            let own = [".".to_owned()];
            let seen = if export_to.is_empty() { &own } else { export_to };
            let seen = seen
                .iter()
                .map(|scope| if scope == "." { namespace } else { scope });
            let mut scopes = [EVERYWHERE].into_iter().chain(seen);
            if let Some(service) = scopes.find_map(|scope| found.get(scope)) {
                return Some(*service);
            }
        }
        let bare = name.strip_prefix('*').unwrap_or(name);
        let covers =
            |scope: &str, suffix: &str| (scope == EVERYWHERE || scope == namespace) && bare.ends_with(suffix);
        self.wildcards
            .iter()
            .find(|(scope, suffix, _)| covers(scope, suffix))
            .map(|(_, _, service)| *service)
    }
}

/// A short name made full; others as they are.
pub(crate) fn fqdn(name: &str, namespace: &str) -> String {
    match name.starts_with('*') {
        true => name.to_owned(),
        false => host::resolve(name, namespace, DNS_DOMAIN),
    }
}

/// The scopes that `exportTo` of an object in `namespace` means.
pub(crate) fn scopes(export_to: &[String], namespace: &str) -> Vec<String> {
    if export_to.is_empty() || export_to.iter().any(|scope| scope == EVERYWHERE) {
        return vec![EVERYWHERE.to_owned()];
    }
    let mut scopes: Vec<String> = export_to
        .iter()
        .map(|scope| if scope == "." { namespace } else { scope })
        .map(str::to_owned)
        .collect();
    scopes.sort();
    scopes.dedup();
    scopes
}
