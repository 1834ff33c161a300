//! The objects that shape traffic, in their order of precedence: VirtualServices, DestinationRules, Gateways, Sidecars, and
//! what Ingresses stand for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use config::mesh::MeshConfig;
use config::{Finding, Kind, Object, ObjectKey, Spec};
use imbl::OrdMap;

use crate::delegate;
use crate::destination_rule::{DestinationRule, DestinationRules, priority_key};
use crate::gateway::Gateway;
use crate::ingress;
use crate::sidecar::{self, Sidecar};
use crate::snapshot::{DNS_DOMAIN, Objects, of_kind};
use crate::virtual_service::VirtualService;

/// What shapes traffic.
#[derive(Debug, Clone, Default)]
pub(crate) struct Traffic {
    /// Each VirtualService's object, names resolved.
    resolved: OrdMap<ObjectKey, Arc<VirtualService>>,
    ingresses: ingress::Translated,
    pub(crate) virtual_services: Vec<Arc<VirtualService>>,
    pub(crate) destination_rules: DestinationRules,
    pub(crate) gateways: Vec<Arc<Gateway>>,
    pub(crate) sidecars: Vec<Arc<Sidecar>>,
    pub(crate) client_label_keys: BTreeSet<String>,
    delegation: Vec<Finding>,
    pub(crate) findings: Vec<Finding>,
}

impl Traffic {
    /// Whether objects of a kind shape traffic.
    pub(crate) fn reads(&self, kind: Kind) -> bool {
        match kind {
            Kind::Service => self.ingresses.named_ports,
            kind => matches!(
                kind,
                Kind::VirtualService
                    | Kind::DestinationRule
                    | Kind::Gateway
                    | Kind::Sidecar
                    | Kind::Ingress
                    | Kind::IngressClass
            ),
        }
    }

    /// What shapes traffic after objects with these keys changed; `all` if everything is new.
    pub(crate) fn next<'a>(
        &self,
        keys: impl Iterator<Item = &'a ObjectKey>,
        all: bool,
        objects: &Objects,
        mesh: &MeshConfig,
    ) -> Traffic {
        let mut next = self.clone();
        let (mut kinds, mut rules) = (BTreeSet::new(), BTreeSet::new());
        for key in keys {
            kinds.insert(key.kind);
            match key.kind {
                Kind::VirtualService => next.resolve(key, objects, mesh),
                Kind::DestinationRule => _ = rules.insert(key.namespace.as_str()),
                _ => {}
            }
        }
        let ingress = kinds.contains(&Kind::Ingress)
            || kinds.contains(&Kind::IngressClass)
            || (kinds.contains(&Kind::Service) && self.ingresses.named_ports);
        if ingress {
            next.ingresses = ingress::translate(objects, mesh);
        }
        if ingress || kinds.contains(&Kind::VirtualService) {
            next.merge();
        }
        if all || !rules.is_empty() {
            let of = |namespace: &str| rules_of(namespace, objects, mesh);
            next.destination_rules = self.destination_rules.next(rules, of, &mesh.root_namespace);
        }
        if ingress || kinds.contains(&Kind::Gateway) {
            let own = by_age(objects, Kind::Gateway)
                .into_iter()
                .filter_map(|object| match &object.spec {
                    Spec::Gateway(spec) => Some(Arc::new(Gateway::new(object, spec))),
                    _ => None,
                });
            next.gateways = own.chain(next.ingresses.gateways.iter().cloned()).collect();
        }
        if kinds.contains(&Kind::Sidecar) {
            let own = by_age(objects, Kind::Sidecar)
                .into_iter()
                .filter_map(|object| match &object.spec {
                    Spec::Sidecar(spec) => Some(Arc::new(Sidecar::new(object, spec))),
                    _ => None,
                });
            next.sidecars = own.collect();
        }
        next.client_label_keys = next.label_keys(mesh);
        let found = next.delegation.iter().chain(&next.ingresses.findings);
        next.findings = found.cloned().collect();
        next
    }

    fn resolve(&mut self, key: &ObjectKey, objects: &Objects, mesh: &MeshConfig) {
        let object = objects.get(key).map(|object| (object, &object.spec));
        if let Some((object, Spec::VirtualService(spec))) = object {
            let default = &mesh.default_virtual_service_export_to;
            let resolved = VirtualService::new(object, spec, default, DNS_DOMAIN);
            self.resolved.insert(key.clone(), Arc::new(resolved));
        } else {
            self.resolved.remove(key);
        }
    }

    fn merge(&mut self) {
        let mut all: Vec<Arc<VirtualService>> = self.resolved.values().cloned().collect();
        all.sort_by(|a, b| precedence(a).cmp(&precedence(b)));
        self.delegation.clear();
        self.virtual_services = delegate::merge(all, &mut self.delegation);
        let derived = self.ingresses.virtual_services.iter();
        self.virtual_services.extend(derived.cloned());
    }

    fn label_keys(&self, mesh: &MeshConfig) -> BTreeSet<String> {
        let rules = self.destination_rules.selector_keys().iter();
        let routes = self.virtual_services.iter().flat_map(|vs| {
            let http = vs.spec.http.iter().flat_map(|r| &r.r#match);
            let tls = vs.spec.tls.iter().flat_map(|r| &r.r#match);
            let tcp = vs.spec.tcp.iter().flat_map(|r| &r.r#match);
            let http = http.flat_map(|m| m.source_labels.keys());
            let tls = tls.flat_map(|m| m.source_labels.keys());
            http.chain(tls).chain(tcp.flat_map(|m| m.source_labels.keys()))
        });
        let locality = mesh.locality_lb_setting.iter().flat_map(|s| &s.failover_priority);
        let zone = mesh
            .zone_aware_lb_setting
            .iter()
            .flat_map(|s| &s.failover_priority);
        let of_mesh = locality.chain(zone).map(|entry| priority_key(entry).to_owned());
        let own = rules.chain(routes).chain(self.destination_rules.priority_keys());
        own.cloned().chain(of_mesh).collect()
    }

    /// The Sidecar of a workload.
    pub(crate) fn sidecar_for(
        &self,
        root: &str,
        namespace: &str,
        labels: &BTreeMap<String, String>,
    ) -> Option<&Arc<Sidecar>> {
        sidecar::choose(&self.sidecars, root, namespace, labels)
    }
}

fn rules_of(namespace: &str, objects: &Objects, mesh: &MeshConfig) -> Vec<DestinationRule> {
    let first = ObjectKey::new(Kind::DestinationRule, namespace, "");
    let here = objects
        .range(first..)
        .take_while(|(key, _)| key.kind == Kind::DestinationRule && key.namespace == namespace);
    let here = sorted(here.map(|(_, object)| object));
    let default = &mesh.default_destination_rule_export_to;
    let rules = here.into_iter().filter_map(|object| match &object.spec {
        Spec::DestinationRule(spec) => Some(DestinationRule::new(object, spec, default, DNS_DOMAIN)),
        _ => None,
    });
    rules.collect()
}

/// The objects of a kind, oldest first, then by name and namespace (Istio's order of precedence).
pub(crate) fn by_age(objects: &Objects, kind: Kind) -> Vec<&Arc<Object>> {
    sorted(of_kind(objects, kind))
}

fn sorted<'a>(objects: impl Iterator<Item = &'a Arc<Object>>) -> Vec<&'a Arc<Object>> {
    let mut all: Vec<_> = objects.collect();
    all.sort_by(|a, b| {
        let key = |o: &Object| (o.meta.created.is_none(), o.meta.created);
        let names = (&a.meta.name, &a.meta.namespace).cmp(&(&b.meta.name, &b.meta.namespace));
        key(a).cmp(&key(b)).then(names)
    });
    all
}

fn precedence(vs: &VirtualService) -> (bool, Option<i64>, &str, &str) {
    (vs.created.is_none(), vs.created, &vs.key.name, &vs.key.namespace)
}
