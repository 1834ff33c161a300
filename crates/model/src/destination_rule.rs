//! DestinationRules and their lookup: by the client's namespace, then the service's, then the root namespace, the most
//! specific host first (Istio, "DestinationRule", and its code's lookup order).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use config::networking::{self as api, Subset, TrafficPolicy};
use config::{Object, ObjectKey};
use imbl::OrdMap;

use crate::export::{ExportTo, selects};
use crate::host;

/// A DestinationRule, or several of one host and namespace as one.
#[derive(Debug, Clone, PartialEq)]
pub struct DestinationRule {
    /// The objects it was made of, oldest first.
    pub origins: Vec<ObjectKey>,
    /// Host in full, perhaps with a wildcard.
    pub host: String,
    /// Who sees it.
    pub export_to: ExportTo,
    /// Clients it is for; all if `None`.
    pub selector: Option<BTreeMap<String, String>>,
    /// Policy for the whole host.
    pub traffic_policy: Option<TrafficPolicy>,
    /// Subsets, each name once.
    pub subsets: Vec<Subset>,
}

impl DestinationRule {
    pub(crate) fn new(
        object: &Object,
        spec: &api::DestinationRule,
        default_export: &[String],
        domain: &str,
    ) -> DestinationRule {
        let namespace = object.meta.namespace.as_str();
        DestinationRule {
            origins: vec![object.key()],
            host: host::resolve(&spec.host, namespace, domain),
            export_to: ExportTo::new(&spec.export_to, default_export, namespace),
            selector: spec.workload_selector.as_ref().map(|s| s.match_labels.clone()),
            traffic_policy: spec.traffic_policy.clone(),
            subsets: spec.subsets.clone(),
        }
    }

    /// Adds a younger rule of the same host: its subsets under new names, and its policy if there is none yet.
    fn absorb(&mut self, younger: DestinationRule) {
        self.origins.extend(younger.origins);
        if self.traffic_policy.is_none() {
            self.traffic_policy = younger.traffic_policy;
        }
        for subset in younger.subsets {
            if !self.subsets.iter().any(|own| own.name == subset.name) {
                self.subsets.push(subset);
            }
        }
    }

    /// The subset of this name.
    pub fn subset(&self, name: &str) -> Option<&Subset> {
        self.subsets.iter().find(|subset| subset.name == name)
    }
}

/// All DestinationRules, for lookup.
#[derive(Debug, Clone, Default)]
pub struct DestinationRules {
    namespaces: OrdMap<String, Arc<Namespace>>,
    root: String,
    /// Label keys that any rule's `workloadSelector` names.
    selector_keys: Vec<String>,
}

#[derive(Debug, Clone, Default)]
struct Namespace {
    exact: HashMap<String, Vec<Arc<DestinationRule>>>,
    /// Longest suffix first.
    wildcards: Vec<(String, Vec<Arc<DestinationRule>>)>,
    selector_keys: BTreeSet<String>,
    /// Labels that a `failoverPriority` compares.
    priority_keys: BTreeSet<String>,
}

impl DestinationRules {
    /// The rules after a change in `namespaces`; `rules` gives those of a namespace, oldest first.
    pub(crate) fn next<'a>(
        &self,
        namespaces: impl IntoIterator<Item = &'a str>,
        rules: impl Fn(&str) -> Vec<DestinationRule>,
        root: &str,
    ) -> DestinationRules {
        let mut next = self.clone();
        root.clone_into(&mut next.root);
        for namespace in namespaces {
            let rules = rules(namespace);
            if rules.is_empty() {
                next.namespaces.remove(namespace);
            } else {
                next.namespaces
                    .insert(namespace.to_owned(), Arc::new(Namespace::new(rules)));
            }
        }
        let keys = next.namespaces.values().flat_map(|ns| &ns.selector_keys);
        let keys: BTreeSet<&String> = keys.collect();
        next.selector_keys = keys.into_iter().cloned().collect();
        next
    }

    /// Labels that a `failoverPriority` of any rule compares.
    pub(crate) fn priority_keys(&self) -> impl Iterator<Item = &String> {
        self.namespaces
            .values()
            .flat_map(|namespace| &namespace.priority_keys)
    }

    /// Label keys that decide which rules apply to a client.
    pub fn selector_keys(&self) -> &[String] {
        &self.selector_keys
    }

    /// The rule that a client in `namespace` with `labels` uses for `host`, a service of namespace `service_namespace`.
    pub fn find(
        &self,
        host: &str,
        service_namespace: &str,
        namespace: &str,
        labels: &BTreeMap<String, String>,
    ) -> Option<&Arc<DestinationRule>> {
        let own = (namespace != self.root).then_some(namespace);
        let lookup = [own, Some(service_namespace), Some(self.root.as_str())];
        lookup.into_iter().flatten().find_map(|holder| {
            self.namespaces.get(holder)?.find(host, |rule| {
                (holder == namespace || rule.export_to.visible_in(namespace))
                    && rule
                        .selector
                        .as_ref()
                        .is_none_or(|s| holder == namespace && selects(s, labels))
            })
        })
    }
}

impl Namespace {
    /// Those of one host, selector and export as one; one that selects workloads takes over what it does not say itself from
    /// the host's rule for all workloads.
    fn new(rules: Vec<DestinationRule>) -> Namespace {
        let mut out = Namespace::default();
        let mut grouped: BTreeMap<String, Vec<DestinationRule>> = BTreeMap::new();
        for rule in rules {
            out.selector_keys
                .extend(rule.selector.iter().flat_map(|selector| selector.keys().cloned()));
            out.priority_keys.extend(priority_keys(&rule));
            let group = grouped.entry(rule.host.clone()).or_default();
            match group
                .iter_mut()
                .find(|r| r.selector == rule.selector && r.export_to == rule.export_to)
            {
                Some(older) => older.absorb(rule),
                None => group.push(rule),
            }
        }
        for (host, mut group) in grouped {
            group.sort_by_key(|rule| rule.selector.is_none());
            let general = group.iter().find(|rule| rule.selector.is_none()).cloned();
            for rule in group.iter_mut().filter(|rule| rule.selector.is_some()) {
                general.iter().for_each(|general| rule.absorb(general.clone()));
            }
            let group = group.into_iter().map(Arc::new).collect();
            if host::is_wildcard(&host) {
                out.wildcards.push((host, group));
            } else {
                out.exact.insert(host, group);
            }
        }
        out.wildcards.sort_by(|a, b| host::by_specificity(&a.0, &b.0));
        out
    }
    fn find(&self, host: &str, suits: impl Fn(&DestinationRule) -> bool) -> Option<&Arc<DestinationRule>> {
        let exact = self.exact.get(host).into_iter().flatten();
        let wildcards = self
            .wildcards
            .iter()
            .filter(|(pattern, _)| host::subset_of(host, pattern));
        exact
            .chain(wildcards.flat_map(|(_, rules)| rules))
            .find(|rule| suits(rule))
    }
}

/// Labels that a rule's `failoverPriority` compares with a client's.
fn priority_keys(rule: &DestinationRule) -> impl Iterator<Item = String> {
    let own = rule.traffic_policy.iter();
    let policies = own.chain(
        rule.subsets
            .iter()
            .filter_map(|subset| subset.traffic_policy.as_ref()),
    );
    let balancers = policies.flat_map(|policy| {
        let ports = policy.port_level_settings.iter().map(|port| &port.load_balancer);
        ports.chain([&policy.load_balancer])
    });
    balancers.flatten().flat_map(|balancer| {
        let locality = balancer
            .locality_lb_setting
            .iter()
            .flat_map(|s| &s.failover_priority);
        let zone = balancer
            .zone_aware_lb_setting
            .iter()
            .flat_map(|s| &s.failover_priority);
        locality.chain(zone).map(|label| priority_key(label).to_owned())
    })
}

/// The label of a `failoverPriority` entry: `LABEL` or `LABEL=VALUE`.
pub fn priority_key(entry: &str) -> &str {
    entry.split_once('=').map_or(entry, |(label, _)| label)
}
