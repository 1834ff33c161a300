//! The kinds that Argosy knows: their API groups, versions and names. One table, from which everything by kind is made.

use std::fmt;

/// Whether objects of a kind belong to a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Each object is in a namespace.
    Namespaced,
    /// Objects belong to the whole cluster.
    Cluster,
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident = $group:tt [$stored:literal $(, $version:literal)*] $name:literal $plural:literal $scope:ident;)*) => {
        /// A kind of object.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind { $($(#[$doc])* $variant,)* }

        impl Kind {
            /// All kinds, in the table's order.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The API group; empty for Kubernetes' core group.
            pub const fn group(self) -> &'static str {
                match self { $(Self::$variant => $group,)* }
            }

            /// The version in which objects of this kind travel in the feed and are stored.
            pub const fn stored_version(self) -> &'static str {
                match self { $(Self::$variant => $stored,)* }
            }

            /// The versions accepted, the stored one first. All have the same fields.
            pub const fn versions(self) -> &'static [&'static str] {
                match self { $(Self::$variant => &[$stored $(, $version)*],)* }
            }

            /// The kind's name as YAML writes it.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The plural, as in URLs of Kubernetes' API.
            pub const fn plural(self) -> &'static str {
                match self { $(Self::$variant => $plural,)* }
            }

            /// Whether objects of this kind have a namespace.
            pub const fn scope(self) -> Scope {
                match self { $(Self::$variant => Scope::$scope,)* }
            }

            /// The type URL in the feed: `GROUP/STOREDVERSION/KIND`, the core group written `core`.
            pub const fn type_url(self) -> &'static str {
                match self { $(Self::$variant => concat!(kinds!(@group $group), "/", $stored, "/", $name),)* }
            }
        }
    };
    (@group "") => { "core" };
    (@group $group:literal) => { $group };
}

kinds! {
    /// Traffic routing.
    VirtualService = "networking.istio.io" ["v1", "v1beta1", "v1alpha3"] "VirtualService" "virtualservices" Namespaced;
    /// Policies of a destination.
    DestinationRule = "networking.istio.io" ["v1", "v1beta1", "v1alpha3"] "DestinationRule" "destinationrules" Namespaced;
    /// Ports at the mesh's edge.
    Gateway = "networking.istio.io" ["v1", "v1beta1", "v1alpha3"] "Gateway" "gateways" Namespaced;
    /// Services that the platform does not know.
    ServiceEntry = "networking.istio.io" ["v1", "v1beta1", "v1alpha3"] "ServiceEntry" "serviceentries" Namespaced;
    /// An instance of a service.
    WorkloadEntry = "networking.istio.io" ["v1", "v1beta1", "v1alpha3"] "WorkloadEntry" "workloadentries" Namespaced;
    /// Template of WorkloadEntries.
    WorkloadGroup = "networking.istio.io" ["v1", "v1beta1", "v1alpha3"] "WorkloadGroup" "workloadgroups" Namespaced;
    /// What a proxy opens and reaches.
    Sidecar = "networking.istio.io" ["v1", "v1beta1", "v1alpha3"] "Sidecar" "sidecars" Namespaced;
    /// Patches of Envoy configuration.
    EnvoyFilter = "networking.istio.io" ["v1alpha3"] "EnvoyFilter" "envoyfilters" Namespaced;
    /// Settings of proxies.
    ProxyConfig = "networking.istio.io" ["v1beta1"] "ProxyConfig" "proxyconfigs" Namespaced;
    /// Access rules.
    AuthorizationPolicy = "security.istio.io" ["v1", "v1beta1"] "AuthorizationPolicy" "authorizationpolicies" Namespaced;
    /// Mutual TLS demanded.
    PeerAuthentication = "security.istio.io" ["v1", "v1beta1"] "PeerAuthentication" "peerauthentications" Namespaced;
    /// Tokens accepted.
    RequestAuthentication = "security.istio.io" ["v1", "v1beta1"] "RequestAuthentication" "requestauthentications" Namespaced;
    /// Traces, metrics, access logs.
    Telemetry = "telemetry.istio.io" ["v1", "v1alpha1"] "Telemetry" "telemetries" Namespaced;
    /// Wasm in the proxy.
    WasmPlugin = "extensions.istio.io" ["v1alpha1"] "WasmPlugin" "wasmplugins" Namespaced;
    /// Wasm or Lua in the proxy.
    TrafficExtension = "extensions.istio.io" ["v1alpha1"] "TrafficExtension" "trafficextensions" Namespaced;

    /// Mixer: when handlers are called.
    Rule = "config.istio.io" ["v1alpha2"] "rule" "rules" Namespaced;
    /// Mixer: an adapter with parameters.
    Handler = "config.istio.io" ["v1alpha2"] "handler" "handlers" Namespaced;
    /// Mixer: a template with expressions.
    Instance = "config.istio.io" ["v1alpha2"] "instance" "instances" Namespaced;
    /// Mixer: attributes and their types.
    AttributeManifest = "config.istio.io" ["v1alpha2"] "attributemanifest" "attributemanifests" Namespaced;
    /// Mixer: a template's descriptor.
    Template = "config.istio.io" ["v1alpha2"] "template" "templates" Namespaced;
    /// Mixer: an adapter outside the process.
    Adapter = "config.istio.io" ["v1alpha2"] "adapter" "adapters" Namespaced;
    /// Mixer: quotas charged.
    QuotaSpec = "config.istio.io" ["v1alpha2"] "QuotaSpec" "quotaspecs" Namespaced;
    /// Mixer: services that quotas are for.
    QuotaSpecBinding = "config.istio.io" ["v1alpha2"] "QuotaSpecBinding" "quotaspecbindings" Namespaced;
    /// Mixer: attributes by method and path.
    HttpApiSpec = "config.istio.io" ["v1alpha2"] "HTTPAPISpec" "httpapispecs" Namespaced;
    /// Mixer: services that HTTP API specifications are for.
    HttpApiSpecBinding = "config.istio.io" ["v1alpha2"] "HTTPAPISpecBinding" "httpapispecbindings" Namespaced;

    /// Mixer adapter as a kind of its own (Istio 1.1 to 1.4), as are the following.
    Bypass = "config.istio.io" ["v1alpha2"] "bypass" "bypasses" Namespaced;
    /// Mixer adapter.
    Circonus = "config.istio.io" ["v1alpha2"] "circonus" "circonuses" Namespaced;
    /// Mixer adapter.
    CloudWatch = "config.istio.io" ["v1alpha2"] "cloudwatch" "cloudwatches" Namespaced;
    /// Mixer adapter.
    Denier = "config.istio.io" ["v1alpha2"] "denier" "deniers" Namespaced;
    /// Mixer adapter.
    Dogstatsd = "config.istio.io" ["v1alpha2"] "dogstatsd" "dogstatsds" Namespaced;
    /// Mixer adapter.
    Fluentd = "config.istio.io" ["v1alpha2"] "fluentd" "fluentds" Namespaced;
    /// Mixer adapter.
    KubernetesEnv = "config.istio.io" ["v1alpha2"] "kubernetesenv" "kubernetesenvs" Namespaced;
    /// Mixer adapter.
    ListChecker = "config.istio.io" ["v1alpha2"] "listchecker" "listcheckers" Namespaced;
    /// Mixer adapter.
    MemQuota = "config.istio.io" ["v1alpha2"] "memquota" "memquotas" Namespaced;
    /// Mixer adapter.
    Noop = "config.istio.io" ["v1alpha2"] "noop" "noops" Namespaced;
    /// Mixer adapter.
    Opa = "config.istio.io" ["v1alpha2"] "opa" "opas" Namespaced;
    /// Mixer adapter.
    Prometheus = "config.istio.io" ["v1alpha2"] "prometheus" "prometheuses" Namespaced;
    /// Mixer adapter.
    Rbac = "config.istio.io" ["v1alpha2"] "rbac" "rbacs" Namespaced;
    /// Mixer adapter.
    RedisQuota = "config.istio.io" ["v1alpha2"] "redisquota" "redisquotas" Namespaced;
    /// Mixer adapter.
    ServiceControl = "config.istio.io" ["v1alpha2"] "servicecontrol" "servicecontrols" Namespaced;
    /// Mixer adapter.
    SignalFx = "config.istio.io" ["v1alpha2"] "signalfx" "signalfxs" Namespaced;
    /// Mixer adapter.
    SolarWinds = "config.istio.io" ["v1alpha2"] "solarwinds" "solarwindses" Namespaced;
    /// Mixer adapter.
    Stackdriver = "config.istio.io" ["v1alpha2"] "stackdriver" "stackdrivers" Namespaced;
    /// Mixer adapter.
    Statsd = "config.istio.io" ["v1alpha2"] "statsd" "statsds" Namespaced;
    /// Mixer adapter.
    Stdio = "config.istio.io" ["v1alpha2"] "stdio" "stdios" Namespaced;
    /// Mixer adapter.
    Zipkin = "config.istio.io" ["v1alpha2"] "zipkin" "zipkins" Namespaced;

    /// Mixer template as a kind of its own (Istio 1.1 to 1.4), as are the following.
    ApiKey = "config.istio.io" ["v1alpha2"] "apikey" "apikeys" Namespaced;
    /// Mixer template.
    Authorization = "config.istio.io" ["v1alpha2"] "authorization" "authorizations" Namespaced;
    /// Mixer template.
    CheckNothing = "config.istio.io" ["v1alpha2"] "checknothing" "checknothings" Namespaced;
    /// Mixer template.
    Edge = "config.istio.io" ["v1alpha2"] "edge" "edges" Namespaced;
    /// Mixer template.
    Kubernetes = "config.istio.io" ["v1alpha2"] "kubernetes" "kuberneteses" Namespaced;
    /// Mixer template.
    ListEntry = "config.istio.io" ["v1alpha2"] "listentry" "listentries" Namespaced;
    /// Mixer template.
    LogEntry = "config.istio.io" ["v1alpha2"] "logentry" "logentries" Namespaced;
    /// Mixer template.
    Metric = "config.istio.io" ["v1alpha2"] "metric" "metrics" Namespaced;
    /// Mixer template.
    Quota = "config.istio.io" ["v1alpha2"] "quota" "quotas" Namespaced;
    /// Mixer template.
    ReportNothing = "config.istio.io" ["v1alpha2"] "reportnothing" "reportnothings" Namespaced;
    /// Mixer template.
    ServiceControlReport = "config.istio.io" ["v1alpha2"] "servicecontrolreport" "servicecontrolreports" Namespaced;
    /// Mixer template.
    TraceSpan = "config.istio.io" ["v1alpha2"] "tracespan" "tracespans" Namespaced;

    /// Istio 1.4: authentication of a service's callers.
    Policy = "authentication.istio.io" ["v1alpha1"] "Policy" "policies" Namespaced;
    /// Istio 1.4: authentication in the whole mesh.
    MeshPolicy = "authentication.istio.io" ["v1alpha1"] "MeshPolicy" "meshpolicies" Cluster;
    /// Istio 1.4: what may be done.
    ServiceRole = "rbac.istio.io" ["v1alpha1"] "ServiceRole" "serviceroles" Namespaced;
    /// Istio 1.4: who may do it.
    ServiceRoleBinding = "rbac.istio.io" ["v1alpha1"] "ServiceRoleBinding" "servicerolebindings" Namespaced;
    /// Istio 1.4: where access is controlled.
    RbacConfig = "rbac.istio.io" ["v1alpha1"] "RbacConfig" "rbacconfigs" Namespaced;
    /// Istio 1.4: where access is controlled.
    ClusterRbacConfig = "rbac.istio.io" ["v1alpha1"] "ClusterRbacConfig" "clusterrbacconfigs" Cluster;

    /// The mesh's settings; in files `mesh.yaml`, without apiVersion and kind.
    MeshConfig = "mesh.istio.io" ["v1alpha1"] "MeshConfig" "meshconfigs" Namespaced;
    /// The mesh's networks.
    MeshNetworks = "mesh.istio.io" ["v1alpha1"] "MeshNetworks" "meshnetworks" Namespaced;

    /// Kubernetes' Service.
    Service = "" ["v1"] "Service" "services" Namespaced;
    /// Kubernetes' Namespace.
    Namespace = "" ["v1"] "Namespace" "namespaces" Cluster;
    /// Kubernetes' Pod.
    Pod = "" ["v1"] "Pod" "pods" Namespaced;
    /// Kubernetes' EndpointSlice.
    EndpointSlice = "discovery.k8s.io" ["v1"] "EndpointSlice" "endpointslices" Namespaced;
    /// Kubernetes' Node, whose labels say where its Pods are.
    Node = "" ["v1"] "Node" "nodes" Cluster;
    /// Kubernetes' Ingress.
    Ingress = "networking.k8s.io" ["v1"] "Ingress" "ingresses" Namespaced;
    /// Kubernetes' IngressClass.
    IngressClass = "networking.k8s.io" ["v1"] "IngressClass" "ingressclasses" Cluster;

    /// Kubernetes' ConfigMap; analysis reads the injector's.
    ConfigMap = "" ["v1"] "ConfigMap" "configmaps" Namespaced;
    /// Kubernetes' Secret, of which only what is public is kept.
    Secret = "" ["v1"] "Secret" "secrets" Namespaced;
    /// Kubernetes' Deployment; analysis reads it.
    Deployment = "apps" ["v1", "v1beta2", "v1beta1"] "Deployment" "deployments" Namespaced;
    /// Kubernetes' DaemonSet; analysis reads it.
    DaemonSet = "apps" ["v1", "v1beta2"] "DaemonSet" "daemonsets" Namespaced;
    /// Kubernetes' ServiceAccount; analysis reads it.
    ServiceAccount = "" ["v1"] "ServiceAccount" "serviceaccounts" Namespaced;
    /// What Citadel tells of a Secret without its keys; it exists in the feed alone.
    SecretFacts = "security.argosy.io" ["v1alpha1"] "SecretFacts" "secretfacts" Namespaced;
    /// Webhooks that change objects, among them the injector; analysis reads them.
    MutatingWebhookConfiguration = "admissionregistration.k8s.io" ["v1", "v1beta1"] "MutatingWebhookConfiguration" "mutatingwebhookconfigurations" Cluster;
    /// Webhooks that judge objects; analysis reads them.
    ValidatingWebhookConfiguration = "admissionregistration.k8s.io" ["v1", "v1beta1"] "ValidatingWebhookConfiguration" "validatingwebhookconfigurations" Cluster;
    /// Kinds that the cluster serves; analysis reads them.
    CustomResourceDefinition = "apiextensions.k8s.io" ["v1", "v1beta1"] "CustomResourceDefinition" "customresourcedefinitions" Cluster;

    /// Gateway API's Gateway; not served, analysis reads it.
    KubernetesGateway = "gateway.networking.k8s.io" ["v1", "v1beta1", "v1alpha2"] "Gateway" "gateways" Namespaced;
    /// Gateway API's HTTPRoute; not served, analysis reads it.
    KubernetesHttpRoute = "gateway.networking.k8s.io" ["v1", "v1beta1", "v1alpha2"] "HTTPRoute" "httproutes" Namespaced;
    /// Gateway API's GRPCRoute; not served, analysis reads it.
    KubernetesGrpcRoute = "gateway.networking.k8s.io" ["v1", "v1alpha2"] "GRPCRoute" "grpcroutes" Namespaced;
    /// Gateway API's GatewayClass; not served.
    GatewayClass = "gateway.networking.k8s.io" ["v1", "v1beta1"] "GatewayClass" "gatewayclasses" Cluster;
    /// Gateway API's TLSRoute; not served.
    KubernetesTlsRoute = "gateway.networking.k8s.io" ["v1", "v1alpha3", "v1alpha2"] "TLSRoute" "tlsroutes" Namespaced;
    /// Gateway API's TCPRoute; not served.
    KubernetesTcpRoute = "gateway.networking.k8s.io" ["v1", "v1alpha2"] "TCPRoute" "tcproutes" Namespaced;
    /// Gateway API's UDPRoute; not served.
    KubernetesUdpRoute = "gateway.networking.k8s.io" ["v1", "v1alpha2"] "UDPRoute" "udproutes" Namespaced;
    /// Gateway API's ReferenceGrant; not served.
    ReferenceGrant = "gateway.networking.k8s.io" ["v1", "v1beta1"] "ReferenceGrant" "referencegrants" Namespaced;
    /// Gateway API's BackendTLSPolicy; not served.
    BackendTlsPolicy = "gateway.networking.k8s.io" ["v1", "v1alpha3"] "BackendTLSPolicy" "backendtlspolicies" Namespaced;
    /// Gateway API's ListenerSet; not served.
    ListenerSet = "gateway.networking.k8s.io" ["v1"] "ListenerSet" "listenersets" Namespaced;
}

impl Kind {
    /// The kind of that group and name. The group is without version, empty for the core group.
    pub fn find(group: &str, name: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|kind| kind.as_str() == name && kind.group() == group)
    }

    /// The kind with that type URL in the feed.
    pub fn from_type_url(type_url: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.type_url() == type_url)
    }

    /// `group/version` of the stored version, as in `apiVersion`.
    pub fn api_version(self) -> String {
        match self.group() {
            "" => self.stored_version().to_owned(),
            group => format!("{group}/{}", self.stored_version()),
        }
    }

    /// Whether this is a Mixer adapter as a kind of its own; such objects hold a [`crate::Spec::Handler`].
    pub fn is_adapter(self) -> bool {
        (Self::Bypass..=Self::Zipkin).contains(&self)
    }

    /// Whether this is a Mixer template as a kind of its own; such objects hold a [`crate::Spec::Instance`].
    pub fn is_template(self) -> bool {
        (Self::ApiKey..=Self::TraceSpan).contains(&self)
    }

    /// Whether the kind is there for analysis alone: such objects do not leave Galley.
    pub fn is_for_analysis(self) -> bool {
        (Self::ConfigMap..=Self::ListenerSet).contains(&self)
    }

    /// The kinds that Galley distributes.
    pub fn distributed() -> impl Iterator<Item = Self> {
        Self::ALL.iter().copied().filter(|kind| !kind.is_for_analysis())
    }

    /// Whether this is one of Kubernetes' own kinds, of which the mesh reads only a part.
    pub fn is_kubernetes(self) -> bool {
        !self.group().ends_with(".istio.io")
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn type_urls() {
        assert_eq!(
            Kind::VirtualService.type_url(),
            "networking.istio.io/v1/VirtualService"
        );
        assert_eq!(Kind::Service.type_url(), "core/v1/Service");
        assert_eq!(Kind::MeshConfig.type_url(), "mesh.istio.io/v1alpha1/MeshConfig");
        assert_eq!(Kind::Rule.type_url(), "config.istio.io/v1alpha2/rule");
    }

    #[test]
    fn each_kind_is_found_by_its_names_alone() {
        for &kind in Kind::ALL {
            assert_eq!(Kind::find(kind.group(), kind.as_str()), Some(kind));
            assert_eq!(Kind::from_type_url(kind.type_url()), Some(kind));
        }
        assert_eq!(Kind::find("networking.istio.io", "Service"), None);
    }

    #[test]
    fn mixer_kinds_by_role() {
        let adapters: Vec<_> = Kind::ALL.iter().filter(|k| k.is_adapter()).collect();
        let templates: Vec<_> = Kind::ALL.iter().filter(|k| k.is_template()).collect();
        assert_eq!((adapters.len(), templates.len()), (21, 12));
        assert!(!Kind::Handler.is_adapter() && !Kind::Policy.is_template());
    }
}
