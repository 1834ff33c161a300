//! One file: what it held when it was read last, and what of that stays through a bad edit.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};
use std::sync::Arc;

use config::{Finding, Object, ObjectKey, Parsed, Severity, Status};

use super::findings::{duplicate, still_served};

/// Namespace of objects that name none, as with `kubectl apply`.
const DEFAULT_NAMESPACE: &str = "default";

/// Name, at the top of the folder, of the file that holds the MeshConfig.
pub(crate) const MESH_FILE: &str = "mesh.yaml";

/// Likewise of the file that holds MeshNetworks.
const NETWORKS_FILE: &str = "mesh-networks.yaml";

/// Namespace that the MeshConfig is shown under; Istio keeps it there too.
pub(crate) const MESH_NAMESPACE: &str = "istio-system";

/// A file as it was read last.
#[derive(Debug, Default)]
pub(super) struct File {
    pub(super) hash: u64,
    pub(super) objects: BTreeMap<ObjectKey, Arc<Object>>,
    pub(super) findings: Vec<Finding>,
    pub(super) statuses: BTreeMap<ObjectKey, Status>,
}

impl File {
    /// Takes what the file holds now. An object that did not change is the same `Arc` as before.
    pub(super) fn read(&mut self, hash: u64, parsed: Parsed) {
        let kept = self.keep(&parsed);
        let mut objects = BTreeMap::new();
        let mut findings = parsed.findings;
        for object in parsed.objects {
            let key = object.key();
            let same = self.objects.get(&key).filter(|old| ***old == object).cloned();
            let object = same.unwrap_or_else(|| Arc::new(object));
            match objects.entry(key) {
                Entry::Vacant(free) => _ = free.insert(object),
                Entry::Occupied(first) => findings.push(duplicate(first.key(), &object, first.get())),
            }
        }
        for (key, object) in kept {
            findings.push(still_served(&key, &object));
            objects.entry(key).or_insert(object);
        }
        *self = Self {
            hash,
            objects,
            findings,
            statuses: parsed.statuses,
        };
    }

    /// Objects of the version before that the new one broke: those that an error names, and, where an error
    /// names none (the YAML does not parse), all that the new version does not hold.
    fn keep(&self, parsed: &Parsed) -> Vec<(ObjectKey, Arc<Object>)> {
        let errors = || {
            parsed
                .findings
                .iter()
                .filter(|finding| finding.severity == Severity::Error)
        };
        let broken: BTreeSet<&ObjectKey> = errors().filter_map(|finding| finding.object.as_ref()).collect();
        let any_unnamed = errors().any(|finding| finding.object.is_none());
        let present: BTreeSet<ObjectKey> = parsed.objects.iter().map(Object::key).collect();
        let lost = |key: &ObjectKey| !present.contains(key) && (any_unnamed || broken.contains(key));
        self.objects
            .iter()
            .filter(|(key, _)| lost(key))
            .map(|(key, object)| (key.clone(), object.clone()))
            .collect()
    }
}

/// `shown` is the path for messages.
pub(super) fn parse(path: &str, shown: &str, bytes: &[u8]) -> Parsed {
    match path {
        MESH_FILE => config::parse_mesh_config(shown, bytes, MESH_NAMESPACE),
        NETWORKS_FILE => config::parse_mesh_networks(shown, bytes, MESH_NAMESPACE),
        _ => config::parse(shown, bytes, DEFAULT_NAMESPACE),
    }
}
