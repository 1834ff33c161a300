//! What is made of objects that are not served as they are: Istio 1.4's security kinds become today's, and Gateway API's
//! objects that are bound to the mesh are named.
//!
//! Pure: it is given objects in the order of their keys.

use std::sync::Arc;

use config::kube::gateway_api;
use config::legacy::{self, Mesh};
use config::mesh::MeshConfig;
use config::{Kind, Object};

use crate::merge::by_key;
use crate::store::State;

/// Whether there is anything to make; looking costs next to nothing.
pub(crate) fn is_needed(objects: &[Arc<Object>]) -> bool {
    !of(objects, Kind::Policy, Kind::ClusterRbacConfig).is_empty() || !gateway_apis(objects).is_empty()
}

/// Adds what is made, and what there is to say about what it is made from.
pub(crate) fn add(state: &mut State, mesh: Option<&MeshConfig>) {
    let root = mesh
        .map(|mesh| mesh.root_namespace.as_str())
        .filter(|root| !root.is_empty());
    let mesh = Mesh {
        root_namespace: root.unwrap_or(Mesh::default().root_namespace),
        domain: model::DNS_DOMAIN,
    };
    let (made, findings) = legacy::translate(&state.objects, mesh);
    state.findings.extend(findings);
    state
        .findings
        .extend(gateway_api::unserved(gateway_apis(&state.objects)));
    for object in made.into_iter().map(Arc::new) {
        // Somebody's own object of that name comes first.
        if let Err(at) = state.objects.binary_search_by(|other| by_key(other, &object)) {
            Arc::make_mut(&mut state.objects).insert(at, object);
        }
    }
}

fn gateway_apis(objects: &[Arc<Object>]) -> &[Arc<Object>] {
    of(objects, Kind::KubernetesGateway, Kind::ListenerSet)
}

/// The objects from one kind to another.
fn of(objects: &[Arc<Object>], first: Kind, last: Kind) -> &[Arc<Object>] {
    let start = objects.partition_point(|object| object.kind < first);
    let end = objects.partition_point(|object| object.kind <= last);
    objects.get(start..end).unwrap_or_default()
}
