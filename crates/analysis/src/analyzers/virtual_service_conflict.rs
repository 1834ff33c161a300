//! VirtualServices that give sidecars routes for the same host.

use std::collections::{BTreeMap, BTreeSet};

use config::networking::VirtualService;
use config::{Kind, Object};
use model::{MESH_GATEWAY, host};

use super::full_name;
use crate::analyzer::Check;
use crate::hosts::{EVERYWHERE, fqdn, scopes};
use crate::{Analyzer, Code, Report, Set};

/// Whether each host has its routes from one VirtualService, in each namespace.
pub(crate) const HOSTS: Analyzer = Analyzer::new(
    "virtualservice.ConflictingMeshGatewayHostsAnalyzer",
    "VirtualServices that give sidecars routes for the same host",
    &[Code::ConflictingMeshGatewayVirtualServiceHosts],
    &[Kind::VirtualService],
    Check::Mesh(run),
);

/// VirtualServices by scope and host.
type Index<'a> = BTreeMap<(String, String), Vec<&'a Object>>;

fn run(set: &Set<'_>, report: &mut Report) {
    let mut index = Index::new();
    for (object, service) in set
        .virtual_services()
        .filter(|(_, service)| is_for_sidecars(service))
    {
        let namespace = &object.meta.namespace;
        for scope in scopes(&service.export_to, namespace) {
            for name in &service.hosts {
                let users = index.entry((scope.clone(), fqdn(name, namespace))).or_default();
                users.push(object);
            }
        }
    }
    let wildcards: Vec<(&str, &Vec<&Object>)> = index
        .iter()
        .filter(|((scope, name), _)| scope == EVERYWHERE && host::is_wildcard(name))
        .map(|((_, name), users)| (name.as_str(), users))
        .collect();
    let mut said = BTreeSet::new();
    for ((scope, name), own) in &index {
        // Most hosts have one rule: nothing is to be put together for them.
        if scope == EVERYWHERE && own.len() < 2 {
            continue;
        }
        let mut users: BTreeMap<_, &Object> = own.iter().map(|o| (o.key(), *o)).collect();
        if scope != EVERYWHERE {
            for object in exported(&index, &wildcards, name) {
                users.insert(object.key(), object);
            }
        }
        if users.len() < 2 {
            continue;
        }
        let names: Vec<String> = users.values().map(|object| full_name(object)).collect();
        for (key, object) in users {
            if said.insert(key) {
                let code = Code::ConflictingMeshGatewayVirtualServiceHosts;
                report.say(code, object, "spec.hosts", &[&names.join(", "), name]);
            }
        }
    }
}

/// VirtualServices exported to all that have routes for `name` too.
fn exported<'a>(index: &Index<'a>, wildcards: &[(&str, &Vec<&'a Object>)], name: &str) -> Vec<&'a Object> {
    if host::is_wildcard(name) {
        let all = index.iter().filter(|((scope, _), _)| scope == EVERYWHERE);
        let near = all.filter(|((_, other), _)| host::overlaps(name, other));
        return near.flat_map(|(_, users)| users.iter().copied()).collect();
    }
    let same = index.get(&(EVERYWHERE.to_owned(), name.to_owned()));
    let covering = wildcards
        .iter()
        .filter(|(wildcard, _)| host::overlaps(name, wildcard));
    same.into_iter()
        .flatten()
        .chain(covering.flat_map(|(_, users)| users.iter()))
        .copied()
        .collect()
}

fn is_for_sidecars(service: &VirtualService) -> bool {
    service.gateways.is_empty() || service.gateways.iter().any(|gateway| gateway == MESH_GATEWAY)
}
