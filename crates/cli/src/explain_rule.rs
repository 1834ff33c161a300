//! `argosy explain rule`: where each part of a Mixer rule is carried out, workload by workload.

use std::collections::BTreeMap;
use std::fmt::Write;

use anyhow::{Result, bail};
use config::{Kind, ObjectKey};
use model::{Gateway, Service, Snapshot, Workload};
use policy::{
    Direction, GatewayView, Part, Ports, Requirements, Rules, ServiceView, Target, Traffic, WorkloadView,
};

use crate::offline::Mesh;

/// What gateways do (`policy`, [`Rules::checks_to`]).
const GATEWAYS: &str = "they ask Mixer (ext_authz) about what they send to services whose workloads have no proxies, and about all if it \
                        can hold for callers only, as far as its match can hold before the workload that answers is known";

/// Most hosts that are told of a gateway.
const MAX_HOSTS: usize = 20;

/// Writes where a rule is carried out; false if nowhere.
pub(crate) fn run(mesh: &Mesh, namespace: &str, name: &str, out: &mut String) -> Result<bool> {
    let key = ObjectKey::new(Kind::Rule, namespace, name);
    let snapshot = mesh.snapshot();
    if snapshot.objects().get(&key).is_none() {
        let refused = mesh
            .findings
            .iter()
            .find(|finding| finding.object.as_ref() == Some(&key));
        match refused {
            Some(finding) => bail!("rule {namespace}/{name} is not used: {finding}"),
            None => bail!("the mesh has no rule {namespace}/{name}; give its namespace by -n NAMESPACE"),
        }
    }
    let (rules, findings) = Rules::build(snapshot.objects().values(), snapshot.mesh());
    writeln!(out, "{}", mesh.shown(&key))?;
    for finding in findings.iter().filter(|one| one.object.as_ref() == Some(&key)) {
        writeln!(out, "  {finding}")?;
    }
    let full = format!("{name}.{namespace}");
    let mut found = false;
    for workload in snapshot.workloads().iter() {
        let view = WorkloadView::of(snapshot, workload);
        let lines = at(&rules, &full, &view);
        if !lines.is_empty() {
            found = true;
            writeln!(out, "  at {}", workload.key.resource_name())?;
            lines.iter().try_for_each(|line| writeln!(out, "    {line}"))?;
        }
    }
    if rules.decides(&full) {
        writeln!(out, "  at gateways: {GATEWAYS}")?;
        for workload in snapshot.workloads().iter() {
            let asked = asked_by(&rules, &full, snapshot, workload);
            if !asked.is_empty() {
                let gateway = workload.key.resource_name();
                let hosts = asked.join(", ");
                writeln!(out, "    {gateway}: where a route of it leads to {hosts}")?;
            }
        }
    }
    if !found {
        let is_root = namespace == snapshot.mesh().root_namespace;
        let mut workloads = snapshot.workloads().iter();
        let why = match is_root || workloads.any(|workload| workload.key.namespace == namespace) {
            true => "",
            false => ": a rule is for its own namespace, which has none",
        };
        writeln!(out, "  it can never apply to a workload of the mesh{why}")?;
    }
    Ok(found)
}

/// The hosts of the services of which a gateway would ask for the rule when it sends there; none if the workload is no gateway.
fn asked_by(rules: &Rules, rule: &str, snapshot: &Snapshot, workload: &Workload) -> Vec<String> {
    let opens = |gateway: &Gateway| gateway.services.is_none() && gateway.selects(&workload.labels);
    if !snapshot.gateways().iter().any(|gateway| opens(gateway)) {
        return Vec::new();
    }
    let gateway = GatewayView {
        namespace: &workload.key.namespace,
        labels: &workload.labels,
    };
    let asks = |service: &Service| {
        let called = ServiceView::called(service);
        let target = Target {
            service: &called,
            guarded: service.is_guarded(),
        };
        let about = |tcp: bool| rules.checks_to(gateway, target, tcp);
        let mut checks = about(false).into_iter().chain(about(true));
        checks.any(|check| check.rules.iter().any(|named| named == rule))
    };
    let services = snapshot.services().iter();
    let mut hosts: Vec<String> = services
        .filter(|service| asks(service))
        .map(|service| service.host.clone())
        .collect();
    let more = hosts.len().saturating_sub(MAX_HOSTS);
    if more > 0 {
        hosts.truncate(MAX_HOSTS);
        hosts.push(format!("{more} more"));
    }
    hosts
}

/// What happens at one workload, traffic of one kind after the other.
fn at(rules: &Rules, rule: &str, view: &WorkloadView) -> Vec<String> {
    let mut lines = Vec::new();
    for (traffic, tcp) in [("requests", false), ("connections", true)] {
        for (ports, parts) in by_ports(rules, rule, view, tcp) {
            lines.extend(parts.iter().map(|part| format!("{traffic} to {ports}: {part}")));
        }
        lines.extend(calls(rules, rule, view, tcp).map(|call| format!("{traffic}: {call}")));
        lines.extend(
            sent(rules, rule, view, tcp)
                .iter()
                .map(|told| format!("{traffic} that it sends: {told}")),
        );
    }
    lines
}

/// The rule's parts, for ports that have the same ones together.
fn by_ports(rules: &Rules, rule: &str, view: &WorkloadView, tcp: bool) -> Vec<(String, Vec<Part>)> {
    let own: BTreeMap<u16, Vec<Part>> = view
        .services
        .iter()
        .flat_map(|service| &service.ports)
        .map(|port| (*port, rules.explain(rule, view, tcp, Ports::Only(*port))))
        .collect();
    let mut together: Vec<(Vec<Part>, Vec<String>)> = Vec::new();
    let others = (
        "ports of no service".to_owned(),
        rules.explain(rule, view, tcp, Ports::Undeclared),
    );
    let ports = own
        .into_iter()
        .map(|(port, parts)| (format!("port {port}"), parts));
    for (port, parts) in ports.chain([others]).filter(|(_, parts)| !parts.is_empty()) {
        match together.iter_mut().find(|(known, _)| *known == parts) {
            Some((_, ports)) => ports.push(port),
            None => together.push((parts, vec![port])),
        }
    }
    together
        .into_iter()
        .map(|(parts, ports)| (ports.join(", "), parts))
        .collect()
}

/// What the caller's proxy does for the rule: it tells Mixer of what has ended, and decides nothing.
fn sent(rules: &Rules, rule: &str, view: &WorkloadView, tcp: bool) -> Option<&'static str> {
    let direction = Direction::Outbound;
    let report = rules.requirements(view, Traffic { direction, tcp }).report?;
    let told = report.rules.iter().any(|own| own == rule);
    told.then_some("Mixer is told (access log service, off the request's path)")
}

/// The calls that the rule costs.
fn calls(rules: &Rules, rule: &str, view: &WorkloadView, tcp: bool) -> impl Iterator<Item = String> {
    let direction = Direction::Inbound;
    let wants: Requirements = rules.requirements(view, Traffic { direction, tcp });
    let asked = move |check: &policy::Check| check.rules.iter().any(|own| own == rule);
    let checks = wants.checks.into_iter().filter(asked).map(|check| {
        let failing = if check.fail_open { "let through" } else { "refused" };
        let which = match check.when {
            policy::Matcher::Always => "each",
            _ => "those for which a rule may hold",
        };
        format!("Mixer is asked about {which} (ext_authz); without Mixer they are {failing}")
    });
    let counted = wants.quotas.iter().any(|quota| quota.rule == rule);
    checks.chain(counted.then(|| "Mixer counts each (rate limit service)".to_owned()))
}
