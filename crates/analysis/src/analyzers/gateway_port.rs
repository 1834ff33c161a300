//! Gateways without proxies, or whose ports no Service leads to.

use std::collections::{BTreeMap, BTreeSet};

use config::Kind;
use config::kube::{IntOrString, Service};

use crate::selector::{self, Labels};
use crate::{Analyzer, Code, Report, Set};

/// Whether a gateway's ports are those of a Service in front of its proxies.
pub(crate) const PORTS: Analyzer = Analyzer::new(
    "gateway.IngressGatewayPortAnalyzer",
    "Gateways without proxies, or whose ports no Service leads to",
    &[
        Code::ReferencedResourceNotFound,
        Code::GatewayPortNotDefinedOnService,
    ],
    &[Kind::Gateway, Kind::Pod, Kind::WorkloadEntry, Kind::Service],
    run,
);

/// Ports that lead to the proxies of a selector; none when it selects no proxy.
type Open = Option<BTreeSet<u32>>;

fn run(set: &Set<'_>, report: &mut Report) {
    let mut services: BTreeMap<&str, Vec<&Service>> = BTreeMap::new();
    for (object, service) in set
        .services()
        .filter(|(_, service)| !service.spec.selector.is_empty())
    {
        services.entry(&object.meta.namespace).or_default().push(service);
    }
    let mut known: BTreeMap<&Labels, Open> = BTreeMap::new();
    for (object, gateway) in set.gateways() {
        let open = known
            .entry(&gateway.selector)
            .or_insert_with(|| open_ports(set, &gateway.selector, &services));
        let selector = selector::text(&gateway.selector);
        let Some(open) = open else {
            report.say(
                Code::ReferencedResourceNotFound,
                object,
                "spec.selector",
                &[&"pod with labels", &selector],
            );
            continue;
        };
        for (index, server) in gateway.servers.iter().enumerate() {
            let Some(port) = &server.port else { continue };
            if !open.contains(&port.number) {
                report.say(
                    Code::GatewayPortNotDefinedOnService,
                    object,
                    format!("spec.servers[{index}].port.number"),
                    &[&port.number, &selector],
                );
            }
        }
    }
}

/// The ports of Services in front of the selected pods, and what they lead to.
fn open_ports(set: &Set<'_>, wanted: &Labels, services: &BTreeMap<&str, Vec<&Service>>) -> Open {
    let workloads = set.workloads(wanted, None);
    if workloads.is_empty() {
        return None;
    }
    let mut open = BTreeSet::new();
    for workload in workloads {
        let near = services
            .get(workload.object.meta.namespace.as_str())
            .into_iter()
            .flatten();
        let in_front = near.filter(|service| workload.has(&service.spec.selector));
        for port in in_front.flat_map(|service| &service.spec.ports) {
            if matches!(port.protocol.as_str(), "" | "TCP") {
                open.insert(port.port);
                if let Some(IntOrString::Int(target)) = port.target_port {
                    open.insert(target);
                }
            }
        }
    }
    Some(open)
}
