//! What changed between two snapshots, by meaning: an annotation that nobody reads, a resourceVersion, a status or a list in
//! another order where order means nothing is no change. It also says what of the mesh's meaning is another (services, endpoints,
//! workloads) and who may see it, so that only what depends on it has to be made again.

use std::collections::BTreeSet;
use std::sync::Arc;

use config::kube::Pod;
use config::{Kind, Object, ObjectKey, Spec};
use imbl::ordmap::DiffItem;

use crate::export::ExportTo;
use crate::service::{Resolution, Service, ServiceId};
use crate::snapshot::Snapshot;

/// By what two snapshots differ: the objects, and what they mean.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diff {
    /// Objects in the new snapshot only.
    pub added: BTreeSet<ObjectKey>,
    /// Objects in the old snapshot only.
    pub removed: BTreeSet<ObjectKey>,
    /// Objects in both, with another meaning.
    pub changed: BTreeSet<ObjectKey>,
    /// Services that are new, gone or others, beyond where their endpoints are.
    pub services: BTreeSet<ServiceId>,
    /// Services of which endpoints alone moved, so that their endpoint sets change and nothing else: neither their clusters
    /// nor listeners nor routes.
    pub endpoints: BTreeSet<ServiceId>,
    /// Namespaces and names of workloads that are new, gone or others.
    pub workloads: BTreeSet<(String, String)>,
    /// Whether the networks' gateways are others.
    pub networks: bool,
}

/// What of a difference clients in a namespace may see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// These services' endpoints, and nothing else; nothing at all if empty.
    Endpoints(BTreeSet<ServiceId>),
    /// More than that.
    More,
}

impl Diff {
    /// From `old` to `new`. Where one was made from the other by [`Snapshot::apply`], the cost goes with the changes.
    pub fn between(old: &Snapshot, new: &Snapshot) -> Diff {
        let mut diff = Diff {
            networks: old.networks() != new.networks(),
            ..Diff::default()
        };
        for item in old.objects().diff(new.objects()) {
            match item {
                DiffItem::Add(key, _) => drop(diff.added.insert(key.clone())),
                DiffItem::Remove(key, _) => drop(diff.removed.insert(key.clone())),
                DiffItem::Update {
                    old: (key, old),
                    new: (_, new),
                } => {
                    if !same_meaning(old, new) {
                        diff.changed.insert(key.clone());
                    }
                }
            }
        }
        for item in old.services().all.diff(&new.services().all) {
            match item {
                DiffItem::Add(id, _) | DiffItem::Remove(id, _) => drop(diff.services.insert(id.clone())),
                DiffItem::Update {
                    old: (id, old),
                    new: (_, new),
                } => {
                    let into = if only_moved(old, new) {
                        &mut diff.endpoints
                    } else {
                        &mut diff.services
                    };
                    into.insert(id.clone());
                }
            }
        }
        for item in old.workloads().all.diff(&new.workloads().all) {
            let (DiffItem::Add(id, _) | DiffItem::Remove(id, _) | DiffItem::Update { old: (id, _), .. }) =
                item;
            diff.workloads.insert((id.0.clone(), id.1.clone()));
        }
        diff
    }

    /// Whether nothing changed that anything is made from. Objects of the platform count by what they mean alone: an
    /// EndpointSlice of no service is nothing.
    pub fn is_empty(&self) -> bool {
        self.services.is_empty()
            && self.endpoints.is_empty()
            && self.workloads.is_empty()
            && !self.networks
            && !self.keys().any(|key| !is_platform(key.kind))
    }

    /// All keys of objects, whatever happened to them.
    pub fn keys(&self) -> impl Iterator<Item = &ObjectKey> {
        self.added.iter().chain(&self.removed).chain(&self.changed)
    }

    /// Whether only endpoints moved: EndpointSlices, WorkloadEntries, Pods and Nodes. Such changes need no debounce.
    pub fn only_endpoints(&self) -> bool {
        self.keys()
            .all(|key| key.kind == Kind::WorkloadEntry || is_platform(key.kind))
    }

    /// What of it clients in `namespace` may see, that is, what in their outbound configuration may be another for it. With
    /// [`Seen::Endpoints`] everything but the endpoint sets of these services is as it was.
    pub fn seen_from(&self, old: &Snapshot, new: &Snapshot, namespace: &str) -> Seen {
        let sees = |id: &ServiceId| {
            let of = |snapshot: &Snapshot| {
                let service = snapshot.services().get(&id.host, &id.namespace);
                service.is_some_and(|s| s.export_to.visible_in(namespace))
            };
            id.namespace == namespace || of(old) || of(new)
        };
        let more = self.networks
            || self.services.iter().any(sees)
            || self
                .keys()
                .any(|key| concerns(key, old, namespace) || concerns(key, new, namespace));
        if more {
            return Seen::More;
        }
        Seen::Endpoints(self.endpoints.iter().filter(|id| sees(id)).cloned().collect())
    }
}

/// Objects that matter only through the services and workloads made from them.
fn is_platform(kind: Kind) -> bool {
    use Kind::{EndpointSlice, Namespace, Node, Pod};
    matches!(kind, EndpointSlice | Pod | Node | Namespace)
}

/// Whether an object of one of the snapshots may concern clients in a namespace, beside the services made from it.
fn concerns(key: &ObjectKey, snapshot: &Snapshot, namespace: &str) -> bool {
    use Kind::{
        AuthorizationPolicy, DestinationRule, EnvoyFilter, ProxyConfig, RequestAuthentication, Service,
        ServiceEntry, Sidecar, Telemetry, TrafficExtension, VirtualService, WasmPlugin, WorkloadEntry,
        WorkloadGroup,
    };
    let Some(object) = snapshot.objects().get(key) else {
        return false;
    };
    let mesh = snapshot.mesh();
    let near = key.namespace == namespace || key.namespace == mesh.root_namespace;
    let visible = |exported: &[String], default: &[String]| {
        ExportTo::new(exported, default, &key.namespace).visible_in(namespace)
    };
    match (key.kind, &object.spec) {
        (kind, _) if is_platform(kind) => false,
        (Service | ServiceEntry | WorkloadEntry | WorkloadGroup, _) => false,
        // Routes of a delegate are seen by those who see its roots.
        (VirtualService, Spec::VirtualService(spec)) => {
            spec.hosts.is_empty() || visible(&spec.export_to, &mesh.default_virtual_service_export_to)
        }
        (DestinationRule, Spec::DestinationRule(spec)) => {
            key.namespace == namespace || visible(&spec.export_to, &mesh.default_destination_rule_export_to)
        }
        (
            Sidecar
            | EnvoyFilter
            | ProxyConfig
            | Telemetry
            | WasmPlugin
            | TrafficExtension
            | AuthorizationPolicy
            | RequestAuthentication,
            _,
        ) => near,
        _ => true,
    }
}

/// Whether two states of a service differ in endpoints alone, and so that clusters and routes are not made from them: their
/// addresses come with EDS, and who they are is the same.
fn only_moved(old: &Service, new: &Service) -> bool {
    let peers = |service: &Service| (service.meets_proxies(), service.is_guarded());
    if old.resolution != Resolution::Static || accounts(old) != accounts(new) || peers(old) != peers(new) {
        return false;
    }
    let without = |service: &Service| Service {
        endpoints: Vec::new(),
        ..service.clone()
    };
    without(old) == without(new)
}

fn accounts(service: &Service) -> BTreeSet<(&str, Option<&str>)> {
    let endpoints = service.endpoints.iter();
    endpoints
        .map(|e| (e.namespace.as_str(), e.service_account.as_deref()))
        .collect()
}

/// Whether two objects of one key mean the same to the mesh.
pub fn same_meaning(a: &Arc<Object>, b: &Arc<Object>) -> bool {
    Arc::ptr_eq(a, b)
        || (a.meta.labels == b.meta.labels
            && a.meta.created == b.meta.created
            && annotations(a).eq(annotations(b))
            && same_spec(&a.spec, &b.spec))
}

/// Istio's annotations; those of other tools mean nothing here.
fn annotations(object: &Object) -> impl Iterator<Item = (&String, &String)> {
    object.meta.annotations.iter().filter(|(key, _)| {
        let domain = key.split('/').next().unwrap_or_default();
        key.contains('/') && (domain == "istio.io" || domain.ends_with(".istio.io"))
    })
}

fn same_spec(a: &Spec, b: &Spec) -> bool {
    match (a, b) {
        (Spec::EndpointSlice(a), Spec::EndpointSlice(b)) => {
            a.address_type == b.address_type
                && same_set(&a.ports, &b.ports)
                && same_set(&a.endpoints, &b.endpoints)
        }
        (Spec::Service(a), Spec::Service(b)) => {
            a.spec == b.spec && (a.spec.r#type != "LoadBalancer" || a.status == b.status)
        }
        (Spec::Pod(a), Spec::Pod(b)) => same_pod(a, b),
        (Spec::ServiceEntry(a), Spec::ServiceEntry(b)) if same_set(&a.endpoints, &b.endpoints) => {
            let without = |entry: &config::networking::ServiceEntry| config::networking::ServiceEntry {
                endpoints: Vec::new(),
                ..entry.clone()
            };
            without(a) == without(b)
        }
        (a, b) => a == b,
    }
}

/// Whether two Pods mean the same: a Pod's status changes all the time.
fn same_pod(a: &Pod, b: &Pod) -> bool {
    let ready = |pod: &Pod| {
        let mut conditions = pod.status.conditions.iter();
        conditions.find(|c| c.r#type == "Ready").map(|c| c.status.clone())
    };
    let ended = |pod: &Pod| matches!(pod.status.phase.as_str(), "Succeeded" | "Failed");
    a.spec == b.spec
        && a.status.pod_ip == b.status.pod_ip
        && a.status.pod_ips == b.status.pod_ips
        && ready(a) == ready(b)
        && ended(a) == ended(b)
}

/// Whether two lists hold the same values, each as often, in whatever order.
fn same_set<T: PartialEq>(a: &[T], b: &[T]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    if a == b {
        return true;
    }
    let mut left: Vec<&T> = b.iter().collect();
    a.iter()
        .all(|value| match left.iter().position(|other| *other == value) {
            Some(at) => {
                left.swap_remove(at);
                true
            }
            None => false,
        })
}
