//! networking.k8s.io Ingress and IngressClass, as far as the mesh translates them.

use crate::api::api;

api! {
    /// networking.k8s.io/v1 Ingress.
    pub struct Ingress {
        spec: IngressSpec,
    }

    /// Rules of an Ingress.
    pub struct IngressSpec {
        /// Absent means that the annotation, or MeshConfig's mode, decides who serves it.
        ingress_class_name: Option<String>,
        default_backend: Option<IngressBackend>,
        tls: Vec<IngressTls>,
        rules: Vec<IngressRule>,
    }

    /// A certificate for hosts.
    pub struct IngressTls {
        /// Empty means all hosts.
        hosts: Vec<String>,
        secret_name: String,
    }

    /// Paths of one host.
    pub struct IngressRule {
        /// Empty means all hosts.
        host: String,
        http: Option<HttpIngressRuleValue>,
    }

    /// Paths and where they lead.
    pub struct HttpIngressRuleValue {
        paths: Vec<HttpIngressPath>,
    }

    /// One path.
    pub struct HttpIngressPath {
        path: String,
        /// Exact, Prefix or ImplementationSpecific (when empty).
        path_type: String,
        backend: IngressBackend,
    }

    /// Where requests go.
    pub struct IngressBackend {
        service: Option<IngressServiceBackend>,
    }

    /// A Service of the Ingress's namespace.
    pub struct IngressServiceBackend {
        name: String,
        port: ServiceBackendPort,
    }

    /// A Service's port, by number or by name.
    pub struct ServiceBackendPort {
        name: String,
        number: u32,
    }

    /// networking.k8s.io/v1 IngressClass.
    pub struct IngressClass {
        spec: IngressClassSpec,
    }

    /// Who serves a class.
    pub struct IngressClassSpec {
        controller: String,
    }
}
