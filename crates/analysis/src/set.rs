//! The objects that are analysed, by kind and name, with what is looked up often kept by index.

use std::collections::{BTreeMap, HashMap};

use config::mesh::{MeshConfig, MeshNetworks};
use config::{Kind, Object, ObjectKey, Spec, Status, extensions, kube, networking, security, telemetry};
use model::selects;

/// Namespaces of Kubernetes itself, whose objects are not analysed (Istio, pkg/kube/inject).
const IGNORED_NAMESPACES: &[&str] = &[
    "kube-system",
    "kube-public",
    "kube-node-lease",
    "local-path-storage",
];

/// A pod's object and body.
pub(crate) type Pod<'a> = (&'a Object, &'a kube::Pod);

/// A set of objects to analyse.
#[derive(Debug)]
pub struct Set<'a> {
    objects: BTreeMap<Kind, BTreeMap<(&'a str, &'a str), &'a Object>>,
    statuses: &'a BTreeMap<ObjectKey, Status>,
    pods: HashMap<(&'a str, &'a str), Vec<Pod<'a>>>,
    mesh: MeshConfig,
    now: i64,
}

macro_rules! typed {
    ($($(#[$doc:meta])* $method:ident = $kind:ident, $variant:ident($type:ty);)*) => {
        impl<'a> Set<'a> {$(
            $(#[$doc])*
            pub(crate) fn $method(&self) -> impl Iterator<Item = (&'a Object, &'a $type)> {
                self.of(Kind::$kind).filter_map(|object| match &object.spec {
                    Spec::$variant(spec) => Some((object, &**spec)),
                    _ => None,
                })
            }
        )*}
    };
}

typed! {
    virtual_services = VirtualService, VirtualService(networking::VirtualService);
    destination_rules = DestinationRule, DestinationRule(networking::DestinationRule);
    gateways = Gateway, Gateway(networking::Gateway);
    service_entries = ServiceEntry, ServiceEntry(networking::ServiceEntry);
    workload_entries = WorkloadEntry, WorkloadEntry(networking::WorkloadEntry);
    sidecars = Sidecar, Sidecar(networking::Sidecar);
    envoy_filters = EnvoyFilter, EnvoyFilter(networking::EnvoyFilter);
    proxy_configs = ProxyConfig, ProxyConfig(networking::ProxyConfig);
    authorization_policies = AuthorizationPolicy, AuthorizationPolicy(security::AuthorizationPolicy);
    request_authentications = RequestAuthentication, RequestAuthentication(security::RequestAuthentication);
    telemetries = Telemetry, Telemetry(telemetry::Telemetry);
    wasm_plugins = WasmPlugin, WasmPlugin(extensions::WasmPlugin);
    mesh_configs = MeshConfig, MeshConfig(MeshConfig);
    mesh_networks = MeshNetworks, MeshNetworks(MeshNetworks);
    services = Service, Service(kube::Service);
    all_pods = Pod, Pod(kube::Pod);
    config_maps = ConfigMap, ConfigMap(kube::ConfigMap);
    secrets = Secret, Secret(kube::Secret);
    deployments = Deployment, Deployment(kube::Deployment);
    injectors = MutatingWebhookConfiguration, WebhookConfiguration(kube::WebhookConfiguration);
    validators = ValidatingWebhookConfiguration, WebhookConfiguration(kube::WebhookConfiguration);
    definitions = CustomResourceDefinition, CustomResourceDefinition(kube::CustomResourceDefinition);
}

impl<'a> Set<'a> {
    /// The set of `objects`, of which a later one replaces an earlier one of the same key. Objects of Kubernetes' own
    /// namespaces are left out. `now` is in seconds since 1970.
    pub fn new(
        objects: impl IntoIterator<Item = &'a Object>,
        statuses: &'a BTreeMap<ObjectKey, Status>,
        now: i64,
    ) -> Self {
        let mut set = Self {
            objects: BTreeMap::new(),
            statuses,
            pods: HashMap::new(),
            mesh: MeshConfig::default(),
            now,
        };
        for object in objects.into_iter().filter(|object| !is_ignored(object)) {
            let name = (object.meta.namespace.as_str(), object.meta.name.as_str());
            set.objects.entry(object.kind).or_default().insert(name, object);
        }
        set.mesh = set.mesh_config();
        set.pods = by_label(set.all_pods());
        set
    }

    /// The mesh's settings: the MeshConfig named `istio`, or else any, or else the defaults.
    fn mesh_config(&self) -> MeshConfig {
        let mut all: Vec<_> = self.mesh_configs().collect();
        all.sort_by_key(|(object, _)| object.meta.name == "istio");
        let given = all.last().map(|(_, mesh)| (*mesh).clone());
        given.unwrap_or_default().with_defaults()
    }

    /// The objects of a kind, by namespace and name.
    pub(crate) fn of(&self, kind: Kind) -> impl Iterator<Item = &'a Object> {
        self.objects
            .get(&kind)
            .into_iter()
            .flat_map(|objects| objects.values().copied())
    }

    /// One object.
    pub(crate) fn get(&self, kind: Kind, namespace: &str, name: &str) -> Option<&'a Object> {
        self.objects.get(&kind)?.get(&(namespace, name)).copied()
    }

    /// The object with that key.
    pub(crate) fn by_key(&self, key: &ObjectKey) -> Option<&'a Object> {
        self.get(key.kind, &key.namespace, &key.name)
    }

    /// The Namespace object; the empty name means `default`.
    pub(crate) fn namespace(&self, name: &str) -> Option<&'a Object> {
        self.get(
            Kind::Namespace,
            "",
            if name.is_empty() { "default" } else { name },
        )
    }

    /// What controllers have written about an object.
    pub(crate) fn status(&self, object: &Object) -> Option<&'a Status> {
        self.statuses.get(&object.key())
    }

    /// The mesh's settings, defaults filled in.
    pub(crate) fn mesh(&self) -> &MeshConfig {
        &self.mesh
    }

    /// Seconds since 1970.
    pub(crate) fn now(&self) -> i64 {
        self.now
    }

    /// The pods with all of these labels, of one namespace or of all. An empty selector selects all pods.
    pub(crate) fn pods(&self, selector: &BTreeMap<String, String>, namespace: Option<&str>) -> Vec<Pod<'a>> {
        let fits = |object: &Object| {
            namespace.is_none_or(|namespace| object.meta.namespace == namespace)
                && selects(selector, &object.meta.labels)
        };
        let Some((key, value)) = selector.iter().next() else {
            return self.all_pods().filter(|(object, _)| fits(object)).collect();
        };
        let candidates = self.pods.get(&(key.as_str(), value.as_str()));
        candidates
            .into_iter()
            .flatten()
            .filter(|(object, _)| fits(object))
            .copied()
            .collect()
    }
}

fn is_ignored(object: &Object) -> bool {
    let namespace = match object.kind {
        Kind::Namespace => &object.meta.name,
        _ => &object.meta.namespace,
    };
    IGNORED_NAMESPACES.contains(&namespace.as_str())
}

fn by_label<'a>(pods: impl Iterator<Item = Pod<'a>>) -> HashMap<(&'a str, &'a str), Vec<Pod<'a>>> {
    let mut index: HashMap<_, Vec<Pod<'a>>> = HashMap::new();
    for pod in pods {
        for (key, value) in &pod.0.meta.labels {
            index.entry((key.as_str(), value.as_str())).or_default().push(pod);
        }
    }
    index
}
