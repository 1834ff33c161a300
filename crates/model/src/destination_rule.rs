//! DestinationRules and their lookup: by the client's namespace, then the service's, then the root namespace, the most
//! specific host first (Istio, "DestinationRule", and its code's lookup order).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use config::networking::{self as api, Subset, TrafficPolicy};
use config::{Object, ObjectKey};

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
    fn new(
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
    namespaces: HashMap<String, Namespace>,
    root: String,
    /// Label keys that any rule's `workloadSelector` names.
    selector_keys: Vec<String>,
}

#[derive(Debug, Clone, Default)]
struct Namespace {
    exact: HashMap<String, Vec<Arc<DestinationRule>>>,
    /// Longest suffix first.
    wildcards: Vec<(String, Vec<Arc<DestinationRule>>)>,
}

impl DestinationRules {
    /// Indexes rules, given oldest first.
    pub(crate) fn build<'a>(
        rules: impl Iterator<Item = (&'a Object, &'a api::DestinationRule)>,
        default_export: &[String],
        domain: &str,
        root: &str,
    ) -> DestinationRules {
        let mut grouped: BTreeMap<(String, String), Vec<DestinationRule>> = BTreeMap::new();
        for (object, spec) in rules {
            let rule = DestinationRule::new(object, spec, default_export, domain);
            let group = grouped
                .entry((object.meta.namespace.clone(), rule.host.clone()))
                .or_default();
            match group
                .iter_mut()
                .find(|r| r.selector == rule.selector && r.export_to == rule.export_to)
            {
                Some(older) => older.absorb(rule),
                None => group.push(rule),
            }
        }
        let mut out = DestinationRules {
            root: root.to_owned(),
            ..Default::default()
        };
        for ((namespace, host), group) in grouped {
            out.insert(namespace, host, group);
        }
        for namespace in out.namespaces.values_mut() {
            namespace
                .wildcards
                .sort_by(|a, b| host::by_specificity(&a.0, &b.0));
        }
        out.selector_keys.sort();
        out.selector_keys.dedup();
        out
    }

    fn insert(&mut self, namespace: String, host: String, mut group: Vec<DestinationRule>) {
        group.sort_by_key(|rule| rule.selector.is_none());
        self.selector_keys.extend(
            group
                .iter()
                .flat_map(|r| r.selector.iter().flat_map(|s| s.keys().cloned())),
        );
        let group = group.into_iter().map(Arc::new).collect();
        let into = self.namespaces.entry(namespace).or_default();
        if host::is_wildcard(&host) {
            into.wildcards.push((host, group));
        } else {
            into.exact.insert(host, group);
        }
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
