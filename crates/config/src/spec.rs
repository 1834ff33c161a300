//! The typed body of an object, for each kind, and its JSON form. One table says which type a kind's body has.

use serde_json::{Map, Value};

use crate::kind::Kind;
use crate::kube::gateway_api;
use crate::mixer::Params;
use crate::{extensions, kube, legacy, mesh, mixer, networking, security, telemetry};

macro_rules! specs {
    ($($(#[$doc:meta])* $variant:ident($type:ty) = $($kind:ident)|+;)*) => {
        /// The typed body of an object. Most kinds have a variant of their own; MeshPolicy holds a `Policy`,
        /// ClusterRbacConfig an `RbacConfig`, and Mixer's adapters and templates that are kinds of their own
        /// (`kind: denier`, `kind: metric`) hold a `Handler` or an `Instance`.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Spec { $($(#[$doc])* $variant(Box<$type>),)* }

        impl Spec {
            fn typed(kind: Kind, value: Value) -> Result<Self, serde_path_to_error::Error<serde_json::Error>> {
                match kind {
                    $($(Kind::$kind)|+ => serde_path_to_error::deserialize(value).map(|spec| Self::$variant(Box::new(spec))),)*
                    kind if kind.is_adapter() => Ok(Self::Handler(Box::new(mixer::Handler {
                        compiled_adapter: kind.as_str().to_owned(), params: params(value), ..mixer::Handler::default()
                    }))),
                    kind => Ok(Self::Instance(Box::new(mixer::Instance {
                        compiled_template: kind.as_str().to_owned(), params: params(value), ..mixer::Instance::default()
                    }))),
                }
            }

            fn untyped(&self) -> serde_json::Result<Value> {
                match self { $(Self::$variant(spec) => serde_json::to_value(spec),)* }
            }

            /// The JSON schema of a kind's body; free-form for Mixer's adapters and templates that are kinds of their own.
            pub fn schema(kind: Kind) -> schemars::Schema {
                match kind {
                    $($(Kind::$kind)|+ => schemars::schema_for!($type),)*
                    _ => schemars::schema_for!(Params),
                }
            }
        }

        $(impl From<$type> for Spec {
            fn from(spec: $type) -> Self {
                Self::$variant(Box::new(spec))
            }
        })*
    };
}

specs! {
    /// networking.istio.io.
    VirtualService(networking::VirtualService) = VirtualService;
    /// networking.istio.io.
    DestinationRule(networking::DestinationRule) = DestinationRule;
    /// networking.istio.io.
    Gateway(networking::Gateway) = Gateway;
    /// networking.istio.io.
    ServiceEntry(networking::ServiceEntry) = ServiceEntry;
    /// networking.istio.io.
    WorkloadEntry(networking::WorkloadEntry) = WorkloadEntry;
    /// networking.istio.io.
    WorkloadGroup(networking::WorkloadGroup) = WorkloadGroup;
    /// networking.istio.io.
    Sidecar(networking::Sidecar) = Sidecar;
    /// networking.istio.io.
    EnvoyFilter(networking::EnvoyFilter) = EnvoyFilter;
    /// networking.istio.io.
    ProxyConfig(networking::ProxyConfig) = ProxyConfig;
    /// security.istio.io.
    AuthorizationPolicy(security::AuthorizationPolicy) = AuthorizationPolicy;
    /// security.istio.io.
    PeerAuthentication(security::PeerAuthentication) = PeerAuthentication;
    /// security.istio.io.
    RequestAuthentication(security::RequestAuthentication) = RequestAuthentication;
    /// telemetry.istio.io.
    Telemetry(telemetry::Telemetry) = Telemetry;
    /// extensions.istio.io.
    WasmPlugin(extensions::WasmPlugin) = WasmPlugin;
    /// extensions.istio.io.
    TrafficExtension(extensions::TrafficExtension) = TrafficExtension;
    /// config.istio.io.
    Rule(mixer::Rule) = Rule;
    /// config.istio.io, and the adapters that are kinds of their own.
    Handler(mixer::Handler) = Handler;
    /// config.istio.io, and the templates that are kinds of their own.
    Instance(mixer::Instance) = Instance;
    /// config.istio.io.
    AttributeManifest(mixer::AttributeManifest) = AttributeManifest;
    /// config.istio.io.
    Template(mixer::Template) = Template;
    /// config.istio.io.
    Adapter(mixer::Adapter) = Adapter;
    /// config.istio.io.
    QuotaSpec(mixer::QuotaSpec) = QuotaSpec;
    /// config.istio.io.
    QuotaSpecBinding(mixer::QuotaSpecBinding) = QuotaSpecBinding;
    /// config.istio.io.
    HttpApiSpec(mixer::HttpApiSpec) = HttpApiSpec;
    /// config.istio.io.
    HttpApiSpecBinding(mixer::HttpApiSpecBinding) = HttpApiSpecBinding;
    /// authentication.istio.io.
    Policy(legacy::Policy) = Policy | MeshPolicy;
    /// rbac.istio.io.
    ServiceRole(legacy::ServiceRole) = ServiceRole;
    /// rbac.istio.io.
    ServiceRoleBinding(legacy::ServiceRoleBinding) = ServiceRoleBinding;
    /// rbac.istio.io.
    RbacConfig(legacy::RbacConfig) = RbacConfig | ClusterRbacConfig;
    /// The mesh's settings.
    MeshConfig(mesh::MeshConfig) = MeshConfig;
    /// The mesh's networks.
    MeshNetworks(mesh::MeshNetworks) = MeshNetworks;
    /// Kubernetes.
    Service(kube::Service) = Service;
    /// Kubernetes.
    Namespace(kube::Namespace) = Namespace;
    /// Kubernetes.
    Pod(kube::Pod) = Pod;
    /// Kubernetes.
    EndpointSlice(kube::EndpointSlice) = EndpointSlice;
    /// Kubernetes.
    Node(kube::Node) = Node;
    /// Kubernetes.
    Ingress(kube::Ingress) = Ingress;
    /// Kubernetes.
    IngressClass(kube::IngressClass) = IngressClass;
    /// Kubernetes.
    ConfigMap(kube::ConfigMap) = ConfigMap;
    /// Kubernetes.
    Secret(kube::Secret) = Secret;
    /// Kubernetes.
    Deployment(kube::Deployment) = Deployment;
    /// Kubernetes.
    DaemonSet(kube::DaemonSet) = DaemonSet;
    /// Kubernetes.
    ServiceAccount(kube::ServiceAccount) = ServiceAccount;
    /// What Citadel tells of a Secret.
    SecretFacts(kube::SecretFacts) = SecretFacts;
    /// Kubernetes; both kinds have the same fields, as far as they are read.
    WebhookConfiguration(kube::WebhookConfiguration) = MutatingWebhookConfiguration | ValidatingWebhookConfiguration;
    /// Kubernetes.
    CustomResourceDefinition(kube::CustomResourceDefinition) = CustomResourceDefinition;
    /// Gateway API.
    KubernetesGateway(gateway_api::KubernetesGateway) = KubernetesGateway;
    /// Gateway API.
    KubernetesHttpRoute(gateway_api::KubernetesHttpRoute) = KubernetesHttpRoute;
    /// Gateway API.
    KubernetesGrpcRoute(gateway_api::KubernetesGrpcRoute) = KubernetesGrpcRoute;
    /// Gateway API; the three kinds have the same fields, but that only TLSRoute has `hostnames`.
    KubernetesL4Route(gateway_api::KubernetesL4Route) = KubernetesTlsRoute | KubernetesTcpRoute | KubernetesUdpRoute;
    /// Gateway API.
    GatewayClass(gateway_api::GatewayClass) = GatewayClass;
    /// Gateway API.
    ReferenceGrant(gateway_api::ReferenceGrant) = ReferenceGrant;
    /// Gateway API.
    BackendTlsPolicy(gateway_api::BackendTlsPolicy) = BackendTlsPolicy;
    /// Gateway API.
    ListenerSet(gateway_api::ListenerSet) = ListenerSet;
}

/// Parameters of an adapter or template that is a kind of its own.
fn params(value: Value) -> Params {
    match value {
        Value::Object(map) => map,
        _ => Params::default(),
    }
}

impl Kind {
    /// Whether the typed fields are under `spec`, as with Istio's kinds, or beside `metadata`, as with Kubernetes' own.
    pub(crate) fn under_spec(self) -> bool {
        !self.is_kubernetes()
    }
}

impl Spec {
    /// The body of an object of `kind` from JSON that has the kind's structure: the content of `spec` for Istio's
    /// kinds, the whole object for Kubernetes' own.
    pub(crate) fn from_value(
        kind: Kind,
        value: Value,
    ) -> Result<Self, serde_path_to_error::Error<serde_json::Error>> {
        Self::typed(kind, value)
    }

    /// The JSON object that [`Self::from_value`] read, defaults left out, put under `spec` where the kind has one.
    pub(crate) fn to_body(&self, kind: Kind) -> serde_json::Result<Map<String, Value>> {
        let value = match self {
            Self::Handler(handler) if kind.is_adapter() => Value::Object(handler.params.clone()),
            Self::Instance(instance) if kind.is_template() => Value::Object(instance.params.clone()),
            spec => spec.untyped()?,
        };
        Ok(match value {
            value if kind.under_spec() => Map::from_iter([("spec".to_owned(), value)]),
            Value::Object(map) => map,
            _ => Map::new(),
        })
    }
}
