//! What analyzers look at: objects by kind and name, what is looked up often by an index that is made when first needed.

use std::cell::{Cell, OnceCell, RefCell};

use crate::analyzer::Check;
use crate::ledger::Subject;
use crate::selector::Labels;
use crate::term::{Term, TermId};
use crate::{Analyzer, Facts, Report, Store};
use config::mesh::{MeshConfig, MeshNetworks};
use config::{Kind, Object, ObjectKey, Spec, Status, kube, networking, security};

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
    fn of(object: &'a Object) -> Option<Self> {
        let (own, pod) = match &object.spec {
            Spec::Pod(pod) => (&object.meta.labels, Some(&**pod)),
            Spec::WorkloadEntry(entry) => (&entry.labels, None),
            _ => return None,
        };
        Some(Self { object, own, pod })
    }

    /// Its labels; one may be told twice.
    pub(crate) fn labels(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let all = self.object.meta.labels.iter().chain(self.own);
        all.map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// Whether it has all of these labels.
    pub(crate) fn has(&self, wanted: &Labels) -> bool {
        wanted.iter().all(|(key, value)| {
            let label = self.object.meta.labels.get(key).or_else(|| self.own.get(key));
            label == Some(value)
        })
    }
}

/// What analyzers look at: the objects of a [`Store`] as they are at one time. It notes what they have looked at, beside the
/// object or the namespace that is being checked.
#[derive(Debug)]
pub struct Set<'a> {
    store: &'a Store,
    mesh: OnceCell<MeshConfig>,
    now: i64,
    /// What was looked at since the last [`Set::show`].
    seen: RefCell<Vec<TermId>>,
    /// The analyzer that is looking, which is held to the inputs that it has declared.
    reader: Cell<Option<Analyzer>>,
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
    envoy_filters = EnvoyFilter, EnvoyFilter(networking::EnvoyFilter);
    proxy_configs = ProxyConfig, ProxyConfig(networking::ProxyConfig);
    request_authentications = RequestAuthentication, RequestAuthentication(security::RequestAuthentication);
    mesh_configs = MeshConfig, MeshConfig(MeshConfig);
    mesh_networks = MeshNetworks, MeshNetworks(MeshNetworks);
    config_maps = ConfigMap, ConfigMap(kube::ConfigMap);
    secrets = Secret, Secret(kube::Secret);
    secret_facts = SecretFacts, SecretFacts(kube::SecretFacts);
    injectors = MutatingWebhookConfiguration, WebhookConfiguration(kube::WebhookConfiguration);
    definitions = CustomResourceDefinition, CustomResourceDefinition(kube::CustomResourceDefinition);
}

impl<'a> Set<'a> {
    /// What the store holds. `now` is in seconds since 1970.
    pub fn new(store: &'a Store, now: i64) -> Self {
        Self {
            store,
            mesh: OnceCell::new(),
            now,
            seen: RefCell::default(),
            reader: Cell::new(None),
        }
    }

    /// Lets an analyzer look at one subject, and gives the terms of what it has read. What it reads without having declared
    /// it is an error in it, which tests find.
    pub(crate) fn show(&self, analyzer: &Analyzer, subject: &Subject, report: &mut Report) -> Vec<TermId> {
        self.reader.set(Some(*analyzer));
        match (analyzer.check, subject) {
            (Check::Each(_, check), Subject::Object(key)) => {
                if let Some(object) = self.by_key(key) {
                    check(self, object, report);
                }
            }
            (Check::Namespace(_, check), Subject::Namespace(namespace)) => check(self, namespace, report),
            (Check::Mesh(check), Subject::Mesh) => check(self, report),
            _ => {}
        }
        self.reader.set(None);
        let mut seen = self.seen.take();
        seen.sort_unstable();
        seen.dedup();
        seen
    }

    /// What an analyzer has to look at, to look at everything.
    pub(crate) fn subjects(&self, analyzer: &Analyzer) -> Vec<Subject> {
        match analyzer.check {
            Check::Each(kinds, _) => {
                let objects = kinds.iter().flat_map(|kind| self.store.of(*kind));
                objects.map(|object| Subject::Object(object.key())).collect()
            }
            Check::Namespace(kind, _) => {
                let namespaces = self.store.namespaces(kind);
                namespaces
                    .map(|name| Subject::Namespace(name.to_owned()))
                    .collect()
            }
            Check::Mesh(_) => vec![Subject::Mesh],
        }
    }

    fn note(&self, term: Term<'_>) {
        self.seen.borrow_mut().push(term.id());
    }

    fn declared(&self, is_declared: impl Fn(&Analyzer) -> bool, what: &str) {
        debug_assert!(
            self.reader.get().is_none_or(|analyzer| is_declared(&analyzer)),
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
        self.note(Term::Kind(kind));
        self.store.of(kind)
    }

    /// The objects of a kind in a namespace, by name.
    pub(crate) fn of_namespace(
        &self,
        kind: Kind,
        namespace: &str,
    ) -> impl Iterator<Item = &'a Object> + use<'a> {
        self.reads(kind);
        self.note(Term::Namespace(kind, namespace));
        self.store.of_namespace(kind, namespace)
    }

    /// Names of the objects of a kind that belong to no namespace.
    pub(crate) fn names(&self, kind: Kind) -> impl Iterator<Item = &'a str> + use<'a> {
        self.reads(kind);
        self.note(Term::Names(kind));
        self.store.of(kind).map(|object| object.meta.name.as_str())
    }

    /// The objects of a kind that are found by a term, by namespace and name. There may be others among them: see
    /// [`TermId`].
    pub(crate) fn found(
        &self,
        kind: Kind,
        term: Term<'_>,
    ) -> impl DoubleEndedIterator<Item = &'a Object> + use<'a> {
        self.reads(kind);
        self.note(term);
        let found = self.store.found(term.id()).iter();
        found
            .map(|object| &**object)
            .filter(move |object| object.kind == kind)
    }

    /// One object.
    pub(crate) fn get(&self, kind: Kind, namespace: &str, name: &str) -> Option<&'a Object> {
        self.reads(kind);
        self.note(Term::Object(kind, namespace, name));
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

    /// What controllers have written about the object that is being checked.
    pub(crate) fn status(&self, object: &Object) -> Option<&'a Status> {
        self.reads(object.kind);
        self.store.status(&object.key())
    }

    /// The mesh's settings, defaults filled in: the MeshConfig named `istio`, or else any, or else the defaults.
    pub(crate) fn mesh(&self) -> &MeshConfig {
        self.note(Term::Kind(Kind::MeshConfig));
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
        self.note(Term::Clock);
        self.now
    }

    /// Facts about the cluster.
    pub(crate) fn facts(&self) -> &'a Facts {
        self.declared(|analyzer| analyzer.facts, "facts about the cluster");
        self.note(Term::Facts);
        self.store.facts()
    }

    /// The pods with all of these labels, of one namespace or of all. An empty selector selects all pods.
    pub(crate) fn pods<'s>(
        &'s self,
        selector: &'s Labels,
        namespace: Option<&'s str>,
    ) -> impl Iterator<Item = Pod<'a>> + 's {
        let pods = self.selected(Kind::Pod, selector, namespace);
        pods.filter_map(|workload| Some((workload.object, workload.pod?)))
    }

    /// The workloads with all of these labels, likewise: pods first, then WorkloadEntries.
    pub(crate) fn workloads<'s>(
        &'s self,
        selector: &'s Labels,
        namespace: Option<&'s str>,
    ) -> impl Iterator<Item = Workload<'a>> + 's {
        let kinds = [Kind::Pod, Kind::WorkloadEntry].into_iter();
        kinds.flat_map(move |kind| self.selected(kind, selector, namespace))
    }

    /// The WorkloadEntries that have one of these labels, in their body or their metadata; all when there is none.
    pub(crate) fn workload_entries_of<'s>(
        &'s self,
        wanted: &'s Labels,
    ) -> impl Iterator<Item = &'a networking::WorkloadEntry> + 's {
        let candidates: Box<dyn Iterator<Item = &'a Object>> = match self.fewest(wanted) {
            Some(term) => Box::new(self.found(Kind::WorkloadEntry, term)),
            None => Box::new(self.of(Kind::WorkloadEntry)),
        };
        candidates.filter_map(|object| match &object.spec {
            Spec::WorkloadEntry(entry) => Some(&**entry),
            _ => None,
        })
    }

    /// That label of a selector that the fewest workloads have.
    fn fewest<'s>(&self, selector: &'s Labels) -> Option<Term<'s>> {
        let terms = selector.iter().map(|(key, value)| Term::Label(key, value));
        terms.min_by_key(|term| self.store.found(term.id()).len())
    }

    /// Workloads of a kind with all labels of a selector, looked for among those with that one of them that the fewest have.
    fn selected<'s>(
        &'s self,
        kind: Kind,
        selector: &'s Labels,
        namespace: Option<&'s str>,
    ) -> Box<dyn Iterator<Item = Workload<'a>> + 's> {
        let candidates: Box<dyn Iterator<Item = &'a Object> + 's> = match (self.fewest(selector), namespace) {
            (Some(term), _) => Box::new(self.found(kind, term)),
            (None, Some(namespace)) => Box::new(self.of_namespace(kind, namespace)),
            (None, None) => Box::new(self.of(kind)),
        };
        Box::new(candidates.filter_map(Workload::of).filter(move |workload| {
            namespace.is_none_or(|namespace| workload.object.meta.namespace == namespace)
                && workload.has(selector)
        }))
    }

    /// The Services of a namespace whose selectors these labels fulfil, by name. One with an empty selector is none of them.
    pub(crate) fn services_of<'l>(
        &self,
        namespace: &str,
        labels: impl Iterator<Item = (&'l str, &'l str)>,
        fulfils: impl Fn(&Labels) -> bool,
    ) -> Vec<(&'a Object, &'a kube::Service)> {
        let found = labels.flat_map(|(key, value)| self.found(Kind::Service, Term::Selector(key, value)));
        let near = found.filter(|object| object.meta.namespace == namespace);
        let mut services: Vec<_> = near
            .filter_map(|object| match &object.spec {
                Spec::Service(service) if fulfils(&service.spec.selector) => Some((object, &**service)),
                _ => None,
            })
            .collect();
        services.sort_by(|(a, _), (b, _)| a.meta.name.cmp(&b.meta.name));
        services.dedup_by(|(a, _), (b, _)| a.meta.name == b.meta.name);
        services
    }
}
