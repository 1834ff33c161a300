//! From one snapshot's generator to the next at the price of what changed: rules and patches that no changed object is part
//! of are kept, and where endpoints alone moved their sets alone are made.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use config::Kind;
use model::{Diff, ServiceId, Snapshot};

use crate::cluster::{self, Clusters};
use crate::generator::Generator;
use crate::outbound::push;
use crate::output::{Output, type_url};
use crate::proxy::ProxyKind;
use crate::scope::Outbound;
use crate::view::View;

impl Generator {
    /// The generator of the next snapshot, where `diff` is what it differs in from this one's.
    #[must_use]
    pub fn next(&self, snapshot: Arc<Snapshot>, diff: &Diff) -> Generator {
        if !diff.keys().all(|key| is_apart(key.kind)) {
            return Generator::new(snapshot, self.settings.clone());
        }
        Generator {
            snapshot,
            ..self.clone()
        }
    }

    /// The endpoint sets of these services for clients of a scope. With [`model::Seen::Endpoints`] they are all that is
    /// other than before in what [`Generator::outbound`] gives; a set that was not among it before is not now: its host
    /// means another service there.
    #[must_use]
    pub fn endpoints(&self, scope: &Outbound, services: &BTreeSet<ServiceId>) -> Output {
        let view = View {
            snapshot: &self.snapshot,
            scope,
            sidecar: None,
            egress: Vec::new(),
            reachable: BTreeMap::new(),
        };
        let clusters = Clusters {
            generator: self,
            view: &view,
        };
        let all = self.snapshot.services();
        let found = services.iter().filter_map(|id| all.get(&id.host, &id.namespace));
        let router = scope.kind == ProxyKind::Router;
        let built = found.flat_map(|service| clusters.of_service(service));
        let built = built.flat_map(|built| {
            let unread = if router { cluster::unread(&built) } else { None };
            std::iter::once(built).chain(unread)
        });
        let mut out = Output::default();
        for (endpoints, origins) in built.filter_map(|built| built.endpoints) {
            let name = &endpoints.cluster_name;
            push(&mut out, type_url::ENDPOINTS, name, &endpoints, origins);
        }
        out.sorted()
    }
}

/// Whether Mixer's rules and EnvoyFilters' patches are made without objects of this kind.
fn is_apart(kind: Kind) -> bool {
    use Kind::{
        AuthorizationPolicy, DestinationRule, EndpointSlice, Gateway, Namespace, Node, PeerAuthentication,
        Pod, RequestAuthentication, Service, ServiceEntry, Sidecar, VirtualService, WorkloadEntry,
        WorkloadGroup,
    };
    matches!(
        kind,
        AuthorizationPolicy
            | DestinationRule
            | EndpointSlice
            | Gateway
            | Namespace
            | Node
            | PeerAuthentication
            | Pod
            | RequestAuthentication
            | Service
            | ServiceEntry
            | Sidecar
            | VirtualService
            | WorkloadEntry
            | WorkloadGroup
    )
}
