//! Gateways that serve the same hosts on the same port of the same proxies.

use std::collections::BTreeMap;

use config::networking::{Gateway, Server};
use config::{Kind, Object};
use model::selects;

use super::full_name;
use crate::selector::{self, Labels};
use crate::{Analyzer, Code, Report, Set};

/// Whether two gateways claim the same host.
pub(crate) const CONFLICTS: Analyzer = Analyzer::new(
    "gateway.ConflictingGatewayAnalyzer",
    "Gateways that serve the same hosts on the same port of the same proxies",
    &[Code::ConflictingGateways],
    &[Kind::Gateway, Kind::Pod, Kind::WorkloadEntry],
    run,
);

fn run(set: &Set<'_>, report: &mut Report) {
    let mut by_port: BTreeMap<u32, Vec<(&Object, &Gateway, &Server)>> = BTreeMap::new();
    for (object, gateway) in set.gateways() {
        for server in &gateway.servers {
            let users = by_port.entry(port(server)).or_default();
            users.push((object, gateway, server));
        }
    }
    for (object, gateway) in set.gateways() {
        for (index, server) in gateway.servers.iter().enumerate() {
            let others = by_port.get(&port(server)).map_or(&[][..], Vec::as_slice);
            let mut names: Vec<String> = others
                .iter()
                .filter(|(other, body, theirs)| {
                    other.key() != object.key()
                        && shares_host(server, theirs)
                        && same_proxies(set, &gateway.selector, &body.selector)
                })
                .map(|(other, _, _)| full_name(other))
                .collect();
            names.sort();
            names.dedup();
            if !names.is_empty() {
                report.say(
                    Code::ConflictingGateways,
                    object,
                    format!("spec.servers[{index}].hosts"),
                    &[
                        &names.join(", "),
                        &selector::text(&gateway.selector),
                        &port(server),
                        &server.hosts.join(", "),
                    ],
                );
            }
        }
    }
}

fn port(server: &Server) -> u32 {
    server.port.as_ref().map_or(0, |port| port.number)
}

fn shares_host(a: &Server, b: &Server) -> bool {
    a.bind == b.bind && a.hosts.iter().any(|host| b.hosts.contains(host))
}

/// Whether two selectors are the same, or one asks for more than the other and some pod has it.
fn same_proxies(set: &Set<'_>, a: &Labels, b: &Labels) -> bool {
    if a == b {
        return true;
    }
    let narrow = match (selects(a, b), selects(b, a)) {
        (true, _) => b,
        (_, true) => a,
        _ => return false,
    };
    !set.workloads(narrow, None).is_empty()
}
