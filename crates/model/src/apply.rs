//! From one snapshot to the next: what a change of an object touches is made again, everything else is shared. Building a mesh
//! from nothing is the same thing with all objects as changes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use config::mesh::MeshConfig;
use config::{Finding, Kind, Object, ObjectKey, Spec};

use crate::diff::same_meaning;
use crate::finding;
use crate::networks::NetworkRules;
use crate::platform::Platform;
use crate::policies::Policies;
use crate::registry::{Around, Registry};
use crate::service::ServiceId;
use crate::services::Services;
use crate::snapshot::{Change, Objects, Snapshot, of_kind};
use crate::traffic::Traffic;
use crate::workload::Workload;
use crate::workloads::{WorkloadId, Workloads};

/// An object before and after.
struct Step {
    key: ObjectKey,
    before: Option<Arc<Object>>,
    now: Option<Arc<Object>>,
}

/// The mesh of these objects.
pub(crate) fn whole(objects: Objects) -> Snapshot {
    let steps = objects.iter().map(|(key, object)| Step {
        key: key.clone(),
        before: None,
        now: Some(Arc::clone(object)),
    });
    let steps: Vec<Step> = steps.collect();
    let mesh = mesh_config(&objects);
    let rules = network_rules(&objects, &mesh);
    let mut next = Snapshot {
        platform: Platform::new(rules),
        mesh: Arc::new(mesh),
        objects,
        networks: Arc::default(),
        workloads: Workloads::default(),
        services: Services::default(),
        registry: Registry::default(),
        traffic: Arc::default(),
        policies: Arc::default(),
        rejected: Vec::new(),
    };
    take(&mut next, &steps, true);
    next
}

/// The mesh after these changes.
pub(crate) fn changes(before: &Snapshot, changes: impl IntoIterator<Item = Change>) -> Snapshot {
    let mut next = before.clone();
    let mut steps: BTreeMap<ObjectKey, Step> = BTreeMap::new();
    for change in changes {
        let (key, now) = match change {
            Change::Put(object) => (object.key(), Some(object)),
            Change::Remove(key) => (key, None),
        };
        let last = match &now {
            Some(object) => next.objects.insert(key.clone(), Arc::clone(object)),
            None => next.objects.remove(&key),
        };
        let first = steps.remove(&key).map_or(last, |step| step.before);
        steps.insert(
            key.clone(),
            Step {
                key,
                before: first,
                now,
            },
        );
    }
    let meant = steps
        .into_values()
        .filter(|step| match (&step.before, &step.now) {
            (Some(before), Some(now)) => !same_meaning(before, now),
            (before, now) => before.is_some() || now.is_some(),
        });
    let meant: Vec<Step> = meant.collect();
    if meant.iter().any(|step| concerns_all(&step.key, &before.mesh)) {
        let mesh = mesh_config(&next.objects);
        let rules = network_rules(&next.objects, &mesh);
        if mesh != *before.mesh || rules != *before.platform.rules {
            return whole(next.objects);
        }
    }
    take(&mut next, &meant, false);
    next
}

/// Whether an object may concern everything.
fn concerns_all(key: &ObjectKey, mesh: &MeshConfig) -> bool {
    matches!(key.kind, Kind::MeshConfig | Kind::MeshNetworks)
        || (key.kind == Kind::Namespace && key.name == mesh.root_namespace)
}

/// The oldest of the objects of one kind, then the first by name.
fn oldest(objects: &Objects, kind: Kind) -> Option<&Arc<Object>> {
    of_kind(objects, kind).min_by_key(|object| (object.meta.created.is_none(), object.meta.created))
}

fn mesh_config(objects: &Objects) -> MeshConfig {
    let mesh = oldest(objects, Kind::MeshConfig).and_then(|object| match &object.spec {
        Spec::MeshConfig(mesh) => Some((**mesh).clone()),
        _ => None,
    });
    mesh.unwrap_or_default().with_defaults()
}

fn network_rules(objects: &Objects, mesh: &MeshConfig) -> NetworkRules {
    let networks = oldest(objects, Kind::MeshNetworks).and_then(|object| match &object.spec {
        Spec::MeshNetworks(networks) => Some(&**networks),
        _ => None,
    });
    let root = objects.get(&ObjectKey::new(Kind::Namespace, "", mesh.root_namespace.as_str()));
    let label = root.and_then(|object| object.meta.labels.get(crate::networks::NETWORK_LABEL));
    NetworkRules::new(networks, label)
}

/// Takes what changed; `all` if nothing was there before.
fn take(next: &mut Snapshot, steps: &[Step], all: bool) {
    let mut dirty = platform(next, steps);
    for step in steps {
        next.registry
            .set(&step.key, step.before.as_ref(), step.now.as_ref(), &mut dirty);
    }
    let around = Around {
        objects: &next.objects,
        mesh: &next.mesh,
        platform: &next.platform,
        workloads: &next.workloads,
    };
    if !dirty.is_empty() {
        next.registry.rebuild(&mut next.services, dirty, &around);
    }
    let networks = next.registry.networks(&next.platform.rules, &next.services);
    if *next.networks != networks {
        next.networks = Arc::new(networks);
    }
    let kinds: BTreeSet<Kind> = steps.iter().map(|step| step.key.kind).collect();
    if all || kinds.iter().any(|kind| next.traffic.reads(*kind)) {
        let keys = steps.iter().map(|step| &step.key);
        next.traffic = Arc::new(Traffic::next(&next.traffic, keys, all, &next.objects, &next.mesh));
    }
    if all || kinds.iter().any(|kind| Policies::reads(*kind)) {
        next.policies = Arc::new(Policies::of(&next.objects, &next.mesh.root_namespace));
    }
    next.rejected = rejected(next);
}

/// Takes nodes, namespaces and workloads; gives the services that they touch.
fn platform(next: &mut Snapshot, steps: &[Step]) -> BTreeSet<ServiceId> {
    let mut dirty = BTreeSet::new();
    let mut workloads: BTreeSet<WorkloadId> = BTreeSet::new();
    for Step { key, now, .. } in steps {
        let now = now.as_deref();
        match key.kind {
            Kind::Node if next.platform.set_node(&key.name, now) => {
                workloads.extend(next.workloads.on_node(&key.name));
                dirty.extend(next.services.on_node(&key.name));
            }
            Kind::Namespace if next.platform.set_namespace(&key.name, now) => {
                dirty.extend(next.registry.in_namespace(&key.name).cloned());
            }
            Kind::Pod | Kind::WorkloadEntry => {
                workloads.insert((key.namespace.clone(), key.name.clone(), key.kind));
            }
            _ => {}
        }
    }
    for id in workloads {
        let key = ObjectKey::new(id.2, id.0.as_str(), id.1.as_str());
        let object = next.objects.get(&key);
        let now = object.and_then(|object| Workload::of(object, &next.platform));
        if next.workloads.all.get(&id).map(|old| &**old) == now.as_ref() {
            continue;
        }
        if let Some(new) = &now {
            let registry = &next.registry;
            registry.touched_by(new, &next.services, &next.objects, &mut dirty);
        }
        if let Some(old) = next.workloads.set(&id, now) {
            let registry = &next.registry;
            registry.touched_by(&old, &next.services, &next.objects, &mut dirty);
        }
    }
    dirty
}

fn rejected(next: &Snapshot) -> Vec<Finding> {
    let mut out = Vec::new();
    for kind in [Kind::MeshConfig, Kind::MeshNetworks] {
        let counts = oldest(&next.objects, kind).map(|object| object.key());
        let others = of_kind(&next.objects, kind).map(|object| object.key());
        out.extend(
            others
                .filter(|key| counts.as_ref() != Some(key))
                .map(|key| finding::warning(&key, "", format!("the mesh has a {kind} already"))),
        );
    }
    out.extend(next.registry.findings().cloned());
    out.extend(next.traffic.findings.iter().cloned());
    out
}
