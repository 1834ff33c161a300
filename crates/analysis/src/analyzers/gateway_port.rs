//! Gateways without proxies, or whose ports no Service leads to.

use std::collections::BTreeSet;

use config::kube::IntOrString;
use config::{Kind, Object, Spec};

use crate::analyzer::Check;
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
    Check::Each(&[Kind::Gateway], run),
);

/// Ports that lead to the proxies of a selector; none when it selects no proxy.
type Open = Option<BTreeSet<u32>>;

fn run(set: &Set<'_>, object: &Object, report: &mut Report) {
    let Spec::Gateway(gateway) = &object.spec else {
        return;
    };
    let selector = selector::text(&gateway.selector);
    let Some(open) = open_ports(set, &gateway.selector) else {
        report.say(
            Code::ReferencedResourceNotFound,
            object,
            "spec.selector",
            &[&"pod with labels", &selector],
        );
        return;
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

/// The ports of Services in front of the selected pods, and what they lead to.
fn open_ports(set: &Set<'_>, wanted: &Labels) -> Open {
    let workloads: Vec<_> = set.workloads(wanted, None).collect();
    if workloads.is_empty() {
        return None;
    }
    let mut open = BTreeSet::new();
    for workload in workloads {
        let namespace = &workload.object.meta.namespace;
        let in_front = set.services_of(namespace, workload.labels(), |selector| workload.has(selector));
        for port in in_front.iter().flat_map(|(_, service)| &service.spec.ports) {
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
