//! Gateway, GatewayClass and ListenerSet: open ports and who opens them.

use std::collections::BTreeMap;

use crate::api::{api, api_enum};
use crate::selector::LabelSelector;

api! {
    /// gateway.networking.k8s.io GatewayClass.
    #[schemars(extend("required" = ["spec"]))]
    pub struct GatewayClass {
        spec: GatewayClassSpec,
    }

    /// Who opens the Gateways of a class.
    #[schemars(extend("required" = ["controllerName"]))]
    pub struct GatewayClassSpec {
        #[schemars(length(min = 1, max = 253))]
        controller_name: String,
        parameters_ref: Option<ParametersReference>,
        #[schemars(length(max = 64))]
        description: String,
    }

    /// An object with parameters; `namespace` for those of a GatewayClass only.
    #[schemars(extend("required" = ["group", "kind", "name"]))]
    pub struct ParametersReference {
        group: Option<String>,
        kind: String,
        name: String,
        namespace: String,
    }

    /// gateway.networking.k8s.io Gateway.
    #[schemars(extend("required" = ["spec"]))]
    pub struct KubernetesGateway {
        spec: KubernetesGatewaySpec,
    }

    /// Listeners of a Gateway and what they have in common.
    #[schemars(extend("required" = ["gatewayClassName", "listeners"]))]
    pub struct KubernetesGatewaySpec {
        #[schemars(length(min = 1, max = 253))]
        gateway_class_name: String,
        #[schemars(length(min = 1, max = 64))]
        listeners: Vec<Listener>,
        #[schemars(length(max = 16))]
        addresses: Vec<GatewayAddress>,
        infrastructure: Option<GatewayInfrastructure>,
        /// Which ListenerSets may add listeners.
        allowed_listeners: Option<AllowedListeners>,
        tls: Option<GatewayTlsConfig>,
        /// Which routes without parents belong to the Gateway: All or None.
        default_scope: String,
    }

    /// One open port and the host that it serves.
    #[schemars(extend("required" = ["name", "port", "protocol"]))]
    pub struct Listener {
        #[schemars(length(min = 1, max = 253))]
        name: String,
        /// Empty means all hosts.
        #[schemars(length(max = 253))]
        hostname: String,
        #[schemars(range(min = 1, max = 65535))]
        port: u32,
        /// HTTP, HTTPS, TLS, TCP, UDP, or a name with a domain.
        #[schemars(length(min = 1, max = 255))]
        protocol: String,
        tls: Option<ListenerTlsConfig>,
        allowed_routes: Option<AllowedRoutes>,
    }

    /// TLS of one listener.
    pub struct ListenerTlsConfig {
        mode: ListenerTlsMode,
        #[schemars(length(max = 64))]
        certificate_refs: Vec<SecretReference>,
        #[schemars(extend("maxProperties" = 16))]
        options: BTreeMap<String, String>,
    }

    /// A Secret, or an object of another kind.
    #[schemars(extend("required" = ["name"]))]
    pub struct SecretReference {
        /// Empty means the core group.
        group: String,
        /// Empty means Secret.
        kind: String,
        name: String,
        namespace: String,
    }

    /// Which routes may attach themselves.
    pub struct AllowedRoutes {
        namespaces: Option<RouteNamespaces>,
        #[schemars(length(max = 8))]
        kinds: Vec<RouteGroupKind>,
    }

    /// Namespaces whose routes are taken.
    pub struct RouteNamespaces {
        from: RoutesFrom,
        selector: Option<LabelSelector>,
    }

    /// A kind of routes; an empty group means Gateway API's.
    #[schemars(extend("required" = ["kind"]))]
    pub struct RouteGroupKind {
        group: Option<String>,
        kind: String,
    }

    /// Where a Gateway is reached.
    pub struct GatewayAddress {
        /// IPAddress (when empty), Hostname, or a name with a domain.
        r#type: String,
        #[schemars(length(max = 253))]
        value: String,
    }

    /// What is made for a Gateway.
    pub struct GatewayInfrastructure {
        #[schemars(extend("maxProperties" = 8))]
        labels: BTreeMap<String, String>,
        #[schemars(extend("maxProperties" = 16))]
        annotations: BTreeMap<String, String>,
        parameters_ref: Option<ParametersReference>,
    }

    /// Namespaces whose ListenerSets are taken.
    pub struct AllowedListeners {
        namespaces: Option<ListenerNamespaces>,
    }

    /// Namespaces whose ListenerSets are taken.
    pub struct ListenerNamespaces {
        from: ListenersFrom,
        selector: Option<LabelSelector>,
    }

    /// TLS of the whole Gateway.
    pub struct GatewayTlsConfig {
        backend: Option<GatewayBackendTls>,
        frontend: Option<FrontendTlsConfig>,
    }

    /// The Gateway's certificate towards backends.
    pub struct GatewayBackendTls {
        client_certificate_ref: Option<SecretReference>,
    }

    /// How clients' certificates are checked.
    #[schemars(extend("required" = ["default"]))]
    pub struct FrontendTlsConfig {
        default: Option<FrontendTls>,
        #[schemars(length(max = 64))]
        per_port: Vec<FrontendTlsPort>,
    }

    /// The same for one port.
    #[schemars(extend("required" = ["port", "tls"]))]
    pub struct FrontendTlsPort {
        #[schemars(range(min = 1, max = 65535))]
        port: u32,
        tls: Option<FrontendTls>,
    }

    /// How clients' certificates are checked.
    pub struct FrontendTls {
        validation: Option<FrontendTlsValidation>,
    }

    /// Which roots clients' certificates must have.
    #[schemars(extend("required" = ["caCertificateRefs"]))]
    pub struct FrontendTlsValidation {
        #[schemars(length(min = 1, max = 16))]
        ca_certificate_refs: Vec<ParametersReference>,
        mode: FrontendValidationMode,
    }

    /// gateway.networking.k8s.io ListenerSet: listeners added to a Gateway.
    #[schemars(extend("required" = ["spec"]))]
    pub struct ListenerSet {
        spec: ListenerSetSpec,
    }

    /// Which Gateway gets which listeners.
    #[schemars(extend("required" = ["parentRef", "listeners"]))]
    pub struct ListenerSetSpec {
        parent_ref: ListenerSetParent,
        #[schemars(length(min = 1, max = 64))]
        listeners: Vec<Listener>,
    }

    /// The Gateway that gets the listeners.
    #[schemars(extend("required" = ["name"]))]
    pub struct ListenerSetParent {
        group: Option<String>,
        /// Empty means Gateway.
        kind: String,
        name: String,
        namespace: String,
    }
}

api_enum! {
    /// Whether a listener ends TLS.
    pub enum ListenerTlsMode {
        #[default]
        Terminate = "Terminate",
        Passthrough = "Passthrough",
    }

    /// Namespaces whose routes are taken.
    pub enum RoutesFrom {
        #[default]
        Same = "Same",
        All = "All",
        Selector = "Selector",
        None = "None",
    }

    /// Namespaces whose ListenerSets are taken.
    pub enum ListenersFrom {
        #[default]
        None = "None",
        All = "All",
        Selector = "Selector",
        Same = "Same",
    }

    /// What becomes of a client whose certificate does not hold.
    pub enum FrontendValidationMode {
        #[default]
        AllowValidOnly = "AllowValidOnly",
        AllowInsecureFallback = "AllowInsecureFallback",
    }
}
