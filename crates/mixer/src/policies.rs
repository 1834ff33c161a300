//! Mixer's configuration, ready to be asked: rules and the mesh's workloads, built from the feed's objects. Pure.

use std::collections::BTreeSet;
use std::sync::Arc;

use config::mesh::MeshConfig;
use config::{Finding, Kind, Object, Spec};
use feed::State;
use model::{Diff, Snapshot};
use policy::Rules;

use crate::adapters::Adapters;
use crate::mesh::Mesh;

/// The kinds that the workload table is made from, and which of its workloads are gateways.
const MESH_KINDS: [Kind; 9] = [
    Kind::MeshConfig,
    Kind::Service,
    Kind::ServiceEntry,
    Kind::WorkloadEntry,
    Kind::Pod,
    Kind::EndpointSlice,
    Kind::Gateway,
    Kind::Ingress,
    Kind::IngressClass,
];

/// The kinds that Mixer subscribes to.
pub(crate) fn kinds() -> Vec<Kind> {
    let mixer = Kind::ALL
        .iter()
        .copied()
        .filter(|kind| kind.group() == Kind::Rule.group());
    mixer.chain(MESH_KINDS).collect()
}

/// Rules and workloads at one moment. Requests under way finish on the one with which they began.
#[derive(Debug)]
pub(crate) struct Policies {
    pub(crate) rules: Arc<Rules>,
    pub(crate) mesh: Arc<Mesh>,
    /// The handlers that run beside the decision; the engine starts them.
    pub(crate) adapters: Arc<Adapters>,
    /// What is wrong with the rules' objects.
    pub(crate) findings: Arc<Vec<Finding>>,
    /// What `mesh` was made of; the next one shares what did not change.
    snapshot: Snapshot,
    state: Arc<State>,
}

/// Whether a mesh's workloads or services, as Mixer looks them up, may be others. Endpoints alone matter only by the
/// services that they make workloads members of.
fn shows(old: &Snapshot, new: &Snapshot) -> bool {
    let diff = Diff::between(old, new);
    let members = !diff.endpoints.is_empty() && new.workloads().iter().next().is_some();
    let gateways = diff
        .keys()
        .any(|key| matches!(key.kind, Kind::Gateway | Kind::Ingress | Kind::IngressClass));
    !diff.services.is_empty() || !diff.workloads.is_empty() || members || gateways
}

impl Policies {
    /// Builds from the feed's objects. What none of the changed objects concerns is shared with `previous`.
    pub(crate) fn build(state: Arc<State>, previous: Option<&Self>) -> Self {
        let changed: Option<BTreeSet<Kind>> = previous.map(|previous| state.changed_kinds(&previous.state));
        let touched =
            |kinds: &dyn Fn(Kind) -> bool| changed.as_ref().is_none_or(|all| all.iter().any(|k| kinds(*k)));
        let of_rules = |kind: Kind| !MESH_KINDS.contains(&kind) || kind == Kind::MeshConfig;
        let of_mesh = |kind: Kind| MESH_KINDS.contains(&kind);
        let (rules, findings) = match previous {
            Some(previous) if !touched(&of_rules) => (previous.rules.clone(), previous.findings.clone()),
            _ => {
                let (rules, findings) = Rules::build(state.objects.values(), &mesh_config(&state));
                (Arc::new(rules), Arc::new(findings))
            }
        };
        let objects = state.objects.iter().filter(|(key, _)| of_mesh(key.kind));
        let snapshot = match previous {
            Some(previous) if !touched(&of_mesh) => previous.snapshot.clone(),
            Some(previous) => previous.snapshot.update(objects),
            None => Snapshot::build(objects.map(|(_, object)| object.clone())),
        };
        let mesh = match previous {
            Some(previous) if !shows(&previous.snapshot, &snapshot) => previous.mesh.clone(),
            _ => Arc::new(Mesh::new(&snapshot)),
        };
        Self {
            rules,
            mesh,
            adapters: previous
                .map(|previous| previous.adapters.clone())
                .unwrap_or_default(),
            findings,
            snapshot,
            state,
        }
    }

    /// The handler of that full name: `NAME.NAMESPACE`, of a kind of its own `NAME.KIND.NAMESPACE`.
    pub(crate) fn handler(&self, full_name: &str) -> Option<&Object> {
        let named = |object: &&Arc<Object>| {
            let (name, namespace) = (&object.meta.name, &object.meta.namespace);
            let kind = match object.kind {
                Kind::Handler => String::new(),
                kind => format!(".{}", kind.as_str()),
            };
            matches!(object.spec, Spec::Handler(_)) && format!("{name}{kind}.{namespace}") == full_name
        };
        self.state.objects.values().find(named).map(|object| &**object)
    }
}

/// The mesh's settings, defaults filled in.
fn mesh_config(state: &State) -> MeshConfig {
    let mut given = state.objects.values().filter_map(|object| match &object.spec {
        Spec::MeshConfig(mesh) => Some((**mesh).clone()),
        _ => None,
    });
    given.next().unwrap_or_default().with_defaults()
}
