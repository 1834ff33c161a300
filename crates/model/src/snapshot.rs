//! The mesh at one moment: every object's meaning, cross-references resolved, immutable. It is consistent by construction: what
//! cannot be used together is left out and named in [`Snapshot::rejected`].
//!
//! The next snapshot is made from this one and the changes ([`Snapshot::apply`]) at a cost that goes with the changes and not
//! with the mesh: what did not change is shared between both.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use config::mesh::MeshConfig;
use config::{Finding, Kind, Object, ObjectKey};
use imbl::OrdMap;

use crate::apply;
use crate::destination_rule::DestinationRules;
use crate::finding;
use crate::gateway::Gateway;
use crate::networks::Networks;
use crate::platform::Platform;
use crate::policies::Policies;
use crate::registry::Registry;
use crate::services::Services;
use crate::sidecar::Sidecar;
use crate::traffic::Traffic;
use crate::virtual_service::VirtualService;
use crate::workloads::Workloads;

/// DNS domain of Kubernetes Services.
pub const DNS_DOMAIN: &str = "cluster.local";

/// Objects by key; clones share their parts.
pub type Objects = OrdMap<ObjectKey, Arc<Object>>;

/// What happened to an object.
#[derive(Debug, Clone)]
pub enum Change {
    /// It is there, new or in another version.
    Put(Arc<Object>),
    /// It is gone.
    Remove(ObjectKey),
}

/// The mesh at one moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub(crate) objects: Objects,
    pub(crate) mesh: Arc<MeshConfig>,
    pub(crate) platform: Platform,
    pub(crate) networks: Arc<Networks>,
    pub(crate) workloads: Workloads,
    pub(crate) services: Services,
    pub(crate) registry: Registry,
    pub(crate) traffic: Arc<Traffic>,
    pub(crate) policies: Arc<Policies>,
    /// What could not be used, and why.
    pub rejected: Vec<Finding>,
}

impl Snapshot {
    /// Builds the mesh from its objects, given in any order. Of two objects with one name the first counts; the other is
    /// rejected.
    pub fn build(objects: impl IntoIterator<Item = Arc<Object>>) -> Snapshot {
        let mut twice = Vec::new();
        let mut by_key: BTreeMap<ObjectKey, Arc<Object>> = BTreeMap::new();
        for object in objects {
            match by_key.entry(object.key()) {
                Entry::Vacant(free) => {
                    free.insert(object);
                }
                Entry::Occupied(taken) => twice.push(finding::warning(
                    taken.key(),
                    "metadata.name",
                    "another object of this kind has the same name",
                )),
            }
        }
        let mut snapshot = apply::whole(by_key.into_iter().collect());
        snapshot.rejected.splice(0..0, twice);
        snapshot
    }

    /// The mesh after these changes, in their order.
    pub fn apply(&self, changes: impl IntoIterator<Item = Change>) -> Snapshot {
        apply::changes(self, changes)
    }

    /// The mesh whose objects are these, given in the order of their keys. Objects that are the same `Arc` as before are taken as
    /// unchanged, so this costs one walk over all keys, and then as much as [`Snapshot::apply`].
    pub fn update<'a>(
        &self,
        objects: impl IntoIterator<Item = (&'a ObjectKey, &'a Arc<Object>)>,
    ) -> Snapshot {
        let mut changes = Vec::new();
        let mut known = self.objects.iter().peekable();
        for (key, object) in objects {
            while let Some((gone, _)) = known.next_if(|(before, _)| *before < key) {
                changes.push(Change::Remove(gone.clone()));
            }
            let before = known.next_if(|(before, _)| *before == key);
            if !before.is_some_and(|(_, before)| Arc::ptr_eq(before, object)) {
                changes.push(Change::Put(Arc::clone(object)));
            }
        }
        changes.extend(known.map(|(gone, _)| Change::Remove(gone.clone())));
        self.apply(changes)
    }

    /// All objects, by key.
    pub fn objects(&self) -> &Objects {
        &self.objects
    }

    /// The objects of one kind, by namespace and name.
    pub fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &Arc<Object>> {
        of_kind(&self.objects, kind)
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

    /// The gateways of the mesh's networks.
    pub fn networks(&self) -> &Networks {
        &self.networks
    }

    /// All VirtualServices with hosts, oldest first, delegates merged in, and those that Ingresses stand for.
    pub fn virtual_services(&self) -> &[Arc<VirtualService>] {
        &self.traffic.virtual_services
    }

    /// All DestinationRules.
    pub fn destination_rules(&self) -> &DestinationRules {
        &self.traffic.destination_rules
    }

    /// All Gateways, oldest first, and those that Ingresses stand for.
    pub fn gateways(&self) -> &[Arc<Gateway>] {
        &self.traffic.gateways
    }

    /// The Sidecar of a workload.
    pub fn sidecar_for(&self, namespace: &str, labels: &BTreeMap<String, String>) -> Option<&Arc<Sidecar>> {
        self.traffic.sidecar_for(self.root_namespace(), namespace, labels)
    }

    /// The Sidecar with this key.
    pub fn sidecar(&self, key: &ObjectKey) -> Option<&Arc<Sidecar>> {
        self.traffic.sidecars.iter().find(|sidecar| sidecar.key == *key)
    }

    /// All security policies.
    pub fn policies(&self) -> &Policies {
        &self.policies
    }

    /// Label keys of clients that routes and rules read: `sourceLabels`, a DestinationRule's `workloadSelector`, a
    /// `failoverPriority`.
    pub fn client_label_keys(&self) -> &BTreeSet<String> {
        &self.traffic.client_label_keys
    }

    /// Whether what a client gets depends on the node that it runs on.
    pub fn reads_nodes(&self) -> bool {
        self.registry.reads_nodes()
            || self
                .traffic
                .client_label_keys
                .contains(crate::topology::NODE_LABEL)
    }
}

/// The objects of one kind.
pub(crate) fn of_kind(objects: &Objects, kind: Kind) -> impl Iterator<Item = &Arc<Object>> {
    let first = ObjectKey::new(kind, "", "");
    let all = objects
        .range(first..)
        .take_while(move |(key, _)| key.kind == kind);
    all.map(|(_, object)| object)
}
