//! ServiceEntries: TCP ports without addresses, and entries that disagree about a port.

use std::collections::{BTreeMap, BTreeSet};

use config::{Kind, Object};

use super::full_name;
use crate::hosts::{EVERYWHERE, scopes};
use crate::{Analyzer, Code, Report, Set};

/// Whether TCP ports have addresses, by which their traffic can be told.
pub(crate) const ADDRESSES: Analyzer = Analyzer::new(
    "serviceentry.ProtocolAddressesAnalyzer",
    "TCP ports of ServiceEntries without addresses",
    &[Code::ServiceEntryAddressesRequired],
    &[Kind::ServiceEntry, Kind::MeshConfig],
    addresses,
)
.alias("serviceentry.Analyzer");

/// Whether all that define a host and port give it the same protocol.
pub(crate) const PROTOCOLS: Analyzer = Analyzer::new(
    "serviceentry.ConflictingServiceEntryProtocolAnalyzer",
    "ServiceEntries that give one host and port different protocols",
    &[Code::ConflictingServiceEntryProtocol],
    &[Kind::ServiceEntry],
    protocols,
);

fn addresses(set: &Set<'_>, report: &mut Report) {
    if allocates(set) {
        return;
    }
    for (object, entry) in set.service_entries() {
        let given = set
            .status(object)
            .is_some_and(|status| !status.addresses.is_empty());
        if given || !entry.addresses.is_empty() {
            continue;
        }
        for (index, port) in entry.ports.iter().enumerate() {
            if port.protocol.is_empty() || port.protocol.eq_ignore_ascii_case("TCP") {
                let path = format!("spec.ports[{index}]");
                report.say(Code::ServiceEntryAddressesRequired, object, path, &[]);
            }
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

/// A definition of a port: protocol in upper case, and the entry.
type Definition<'a> = (String, &'a Object);

fn protocols(set: &Set<'_>, report: &mut Report) {
    // By host and port, then by scope.
    let mut index: BTreeMap<(&str, u32), BTreeMap<String, Vec<Definition<'_>>>> = BTreeMap::new();
    for (object, entry) in set.service_entries() {
        let scopes = scopes(&entry.export_to, &object.meta.namespace);
        for host in &entry.hosts {
            for port in &entry.ports {
                let of_port = index.entry((host, port.number)).or_default();
                for scope in &scopes {
                    let definition = (port.protocol.to_ascii_uppercase(), object);
                    of_port.entry(scope.clone()).or_default().push(definition);
                }
            }
        }
    }
    let mut said = BTreeSet::new();
    for ((host, port), by_scope) in &index {
        let everywhere = by_scope.get(EVERYWHERE);
        for (scope, own) in by_scope {
            let seen: Vec<&Definition<'_>> = match scope == EVERYWHERE {
                true => own.iter().collect(),
                false => own.iter().chain(everywhere.into_iter().flatten()).collect(),
            };
            let protocols: BTreeSet<&str> = seen.iter().map(|(protocol, _)| protocol.as_str()).collect();
            if protocols.len() < 2 {
                continue;
            }
            let names: BTreeSet<String> = seen.iter().map(|(_, object)| full_name(object)).collect();
            let names = names.into_iter().collect::<Vec<_>>().join(", ");
            let protocols = protocols.into_iter().collect::<Vec<_>>().join(", ");
            for (_, object) in seen {
                if said.insert(object.key()) {
                    let code = Code::ConflictingServiceEntryProtocol;
                    report.say(code, object, "spec.ports", &[&names, host, port, &protocols]);
                }
            }
        }
    }
}
