//! What analyzers look at: objects by kind and name, what is looked up often by an index that is made when first needed.

use std::cell::{Cell, OnceCell};
use std::collections::{BTreeMap, HashMap};

use config::mesh::{MeshConfig, MeshNetworks};
use config::{Kind, Object, ObjectKey, Spec, Status, extensions, kube, networking, security, telemetry};
use model::selects;

use crate::{Analyzer, Facts, Report, Store};

/// A pod's object and body.
pub(crate) type Pod<'a> = (&'a Object, &'a kube::Pod);

/// Pods by each of their labels.
type Labelled<'a> = HashMap<(&'a str, &'a str), Vec<Pod<'a>>>;

/// What analyzers look at: the objects of a [`Store`] as they are at one time.
#[derive(Debug)]
pub struct Set<'a> {
    store: &'a Store,
    pods: OnceCell<Labelled<'a>>,
    mesh: OnceCell<MeshConfig>,
    now: i64,
    /// The analyzer that is looking, which is held to the inputs that it has declared.
    reader: Cell<Option<&'static Analyzer>>,
}

macro_rules! typed {
    ($($(#[$doc:meta])* $method:ident = $kind:ident, $variant:ident($type:ty);)*) => {
        impl<'a> Set<'a> {$(
            $(#[$doc])*
            pub(crate) fn $method(&self) -> impl Iterator<Item = (&'a Object, &'a $type)> + use<'a> {
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
    /// What the store holds. `now` is in seconds since 1970.
    pub fn new(store: &'a Store, now: i64) -> Self {
        Self {
            store,
            pods: OnceCell::new(),
            mesh: OnceCell::new(),
            now,
            reader: Cell::new(None),
        }
    }

    /// Lets an analyzer look at the set. What it reads without having declared it is an error in it, which tests find.
    pub(crate) fn show(&self, analyzer: &Analyzer, report: &mut Report) {
        self.reader.set(crate::find(analyzer.name));
        (analyzer.run)(self, report);
        self.reader.set(None);
    }

    fn declared(&self, is_declared: impl Fn(&Analyzer) -> bool, what: &str) {
        debug_assert!(
            self.reader.get().is_none_or(is_declared),
            "{:?} reads {what} without having declared it",
            self.reader.get().map(|analyzer| analyzer.name),
        );
    }

    fn reads(&self, kind: Kind) {
        self.declared(|analyzer| analyzer.inputs.contains(&kind), kind.as_str());
    }

    /// The objects of a kind, by namespace and name.
    pub(crate) fn of(&self, kind: Kind) -> impl Iterator<Item = &'a Object> + use<'a> {
        self.reads(kind);
        self.store.of(kind)
    }

    /// One object.
    pub(crate) fn get(&self, kind: Kind, namespace: &str, name: &str) -> Option<&'a Object> {
        self.reads(kind);
        self.store.get(kind, namespace, name)
    }

    /// The object with that key.
    pub(crate) fn by_key(&self, key: &ObjectKey) -> Option<&'a Object> {
        self.store.get(key.kind, &key.namespace, &key.name)
    }

    /// The Namespace object; the empty name means `default`.
    pub(crate) fn namespace(&self, name: &str) -> Option<&'a Object> {
        let name = if name.is_empty() { "default" } else { name };
        self.get(Kind::Namespace, "", name)
    }

    /// What controllers have written about an object.
    pub(crate) fn status(&self, object: &Object) -> Option<&'a Status> {
        self.reads(object.kind);
        self.store.status(&object.key())
    }

    /// The mesh's settings, defaults filled in: the MeshConfig named `istio`, or else any, or else the defaults.
    pub(crate) fn mesh(&self) -> &MeshConfig {
        self.reads(Kind::MeshConfig);
        self.mesh.get_or_init(|| {
            let mut all: Vec<_> = self.mesh_configs().collect();
            all.sort_by_key(|(object, _)| object.meta.name == "istio");
            let given = all.last().map(|(_, mesh)| (*mesh).clone());
            given.unwrap_or_default().with_defaults()
        })
    }

    /// Seconds since 1970.
    pub(crate) fn now(&self) -> i64 {
        self.declared(|analyzer| analyzer.clock, "the time");
        self.now
    }

    /// Facts about the cluster.
    pub(crate) fn facts(&self) -> &'a Facts {
        self.declared(|analyzer| analyzer.facts, "facts about the cluster");
        self.store.facts()
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
        let index = self.pods.get_or_init(|| by_label(self.all_pods()));
        let candidates = index.get(&(key.as_str(), value.as_str()));
        candidates
            .into_iter()
            .flatten()
            .filter(|(object, _)| fits(object))
            .copied()
            .collect()
    }
}

fn by_label<'a>(pods: impl Iterator<Item = Pod<'a>>) -> Labelled<'a> {
    let mut index = Labelled::new();
    for pod in pods {
        for (key, value) in &pod.0.meta.labels {
            index.entry((key.as_str(), value.as_str())).or_default().push(pod);
        }
    }
    index
}
