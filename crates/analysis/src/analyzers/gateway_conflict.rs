//! Gateways that serve the same hosts on the same port of the same proxies.

use config::networking::{Gateway, Server};
use config::{Kind, Object, Spec};
use model::selects;

use super::{by_name, full_name};
use crate::analyzer::Check;
use crate::selector::{self, Labels};
use crate::term::Term;
use crate::{Analyzer, Code, Report, Set};

/// Whether two gateways claim the same host.
pub(crate) const CONFLICTS: Analyzer = Analyzer::new(
    "gateway.ConflictingGatewayAnalyzer",
    "Gateways that serve the same hosts on the same port of the same proxies",
    &[Code::ConflictingGateways],
    &[Kind::Gateway, Kind::Pod, Kind::WorkloadEntry],
    Check::Each(&[Kind::Gateway], run),
);

fn run(set: &Set<'_>, object: &Object, report: &mut Report) {
    let Spec::Gateway(gateway) = &object.spec else {
        return;
    };
    for (index, server) in gateway.servers.iter().enumerate() {
        let mut names: Vec<String> = others(set, object, gateway, server)
            .into_iter()
            .map(full_name)
            .collect();
        names.sort();
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

/// Other Gateways with a server that claims one of this server's hosts.
fn others<'a>(set: &Set<'a>, object: &Object, gateway: &Gateway, server: &Server) -> Vec<&'a Object> {
    let hosts = server.hosts.iter();
    let near = hosts.flat_map(|host| set.found(Kind::Gateway, Term::Served(port(server), host)));
    let claims = |other: &&'a Object| match &other.spec {
        Spec::Gateway(body) => {
            other.key() != object.key()
                && (body.servers.iter())
                    .any(|theirs| port(theirs) == port(server) && shares_host(server, theirs))
                && same_proxies(set, &gateway.selector, &body.selector)
        }
        _ => false,
    };
    by_name(near).into_iter().filter(claims).collect()
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
    set.workloads(narrow, None).next().is_some()
}
