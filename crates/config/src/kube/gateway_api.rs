//! Gateway API's kinds, as far as analysis reads them. They are not served: whoever sets their `spec` is told so.

use crate::api::api;

api! {
    /// gateway.networking.k8s.io Gateway.
    pub struct KubernetesGateway {
        spec: KubernetesGatewaySpec,
    }

    /// Listeners of a Gateway.
    pub struct KubernetesGatewaySpec {
        gateway_class_name: String,
        listeners: Vec<Listener>,
    }

    /// One open port and the host that it serves.
    pub struct Listener {
        name: String,
        /// Empty means all hosts.
        hostname: String,
        port: u32,
        protocol: String,
    }

    /// gateway.networking.k8s.io HTTPRoute or GRPCRoute.
    pub struct KubernetesRoute {
        spec: KubernetesRouteSpec,
    }

    /// What a route is attached to.
    pub struct KubernetesRouteSpec {
        parent_refs: Vec<ParentReference>,
        hostnames: Vec<String>,
    }

    /// A Gateway (or Service) that applies a route.
    pub struct ParentReference {
        group: String,
        kind: String,
        namespace: String,
        name: String,
        section_name: String,
        port: u32,
    }
}
