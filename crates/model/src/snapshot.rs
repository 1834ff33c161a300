//! The mesh at one moment: every object's meaning, cross-references resolved, immutable. It is consistent by construction: what
//! cannot be used together is left out and named in [`Snapshot::rejected`].

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use config::mesh::MeshConfig;
use config::{Finding, Kind, Object, ObjectKey, Spec};

use crate::delegate;
use crate::destination_rule::DestinationRules;
use crate::finding;
use crate::policies::{Policies, Policy};
use crate::service_build::{self, Sources};
use crate::services::Services;
use crate::traffic::{self, Gateway, Sidecar};
use crate::virtual_service::VirtualService;
use crate::workload::Workload;
use crate::workloads::Workloads;

/// DNS domain of Kubernetes Services.
pub const DNS_DOMAIN: &str = "cluster.local";

/// The mesh at one moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    objects: BTreeMap<ObjectKey, Arc<Object>>,
    mesh: Arc<MeshConfig>,
    workloads: Workloads,
    services: Services,
    virtual_services: Vec<Arc<VirtualService>>,
    destination_rules: DestinationRules,
    gateways: Vec<Arc<Gateway>>,
    sidecars: Vec<Arc<Sidecar>>,
    policies: Policies,
    /// What could not be used, and why.
    pub rejected: Vec<Finding>,
}

impl Snapshot {
    /// Builds the mesh from its objects, given in any order. Of two objects with one name the first counts; the other is
    /// rejected.
    pub fn build(objects: impl IntoIterator<Item = Arc<Object>>) -> Snapshot {
        let mut rejected = Vec::new();
        let mut by_key: BTreeMap<ObjectKey, Arc<Object>> = BTreeMap::new();
        for object in objects {
            match by_key.entry(object.key()) {
                Entry::Vacant(free) => {
                    free.insert(object);
                }
                Entry::Occupied(taken) => rejected.push(finding::warning(
                    taken.key(),
                    "metadata.name",
                    "another object of this kind has the same name",
                )),
            }
        }
        Builder::new(by_key, rejected).build()
    }

    /// All objects, by key.
    pub fn objects(&self) -> &BTreeMap<ObjectKey, Arc<Object>> {
        &self.objects
    }

    /// The objects of one kind, by namespace and name.
    pub fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &Arc<Object>> {
        self.objects.values().filter(move |object| object.kind == kind)
    }

    /// The mesh's settings, defaults filled in.
    pub fn mesh(&self) -> &Arc<MeshConfig> {
        &self.mesh
    }

    /// Trust domain of the mesh's identities.
    pub fn trust_domain(&self) -> &str {
        &self.mesh.trust_domain
    }

    /// Namespace whose policies are the mesh's defaults.
    pub fn root_namespace(&self) -> &str {
        &self.mesh.root_namespace
    }

    /// All workloads.
    pub fn workloads(&self) -> &Workloads {
        &self.workloads
    }

    /// All services.
    pub fn services(&self) -> &Services {
        &self.services
    }

    /// All VirtualServices with hosts, oldest first, delegates merged in.
    pub fn virtual_services(&self) -> &[Arc<VirtualService>] {
        &self.virtual_services
    }

    /// All DestinationRules.
    pub fn destination_rules(&self) -> &DestinationRules {
        &self.destination_rules
    }

    /// All Gateways, oldest first.
    pub fn gateways(&self) -> &[Arc<Gateway>] {
        &self.gateways
    }

    /// The Sidecar of a workload.
    pub fn sidecar_for(&self, namespace: &str, labels: &BTreeMap<String, String>) -> Option<&Arc<Sidecar>> {
        traffic::choose(&self.sidecars, self.root_namespace(), namespace, labels)
    }

    /// The Sidecar with this key.
    pub fn sidecar(&self, key: &ObjectKey) -> Option<&Arc<Sidecar>> {
        self.sidecars.iter().find(|sidecar| sidecar.key == *key)
    }

    /// All security policies.
    pub fn policies(&self) -> &Policies {
        &self.policies
    }

    /// Label keys of clients that routes and rules read (`sourceLabels`, a DestinationRule's `workloadSelector`).
    pub fn client_label_keys(&self) -> BTreeSet<&str> {
        let rules = self.destination_rules.selector_keys().iter().map(String::as_str);
        let routes = self.virtual_services.iter().flat_map(|vs| {
            let http = vs
                .spec
                .http
                .iter()
                .flat_map(|r| &r.r#match)
                .flat_map(|m| m.source_labels.keys());
            let tls = vs
                .spec
                .tls
                .iter()
                .flat_map(|r| &r.r#match)
                .flat_map(|m| m.source_labels.keys());
            let tcp = vs
                .spec
                .tcp
                .iter()
                .flat_map(|r| &r.r#match)
                .flat_map(|m| m.source_labels.keys());
            http.chain(tls).chain(tcp).map(String::as_str)
        });
        rules.chain(routes).collect()
    }
}

struct Builder {
    objects: BTreeMap<ObjectKey, Arc<Object>>,
    /// The same, oldest first, then by name and namespace (Istio's order of precedence).
    sorted: Vec<Arc<Object>>,
    mesh: MeshConfig,
    rejected: Vec<Finding>,
}

/// Runs through the objects whose spec is of one variant.
macro_rules! specs {
    ($objects:expr, $variant:ident) => {
        $objects.iter().filter_map(|object| match &object.spec {
            Spec::$variant(spec) => Some((&**object, &**spec)),
            _ => None,
        })
    };
}

impl Builder {
    fn new(objects: BTreeMap<ObjectKey, Arc<Object>>, mut rejected: Vec<Finding>) -> Builder {
        let mut sorted: Vec<_> = objects.values().cloned().collect();
        sorted.sort_by_cached_key(|o| {
            let created = o.meta.created;
            (
                created.is_none(),
                created,
                o.meta.name.clone(),
                o.meta.namespace.clone(),
            )
        });
        let mut meshes = specs!(sorted, MeshConfig);
        let mesh = meshes
            .next()
            .map(|(_, mesh)| mesh.clone())
            .unwrap_or_default()
            .with_defaults();
        rejected.extend(
            meshes
                .map(|(object, _)| finding::warning(&object.key(), "", "the mesh has a MeshConfig already")),
        );
        Builder {
            objects,
            sorted,
            mesh,
            rejected,
        }
    }

    fn build(mut self) -> Snapshot {
        let workloads = self.workloads();
        let services = self.services(&workloads);
        let virtual_services = self.virtual_services();
        let destination_rules = DestinationRules::build(
            specs!(self.sorted, DestinationRule),
            &self.mesh.default_destination_rule_export_to,
            DNS_DOMAIN,
            &self.mesh.root_namespace,
        );
        let gateways = specs!(self.sorted, Gateway)
            .map(|(o, spec)| Arc::new(Gateway::new(o, spec)))
            .collect();
        let sidecars = specs!(self.sorted, Sidecar)
            .map(|(o, spec)| Arc::new(Sidecar::new(o, spec)))
            .collect();
        let policies = self.policies();
        Snapshot {
            objects: self.objects,
            mesh: Arc::new(self.mesh),
            workloads,
            services,
            virtual_services,
            destination_rules,
            gateways,
            sidecars,
            policies,
            rejected: self.rejected,
        }
    }

    fn workloads(&self) -> Workloads {
        let entries =
            specs!(self.sorted, WorkloadEntry).map(|(o, spec)| Workload::new(o.key(), &o.meta.labels, spec));
        let pods =
            specs!(self.sorted, Pod).filter_map(|(o, pod)| Workload::of_pod(o.key(), &o.meta.labels, pod));
        Workloads::build(entries.chain(pods))
    }

    fn services(&mut self, workloads: &Workloads) -> Services {
        let sources = Sources {
            domain: DNS_DOMAIN,
            default_export: &self.mesh.default_service_export_to,
            workloads,
            slices: service_build::slices(specs!(self.sorted, EndpointSlice)),
        };
        let mut all = Vec::new();
        all.extend(specs!(self.sorted, Service).map(|(o, service)| sources.kubernetes(o, &service.spec)));
        for (object, spec) in specs!(self.sorted, ServiceEntry) {
            all.extend(sources.service_entry(object, spec, &mut self.rejected));
        }
        Services::build(all.into_iter())
    }

    fn virtual_services(&mut self) -> Vec<Arc<VirtualService>> {
        let default = &self.mesh.default_virtual_service_export_to;
        let all = specs!(self.sorted, VirtualService)
            .map(|(object, spec)| VirtualService::new(object, spec, default, DNS_DOMAIN))
            .collect();
        delegate::merge(all, &mut self.rejected)
            .into_iter()
            .map(Arc::new)
            .collect()
    }

    fn policies(&self) -> Policies {
        Policies {
            root: self.mesh.root_namespace.clone(),
            peer: specs!(self.sorted, PeerAuthentication)
                .map(|(o, spec)| Policy::new(o, spec.selector.as_ref(), spec))
                .collect(),
            request: specs!(self.sorted, RequestAuthentication)
                .map(|(o, spec)| Policy::new(o, spec.selector.as_ref(), spec))
                .collect(),
            authorization: specs!(self.sorted, AuthorizationPolicy)
                .map(|(o, spec)| Policy::new(o, spec.selector.as_ref(), spec))
                .collect(),
        }
    }
}
