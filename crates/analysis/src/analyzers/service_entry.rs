//! ServiceEntries: TCP ports without addresses, and entries that disagree about a port.

use std::collections::{BTreeMap, BTreeSet};

use config::networking::ServiceEntry;
use config::{Kind, Object, Spec};

use super::{by_name, full_name};
use crate::analyzer::Check;
use crate::hosts::{EVERYWHERE, scopes};
use crate::term::Term;
use crate::{Analyzer, Code, Report, Set};

/// Whether TCP ports have addresses, by which their traffic can be told.
pub(crate) const ADDRESSES: Analyzer = Analyzer::new(
    "serviceentry.ProtocolAddressesAnalyzer",
    "TCP ports of ServiceEntries without addresses",
    &[Code::ServiceEntryAddressesRequired],
    &[Kind::ServiceEntry, Kind::MeshConfig],
    Check::Each(&[Kind::ServiceEntry], addresses),
)
.alias("serviceentry.Analyzer");

/// Whether all that define a host and port give it the same protocol.
pub(crate) const PROTOCOLS: Analyzer = Analyzer::new(
    "serviceentry.ConflictingServiceEntryProtocolAnalyzer",
    "ServiceEntries that give one host and port different protocols",
    &[Code::ConflictingServiceEntryProtocol],
    &[Kind::ServiceEntry],
    Check::Each(&[Kind::ServiceEntry], protocols),
);

fn addresses(set: &Set<'_>, object: &Object, report: &mut Report) {
    let Spec::ServiceEntry(entry) = &object.spec else {
        return;
    };
    let given = set
        .status(object)
        .is_some_and(|status| !status.addresses.is_empty());
    if given || !entry.addresses.is_empty() || allocates(set) {
        return;
    }
    for (index, port) in entry.ports.iter().enumerate() {
        if port.protocol.is_empty() || port.protocol.eq_ignore_ascii_case("TCP") {
            let path = format!("spec.ports[{index}]");
            report.say(Code::ServiceEntryAddressesRequired, object, path, &[]);
        }
    }
}

/// Whether proxies resolve names themselves and give ServiceEntries addresses.
fn allocates(set: &Set<'_>) -> bool {
    let Some(proxy) = &set.mesh().default_config else {
        return false;
    };
    let on = |key: &str| proxy.proxy_metadata.get(key).is_some_and(|value| value == "true");
    on("ISTIO_META_DNS_CAPTURE") && (on("ISTIO_META_DNS_AUTO_ALLOCATE") || on("PILOT_ENABLE_IP_AUTOALLOCATE"))
}

fn protocols(set: &Set<'_>, object: &Object, report: &mut Report) {
    let Spec::ServiceEntry(entry) = &object.spec else {
        return;
    };
    let ports = entry.ports.iter().map(|port| port.number);
    let places = entry
        .hosts
        .iter()
        .flat_map(|host| ports.clone().map(move |port| (host.as_str(), port)));
    for (host, port) in places.collect::<BTreeSet<_>>() {
        // Once for an object: the first conflict is the one to look into.
        if let Some((names, protocols)) = conflict(set, object, host, port) {
            let code = Code::ConflictingServiceEntryProtocol;
            report.say(code, object, "spec.ports", &[&names, &host, &port, &protocols]);
            return;
        }
    }
}

/// A protocol that a host's port is given, and the object that gives it.
type Definition<'a> = (String, &'a Object);

/// The ServiceEntries that give the port different protocols where the object counts too, and those protocols.
fn conflict(set: &Set<'_>, object: &Object, host: &str, port: u32) -> Option<(String, String)> {
    let mut by_scope: BTreeMap<String, Vec<Definition<'_>>> = BTreeMap::new();
    for other in by_name(set.found(Kind::ServiceEntry, Term::EntryHost(host))) {
        let Spec::ServiceEntry(entry) = &other.spec else {
            continue;
        };
        for protocol in given(entry, host, port) {
            for scope in scopes(&entry.export_to, &other.meta.namespace) {
                by_scope.entry(scope).or_default().push((protocol.clone(), other));
            }
        }
    }
    let everywhere = by_scope.get(EVERYWHERE);
    by_scope.iter().find_map(|(scope, own)| {
        let seen: Vec<&Definition<'_>> = match scope == EVERYWHERE {
            true => own.iter().collect(),
            false => own.iter().chain(everywhere.into_iter().flatten()).collect(),
        };
        let protocols: BTreeSet<&str> = seen.iter().map(|(protocol, _)| protocol.as_str()).collect();
        let counts = seen.iter().any(|(_, other)| other.key() == object.key());
        if protocols.len() < 2 || !counts {
            return None;
        }
        let names: BTreeSet<String> = seen.iter().map(|(_, object)| full_name(object)).collect();
        let names = names.into_iter().collect::<Vec<_>>().join(", ");
        let protocols = protocols.into_iter().collect::<Vec<_>>().join(", ");
        Some((names, protocols))
    })
}

/// The protocols that a ServiceEntry gives that port of that host.
fn given(entry: &ServiceEntry, host: &str, port: u32) -> Vec<String> {
    let is_meant = entry.hosts.iter().any(|name| name == host);
    let ports = entry
        .ports
        .iter()
        .filter(|given| is_meant && given.number == port);
    ports.map(|given| given.protocol.to_ascii_uppercase()).collect()
}
