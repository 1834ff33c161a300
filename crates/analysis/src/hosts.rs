//! Which service a host names, seen from a namespace: ServiceEntries and Kubernetes' Services by the scope that they are
//! exported to. Coarser than `model`'s services, as Istio's analysis is: objects are taken as they are, valid or not.

use config::networking::ServiceEntry;
use config::{Kind, Object, Spec, kube};
use model::{DNS_DOMAIN, host};

use crate::Set;
use crate::selector::Labels;
use crate::term::Term;

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

/// The service that `name` means for an object of `namespace` with that `exportTo`: one exported to all, or to a namespace
/// that the object itself is exported to, or else one with a wildcard that covers the name. A Kubernetes Service is stronger
/// than a ServiceEntry.
pub(crate) fn find<'a>(
    set: &Set<'a>,
    name: &str,
    namespace: &str,
    export_to: &[String],
) -> Option<Service<'a>> {
    let host = fqdn(name, namespace);
    let own = [".".to_owned()];
    let seen = if export_to.is_empty() { &own } else { export_to };
    let seen = seen
        .iter()
        .map(|scope| if scope == "." { namespace } else { scope });
    let mut scopes = [EVERYWHERE].into_iter().chain(seen);
    let found = scopes.find_map(|scope| {
        [Kind::Service, Kind::ServiceEntry].into_iter().find_map(|kind| {
            let mut all = set.found(kind, Term::Host(&host)).rev();
            all.find_map(|object| defined(object, &host, scope))
        })
    });
    found.or_else(|| covering(set, name, namespace))
}

/// The service, when the object is one of that host and is exported to that scope.
fn defined<'a>(object: &'a Object, host: &str, scope: &str) -> Option<Service<'a>> {
    let namespace = object.meta.namespace.as_str();
    let (service, is_meant) = match &object.spec {
        Spec::ServiceEntry(entry) => {
            let mut names = entry.hosts.iter();
            let is_meant = names.any(|name| fqdn(name, namespace) == host);
            (Service::Entry(entry), is_meant)
        }
        Spec::Service(service) => {
            let is_meant = fqdn(&object.meta.name, namespace) == host;
            (Service::Kubernetes(service), is_meant)
        }
        _ => return None,
    };
    let is_seen = || exported(object).iter().any(|to| to == scope);
    (is_meant && is_seen()).then_some(service)
}

/// The first ServiceEntry with a wildcard that covers the name.
fn covering<'a>(set: &Set<'a>, name: &str, namespace: &str) -> Option<Service<'a>> {
    let bare = name.strip_prefix('*').unwrap_or(name);
    let mut entries = set.found(Kind::ServiceEntry, Term::WildcardHost);
    entries.find_map(|object| {
        let Spec::ServiceEntry(entry) = &object.spec else {
            return None;
        };
        let mut suffixes = entry.hosts.iter().filter_map(|host| host.strip_prefix('*'));
        let is_seen = || {
            let to = exported(object);
            to.iter().any(|scope| scope == EVERYWHERE || scope == namespace)
        };
        (suffixes.any(|suffix| bare.ends_with(suffix)) && is_seen()).then_some(Service::Entry(entry))
    })
}

/// The scopes that a service is exported to: by `exportTo`, or by the annotation of a Kubernetes Service.
fn exported(object: &Object) -> Vec<String> {
    let namespace = &object.meta.namespace;
    if let Spec::ServiceEntry(entry) = &object.spec {
        return scopes(&entry.export_to, namespace);
    }
    let annotation = object.meta.annotations.get("networking.istio.io/exportTo");
    let listed = annotation.into_iter().flat_map(|value| value.split(','));
    let listed: Vec<String> = listed
        .map(|value| value.trim().to_owned())
        .filter(|value| !value.is_empty())
        .collect();
    scopes(&listed, namespace)
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
