//! Which objects of Gateway API are meant for the mesh, by their class or by their parents. Until they are served, each is
//! named in a warning.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::ParentReference;
use crate::{Finding, Kind, Object, ObjectKey, Spec};

/// GatewayClasses that are the mesh's own, Istio's names among them.
pub const CLASSES: &[&str] = &[
    "argosy",
    "istio",
    "istio-remote",
    "istio-east-west",
    "istio-waypoint",
];

/// Controllers by which a GatewayClass is the mesh's own, Istio's names among them.
pub const CONTROLLERS: &[&str] = &[
    "argosy.io/gateway-controller",
    "istio.io/gateway-controller",
    "istio.io/unmanaged-gateway",
    "istio.io/eastwest-controller",
    "istio.io/mesh-controller",
];

const GROUP: &str = "gateway.networking.k8s.io";

/// What is said of such an object.
pub(crate) const NO_EFFECT: &str = "Gateway API is not served in this release, so this has no effect";

/// Whether Gateways of the class belong to the mesh, as far as the name says.
pub(crate) fn is_own_class(name: &str) -> bool {
    CLASSES.contains(&name)
}

/// Whether GatewayClasses with the controller belong to the mesh.
pub(crate) fn is_own_controller(name: &str) -> bool {
    CONTROLLERS.contains(&name)
}

impl ParentReference {
    /// Whether the parent is a Service or a ServiceEntry, whose clients in the mesh apply the route (GAMMA).
    pub fn is_in_mesh(&self) -> bool {
        matches!(
            (self.group.as_deref(), self.kind.as_str()),
            (Some("" | "core"), "Service") | (Some("networking.istio.io"), "ServiceEntry")
        )
    }

    /// The Gateway that is meant, for a route in `namespace`.
    fn gateway(&self, namespace: &str) -> Option<ObjectKey> {
        let fine =
            self.group.as_deref().unwrap_or(GROUP) == GROUP && matches!(self.kind.as_str(), "" | "Gateway");
        let of = if self.namespace.is_empty() {
            namespace
        } else {
            &self.namespace
        };
        fine.then(|| ObjectKey::new(Kind::KubernetesGateway, of, &*self.name))
    }
}

impl Spec {
    /// The parents of a route of Gateway API; empty for other kinds.
    pub fn parents(&self) -> &[ParentReference] {
        match self {
            Self::KubernetesHttpRoute(route) => &route.spec.parent_refs,
            Self::KubernetesGrpcRoute(route) => &route.spec.parent_refs,
            Self::KubernetesL4Route(route) => &route.spec.parent_refs,
            _ => &[],
        }
    }
}

/// Warnings about objects of Gateway API that would be the mesh's to serve, which only the whole set tells: Gateways whose
/// class has a controller of the mesh, and what is attached to Gateways of the mesh. What one object tells by itself (a
/// known class, a Service as parent), [`crate::decode`] has said.
pub fn unserved<'a>(objects: impl IntoIterator<Item = &'a Arc<Object>> + Clone) -> Vec<Finding> {
    let classes: BTreeSet<&str> = objects
        .clone()
        .into_iter()
        .filter_map(|object| match &object.spec {
            Spec::GatewayClass(class) if is_own_controller(&class.spec.controller_name) => {
                Some(object.meta.name.as_str())
            }
            _ => None,
        })
        .collect();
    let own = |name: &str| is_own_class(name) || classes.contains(name);
    let gateways: BTreeSet<ObjectKey> = objects
        .clone()
        .into_iter()
        .filter(|object| matches!(&object.spec, Spec::KubernetesGateway(gateway) if own(&gateway.spec.gateway_class_name)))
        .map(|object| object.key())
        .collect();
    objects
        .into_iter()
        .filter_map(|object| unserved_object(object, &classes, &gateways))
        .collect()
}

fn unserved_object(
    object: &Object,
    classes: &BTreeSet<&str>,
    gateways: &BTreeSet<ObjectKey>,
) -> Option<Finding> {
    let namespace = object.meta.namespace.as_str();
    let path = match &object.spec {
        Spec::KubernetesGateway(gateway) => {
            let class = gateway.spec.gateway_class_name.as_str();
            (classes.contains(class) && !is_own_class(class)).then(|| "spec.gatewayClassName".to_owned())
        }
        Spec::ListenerSet(set) => {
            let parent = &set.spec.parent_ref;
            let of = if parent.namespace.is_empty() {
                namespace
            } else {
                &parent.namespace
            };
            let key = ObjectKey::new(Kind::KubernetesGateway, of, &*parent.name);
            gateways.contains(&key).then(|| "spec.parentRef".to_owned())
        }
        Spec::BackendTlsPolicy(_) => (!gateways.is_empty()).then(|| "spec.targetRefs".to_owned()),
        spec => {
            let attached = |parent: &ParentReference| {
                parent
                    .gateway(namespace)
                    .is_some_and(|key| gateways.contains(&key))
            };
            let index = spec.parents().iter().position(attached)?;
            Some(format!("spec.parentRefs[{index}]"))
        }
    }?;
    let finding = Finding::warning(NO_EFFECT).of(object.key()).at(path);
    Some(
        finding
            .help("use VirtualService and Gateway of networking.istio.io")
            .from(object.origin.clone()),
    )
}
