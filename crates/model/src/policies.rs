//! Which security policies apply to a workload: PeerAuthentication resolved from mesh, namespace and workload, and the
//! AuthorizationPolicies and RequestAuthentications that select it. What they mean to Envoy is envoygen's matter.

use std::collections::BTreeMap;
use std::sync::Arc;

use config::security::{AuthorizationPolicy, MutualTlsMode, PeerAuthentication, RequestAuthentication};
use config::{Kind, Object, ObjectKey, Spec};

use crate::export::selects;
use crate::snapshot::Objects;
use crate::traffic::by_age;

/// A policy with the workloads that it is for.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy<T> {
    /// The object.
    pub key: ObjectKey,
    /// Its annotations, for those that change a policy's meaning (dry run).
    pub annotations: BTreeMap<String, String>,
    /// Labels of the workloads; all if empty.
    pub selector: BTreeMap<String, String>,
    /// The policy.
    pub spec: Arc<T>,
}

impl<T: Clone> Policy<T> {
    pub(crate) fn new(
        object: &Object,
        selector: Option<&config::selector::WorkloadSelector>,
        spec: &T,
    ) -> Policy<T> {
        Policy {
            key: object.key(),
            annotations: object.meta.annotations.clone(),
            selector: selector.map(|s| s.match_labels.clone()).unwrap_or_default(),
            spec: Arc::new(spec.clone()),
        }
    }
}

/// All security policies, each kind oldest first.
#[derive(Debug, Clone, Default)]
pub struct Policies {
    pub(crate) root: String,
    pub(crate) peer: Vec<Policy<PeerAuthentication>>,
    pub(crate) request: Vec<Policy<RequestAuthentication>>,
    pub(crate) authorization: Vec<Policy<AuthorizationPolicy>>,
}

/// Whether a workload's ports demand mutual TLS.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PeerModes {
    /// Mode of ports that have none of their own; never `Unset`.
    pub default: MutualTlsMode,
    /// Modes by the workload's port; never `Unset`.
    pub ports: BTreeMap<u16, MutualTlsMode>,
    /// The objects that decided.
    pub origins: Vec<ObjectKey>,
}

impl PeerModes {
    /// The mode of a port.
    pub fn of(&self, port: u16) -> MutualTlsMode {
        self.ports.get(&port).copied().unwrap_or(self.default)
    }
}

impl Policies {
    /// Whether objects of a kind are policies.
    pub(crate) fn reads(kind: Kind) -> bool {
        matches!(
            kind,
            Kind::PeerAuthentication | Kind::RequestAuthentication | Kind::AuthorizationPolicy
        )
    }

    /// The policies among all objects.
    pub(crate) fn of(objects: &Objects, root: &str) -> Policies {
        let mut out = Policies {
            root: root.to_owned(),
            ..Policies::default()
        };
        for object in by_age(objects, Kind::PeerAuthentication) {
            if let Spec::PeerAuthentication(spec) = &object.spec {
                out.peer
                    .push(Policy::new(object, spec.selector.as_ref(), &**spec));
            }
        }
        for object in by_age(objects, Kind::RequestAuthentication) {
            if let Spec::RequestAuthentication(spec) = &object.spec {
                out.request
                    .push(Policy::new(object, spec.selector.as_ref(), &**spec));
            }
        }
        for object in by_age(objects, Kind::AuthorizationPolicy) {
            if let Spec::AuthorizationPolicy(spec) = &object.spec {
                out.authorization
                    .push(Policy::new(object, spec.selector.as_ref(), &**spec));
            }
        }
        out
    }

    /// The mutual TLS modes of a workload: its own policy's, else the namespace's, else the mesh's, else PERMISSIVE. Of several
    /// policies at one level the oldest counts; those with a selector act in their own namespace only (Istio,
    /// "PeerAuthentication").
    pub fn peer_modes(&self, namespace: &str, labels: &BTreeMap<String, String>) -> PeerModes {
        let at = |ns: &str| {
            self.peer
                .iter()
                .filter(move |p| p.key.namespace == *ns)
                .collect::<Vec<_>>()
        };
        let own = at(namespace);
        let workload = own
            .iter()
            .find(|p| !p.selector.is_empty() && selects(&p.selector, labels))
            .copied();
        let of_namespace = own.iter().find(|p| p.selector.is_empty()).copied();
        let of_mesh = at(&self.root).into_iter().find(|p| p.selector.is_empty());
        let chain = [workload, of_namespace, of_mesh];
        let decided = chain
            .into_iter()
            .flatten()
            .find(|p| mode(p) != MutualTlsMode::Unset);
        let default = decided.map_or(MutualTlsMode::Permissive, mode);
        let mut origins: Vec<ObjectKey> = decided.into_iter().map(|p| p.key.clone()).collect();
        let mut ports = BTreeMap::new();
        if let Some(policy) = workload {
            for (port, mtls) in &policy.spec.port_level_mtls {
                if let (Ok(port), true) = (u16::try_from(*port), mtls.mode != MutualTlsMode::Unset) {
                    ports.insert(port, mtls.mode);
                }
            }
            if !ports.is_empty() && !origins.contains(&policy.key) {
                origins.push(policy.key.clone());
            }
        }
        PeerModes {
            default,
            ports,
            origins,
        }
    }

    /// Whether any policy switches mutual TLS off anywhere, so that endpoints must be looked at one by one.
    pub fn may_disable(&self) -> bool {
        self.peer.iter().any(|policy| {
            let ports = policy.spec.port_level_mtls.values().chain(&policy.spec.mtls);
            ports.into_iter().any(|mtls| mtls.mode == MutualTlsMode::Disable)
        })
    }

    /// The AuthorizationPolicies of a workload: those of the root namespace and of its own.
    pub fn authorization<'a>(
        &'a self,
        namespace: &'a str,
        labels: &'a BTreeMap<String, String>,
    ) -> impl Iterator<Item = &'a Policy<AuthorizationPolicy>> {
        self.authorization
            .iter()
            .filter(move |p| self.applies(&p.key, &p.selector, namespace, labels))
    }

    /// The RequestAuthentications of a workload: those of the root namespace and of its own.
    pub fn request<'a>(
        &'a self,
        namespace: &'a str,
        labels: &'a BTreeMap<String, String>,
    ) -> impl Iterator<Item = &'a Policy<RequestAuthentication>> {
        self.request
            .iter()
            .filter(move |p| self.applies(&p.key, &p.selector, namespace, labels))
    }

    fn applies(
        &self,
        key: &ObjectKey,
        selector: &BTreeMap<String, String>,
        namespace: &str,
        labels: &BTreeMap<String, String>,
    ) -> bool {
        (key.namespace == namespace || key.namespace == self.root) && selects(selector, labels)
    }
}

fn mode(policy: &Policy<PeerAuthentication>) -> MutualTlsMode {
    policy
        .spec
        .mtls
        .as_ref()
        .map_or(MutualTlsMode::Unset, |mtls| mtls.mode)
}
