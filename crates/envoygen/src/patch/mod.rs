//! EnvoyFilter: patches that users write for generated configuration. Each is read once for a snapshot; one that cannot be read
//! is reported and left out, and the others stay. Which patches are for a proxy is part of its scope ([`PatchId`]); they are
//! applied to encoded resources, and only those that one is about are decoded.
//!
//! Order and conditions are Istio's ("EnvoyFilter"): ascending priority, those of the root namespace first, then the oldest.

mod cluster;
mod compile;
mod condition;
mod list;
mod listener;
mod route;
mod run;

use std::collections::{BTreeMap, HashMap};

use config::networking::PatchContext;
use config::{Finding, Kind, ObjectKey, Spec};
use model::Snapshot;

use self::compile::Compiled;
pub(crate) use self::run::{Place, apply};
use crate::proxy::Proxy;
use crate::selected::GATEWAY_NAME;

/// One patch of an EnvoyFilter.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PatchId {
    /// The EnvoyFilter.
    pub object: ObjectKey,
    /// Its place in `spec.configPatches`.
    pub index: usize,
}

/// An EnvoyFilter with those of its patches that can be used.
#[derive(Debug)]
struct Filter {
    key: ObjectKey,
    /// Labels of the workloads; all if empty.
    selector: BTreeMap<String, String>,
    /// Kubernetes Gateways; all proxies if empty.
    gateways: Option<Vec<String>>,
    patches: Vec<Compiled>,
}

/// All patches of a snapshot.
#[derive(Debug, Default)]
pub(crate) struct Patches {
    /// In the order of application.
    filters: Vec<Filter>,
    by_id: HashMap<PatchId, (usize, usize)>,
    root: String,
    /// Patches that cannot be used, and why.
    pub(crate) findings: Vec<Finding>,
}

impl Patches {
    pub(crate) fn new(snapshot: &Snapshot) -> Patches {
        let mut out = Patches {
            root: snapshot.root_namespace().to_owned(),
            ..Patches::default()
        };
        let mut sorted = Vec::new();
        for object in snapshot.of_kind(Kind::EnvoyFilter) {
            let Spec::EnvoyFilter(spec) = &object.spec else {
                continue;
            };
            let key = object.key();
            let created = object.meta.created;
            let order = (
                spec.priority,
                key.namespace != out.root,
                created.is_none(),
                created,
            );
            let filter = Filter {
                selector: compile::selector(spec),
                gateways: compile::gateways(spec, &key, &mut out.findings),
                patches: compile::patches(spec, &key, &mut out.findings),
                key,
            };
            sorted.push((order, filter));
        }
        sorted.sort_by(|(a, first), (b, second)| {
            let name = |filter: &Filter| (filter.key.name.clone(), filter.key.namespace.clone());
            a.cmp(b).then_with(|| name(first).cmp(&name(second)))
        });
        out.filters = sorted.into_iter().map(|(_, filter)| filter).collect();
        for (at, filter) in out.filters.iter().enumerate() {
            let ids = filter.patches.iter().enumerate();
            out.by_id
                .extend(ids.map(|(within, patch)| (patch.id.clone(), (at, within))));
        }
        out
    }

    /// The patches for a proxy's configuration of one direction, in order.
    pub(crate) fn of(
        &self,
        proxy: &Proxy,
        labels: &BTreeMap<String, String>,
        context: PatchContext,
    ) -> Vec<PatchId> {
        let filters = self
            .filters
            .iter()
            .filter(|filter| self.selects(filter, proxy, labels));
        let patches = filters.flat_map(|filter| &filter.patches);
        patches
            .filter(|patch| patch.is_for(context) && patch.proxy.matches(proxy))
            .map(|patch| patch.id.clone())
            .collect()
    }

    fn selects(&self, filter: &Filter, proxy: &Proxy, labels: &BTreeMap<String, String>) -> bool {
        let own = filter.key.namespace == proxy.namespace;
        let gateway =
            |names: &Vec<String>| own && labels.get(GATEWAY_NAME).is_some_and(|name| names.contains(name));
        (own || filter.key.namespace == self.root)
            && model::selects(&filter.selector, labels)
            && filter.gateways.as_ref().is_none_or(gateway)
    }

    /// Patches by their ids.
    fn get(&self, ids: &[PatchId]) -> Vec<&Compiled> {
        let found = ids.iter().filter_map(|id| self.by_id.get(id));
        found
            .filter_map(|(at, within)| self.filters.get(*at)?.patches.get(*within))
            .collect()
    }
}
