//! What became of rules across a mesh: at how many workloads each may apply, and where its parts are carried out there.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use config::ObjectKey;

use crate::compile::{Compiler, Part, Place};
use crate::partial::may_apply;
use crate::requirements::{Direction, Ports, Traffic};
use crate::rules::Rules;
use crate::workload::{ServiceView, WorkloadView};

/// Of one rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// Workloads to whose traffic it may apply. Instances that differ by name and address alone are one.
    pub workloads: usize,
    /// Its parts, each carried out so at this many of them.
    pub parts: BTreeMap<Part, usize>,
}

/// What instances of one workload have in common.
#[derive(PartialEq, Eq, Hash)]
struct Kin {
    principal: String,
    workload: String,
    labels: Arc<BTreeMap<String, String>>,
    services: Vec<(String, Vec<u16>)>,
}

impl Kin {
    fn of(view: &WorkloadView) -> Self {
        let service = |service: &ServiceView| (service.host.clone(), service.ports.clone());
        Self {
            principal: view.principal().to_owned(),
            workload: view.workload_name().to_owned(),
            labels: view.labels.clone(),
            services: view.services.iter().map(service).collect(),
        }
    }
}

impl Rules {
    /// Where the parts of each rule are carried out at these workloads; rules that can never apply to one of them have no parts.
    pub fn placements(
        &self,
        workloads: impl IntoIterator<Item = WorkloadView>,
    ) -> BTreeMap<ObjectKey, Placement> {
        let rules = self.root.iter().chain(self.by_namespace.values().flatten());
        let mut all: BTreeMap<ObjectKey, Placement> = rules
            .map(|rule| (rule.key.clone(), Placement::default()))
            .collect();
        let mut seen = HashSet::new();
        for view in workloads.into_iter().filter(|view| seen.insert(Kin::of(view))) {
            for (key, parts) in self.placed_at(&view) {
                let placement = all.entry(key).or_default();
                placement.workloads += 1;
                for part in parts {
                    *placement.parts.entry(part).or_default() += 1;
                }
            }
        }
        all
    }

    /// The parts of the rules at one workload, over all its traffic.
    fn placed_at(&self, view: &WorkloadView) -> BTreeMap<ObjectKey, BTreeSet<Part>> {
        let declared: BTreeSet<u16> = view
            .services
            .iter()
            .flat_map(|service| &service.ports)
            .copied()
            .collect();
        let mut all: BTreeMap<ObjectKey, BTreeSet<Part>> = BTreeMap::new();
        for ports in declared.into_iter().map(Ports::Only).chain([Ports::Undeclared]) {
            for tcp in [false, true] {
                let direction = Direction::Inbound;
                let traffic = Traffic { direction, tcp };
                let compiler = Compiler::new(self, view, traffic, ports);
                let rules = self.of(Some(&view.namespace));
                for rule in rules.filter(|rule| may_apply(self, &rule.condition, view, traffic, ports)) {
                    let parts = self.parts(rule, view, &compiler, tcp);
                    all.entry(rule.key.clone()).or_default().extend(parts);
                }
            }
        }
        all.values_mut().for_each(without_idle);
        all
    }
}

/// Leaves out where a part is not carried out, if it is elsewhere: connections have no headers, but requests to the same port do.
fn without_idle(parts: &mut BTreeSet<Part>) {
    let idle = |part: &Part| matches!(part.place, Place::Nowhere(_));
    let served: BTreeSet<String> = parts
        .iter()
        .filter(|part| !idle(part))
        .map(|part| part.what.clone())
        .collect();
    parts.retain(|part| !idle(part) || !served.contains(&part.what));
}
