//! What analyzers look at: objects by kind and name, what is looked up often by an index that is made when first needed.

use std::cell::{Cell, OnceCell};
use std::collections::HashMap;

use crate::selector::Labels;
use crate::{Analyzer, Facts, Report, Store};
use config::mesh::{MeshConfig, MeshNetworks};
use config::{Kind, Object, ObjectKey, Spec, Status, extensions, kube, networking, security, telemetry};

/// A pod's object and body.
pub(crate) type Pod<'a> = (&'a Object, &'a kube::Pod);

/// Something that runs: a pod, or what a WorkloadEntry stands for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Workload<'a> {
    pub(crate) object: &'a Object,
    /// Of a WorkloadEntry those of its body; those of its metadata are stronger, as in `model`.
    own: &'a Labels,
    /// The pod's body, when it is one.
    pub(crate) pod: Option<&'a kube::Pod>,
}

impl<'a> Workload<'a> {
    fn of_pod((object, pod): Pod<'a>) -> Self {
        Self {
            object,
            own: &object.meta.labels,
            pod: Some(pod),
        }
    }

    fn of_entry((object, entry): (&'a Object, &'a networking::WorkloadEntry)) -> Self {
        Self {
            object,
            own: &entry.labels,
            pod: None,
        }
    }

    /// Whether it has all of these labels.
    pub(crate) fn has(&self, wanted: &Labels) -> bool {
        wanted.iter().all(|(key, value)| {
            let label = self.object.meta.labels.get(key).or_else(|| self.own.get(key));
            label == Some(value)
        })
    }

    fn labels(self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let more = self.pod.is_none().then_some(&self.object.meta.labels);
        self.own
            .iter()
            .chain(more.into_iter().flatten())
            .map(|(key, value)| (key.as_str(), value.as_str()))
    }
}

/// Workloads by each of their labels.
type Labelled<'a> = HashMap<(&'a str, &'a str), Vec<Workload<'a>>>;

/// What analyzers look at: the objects of a [`Store`] as they are at one time.
#[derive(Debug)]
pub struct Set<'a> {
    store: &'a Store,
    pods: OnceCell<Labelled<'a>>,
    entries: OnceCell<Labelled<'a>>,
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
    secret_facts = SecretFacts, SecretFacts(kube::SecretFacts);
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
            entries: OnceCell::new(),
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
    pub(crate) fn pods(&self, selector: &Labels, namespace: Option<&str>) -> Vec<Pod<'a>> {
        let all = || self.all_pods().map(Workload::of_pod);
        let found = selected(selector, namespace, &self.pods, all);
        found
            .filter_map(|workload| Some((workload.object, workload.pod?)))
            .collect()
    }

    /// Whether some pod has all of these labels.
    pub(crate) fn has_pod(&self, selector: &Labels) -> bool {
        let all = || self.all_pods().map(Workload::of_pod);
        selected(selector, None, &self.pods, all).next().is_some()
    }

    /// The workloads with all of these labels, likewise: pods first, then WorkloadEntries.
    pub(crate) fn workloads(&self, selector: &Labels, namespace: Option<&str>) -> Vec<Workload<'a>> {
        let pods = || self.all_pods().map(Workload::of_pod);
        let entries = || self.workload_entries().map(Workload::of_entry);
        selected(selector, namespace, &self.pods, pods)
            .chain(selected(selector, namespace, &self.entries, entries))
            .collect()
    }

    /// All workloads.
    pub(crate) fn all_workloads(&self) -> impl Iterator<Item = Workload<'a>> + use<'a> {
        let entries = self.workload_entries().map(Workload::of_entry);
        self.all_pods().map(Workload::of_pod).chain(entries)
    }
}

/// Workloads with all labels of a selector, found by one of them.
fn selected<'s, 'a, I: Iterator<Item = Workload<'a>> + 's>(
    selector: &'s Labels,
    namespace: Option<&'s str>,
    index: &'s OnceCell<Labelled<'a>>,
    all: impl Fn() -> I,
) -> impl Iterator<Item = Workload<'a>> + 's {
    // By the label that the fewest have.
    let by_label = selector
        .iter()
        .map(|(key, value)| {
            let index = index.get_or_init(|| by_label(all()));
            index.get(&(key.as_str(), value.as_str()))
        })
        .min_by_key(|found| found.map_or(0, Vec::len));
    let candidates = by_label.flatten().into_iter().flatten().copied();
    let everything = by_label.is_none().then(all).into_iter().flatten();
    candidates.chain(everything).filter(move |workload| {
        namespace.is_none_or(|namespace| workload.object.meta.namespace == namespace)
            && workload.has(selector)
    })
}

fn by_label<'a>(workloads: impl Iterator<Item = Workload<'a>>) -> Labelled<'a> {
    let mut index = Labelled::new();
    for workload in workloads {
        for label in workload.labels() {
            index.entry(label).or_default().push(workload);
        }
    }
    index
}
