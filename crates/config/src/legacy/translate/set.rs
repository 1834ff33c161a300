//! The objects that a translation looks at, found by what they are for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Mesh;
use crate::kube::{IntOrString, Service};
use crate::{Kind, Object, Spec};

/// Labels by which workloads are selected.
pub(super) type Labels = BTreeMap<String, String>;

/// The set.
pub(super) struct Set<'a> {
    pub(super) mesh: Mesh<'a>,
    objects: Vec<&'a Object>,
    services: BTreeMap<(&'a str, &'a str), &'a Service>,
    /// Selectors of Gateways: workloads with these labels are no sidecars.
    gateways: Vec<&'a Labels>,
}

impl<'a> Set<'a> {
    pub(super) fn new(objects: &'a [Arc<Object>], mesh: Mesh<'a>) -> Self {
        let mut all: Vec<&Object> = objects.iter().map(AsRef::as_ref).collect();
        all.sort_by(|a, b| {
            (a.kind, &a.meta.namespace, &a.meta.name).cmp(&(b.kind, &b.meta.namespace, &b.meta.name))
        });
        let mut set = Self {
            mesh,
            objects: Vec::new(),
            services: BTreeMap::new(),
            gateways: Vec::new(),
        };
        for object in &all {
            match &object.spec {
                Spec::Service(service) if !service.spec.selector.is_empty() => {
                    set.services
                        .insert((&object.meta.namespace, &object.meta.name), service);
                }
                Spec::Gateway(gateway) if !gateway.selector.is_empty() => {
                    set.gateways.push(&gateway.selector)
                }
                _ => {}
            }
        }
        set.objects = all;
        set
    }

    /// The objects of a kind, in the order of namespaces and names.
    pub(super) fn of(&self, kind: Kind) -> impl Iterator<Item = &'a Object> {
        let start = self.objects.partition_point(|object| object.kind < kind);
        let of_kind = self.objects.get(start..).unwrap_or_default();
        of_kind
            .iter()
            .take_while(move |object| object.kind == kind)
            .copied()
    }

    /// A Service with a selector.
    pub(super) fn service(&self, namespace: &str, name: &str) -> Option<&'a Service> {
        self.services.get(&(namespace, name)).copied()
    }

    /// The Services with a selector whose workloads have sidecars, with namespace and name.
    pub(super) fn sidecar_services(&self) -> impl Iterator<Item = (&'a str, &'a str, &'a Labels)> {
        self.services
            .iter()
            .map(|((namespace, name), service)| (*namespace, *name, &service.spec.selector))
            .filter(|(_, _, selector)| !self.is_gateway(selector))
    }

    fn is_gateway(&self, labels: &Labels) -> bool {
        let named = labels
            .get("istio")
            .is_some_and(|value| value.ends_with("gateway"));
        named || self.gateways.iter().any(|selector| includes(labels, selector))
    }

    /// Namespaces that Services are in.
    pub(super) fn namespaces(&self) -> BTreeSet<&'a str> {
        self.services.keys().map(|(namespace, _)| *namespace).collect()
    }

    /// A service's full name.
    pub(super) fn host(&self, namespace: &str, name: &str) -> String {
        format!("{name}.{namespace}.svc.{}", self.mesh.domain)
    }

    /// Whether one of today's policies of the kind is for workloads with these labels.
    pub(super) fn is_covered(&self, kind: Kind, namespace: &str, labels: &Labels) -> bool {
        self.of(kind).any(|object| {
            let of_root = object.meta.namespace == self.mesh.root_namespace;
            (object.meta.namespace == namespace || (of_root && kind != Kind::PeerAuthentication))
                && selector(object).is_none_or(|selector| includes(labels, selector))
        })
    }

    /// Whether one of today's policies of the kind is for all workloads of the namespace.
    pub(super) fn is_namespace_covered(&self, kind: Kind, namespace: &str) -> bool {
        self.of(kind).any(|object| {
            object.meta.namespace == namespace && selector(object).is_none_or(BTreeMap::is_empty)
        })
    }
}

/// The labels by which one of today's policies selects.
fn selector(object: &Object) -> Option<&Labels> {
    let selector = match &object.spec {
        Spec::PeerAuthentication(spec) => spec.selector.as_ref(),
        Spec::RequestAuthentication(spec) => spec.selector.as_ref(),
        Spec::AuthorizationPolicy(spec) => spec.selector.as_ref(),
        _ => None,
    };
    selector.map(|selector| &selector.match_labels)
}

/// Whether `labels` has all of `part`.
fn includes(labels: &Labels, part: &Labels) -> bool {
    part.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// The port of the workload behind a service's port, by the service's number or by name.
pub(super) fn workload_port(service: &Service, number: Option<u32>, name: Option<&str>) -> Option<u32> {
    let ports = &service.spec.ports;
    let port = ports
        .iter()
        .find(|port| Some(port.port) == number || (name == Some(&port.name) && number.is_none()))?;
    match &port.target_port {
        None => Some(port.port),
        Some(IntOrString::Int(number)) => Some(*number),
        // Which number the name has, each Pod says for itself.
        Some(IntOrString::String(_)) => None,
    }
}
