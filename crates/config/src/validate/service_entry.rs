//! ServiceEntry: hosts, ports and endpoints, and what each resolution needs.

use std::collections::BTreeSet;

use super::common::{export_to, labels_selector, port, port_name, protocol, unique};
use super::{host, workload};
use crate::networking::{Location, Resolution, ServiceEntry, ServicePort};
use crate::path::At;
use crate::{Meta, Protocol, syntax};

/// Checks a ServiceEntry.
pub(super) fn check(spec: &ServiceEntry, meta: &Meta, at: &At<'_>) {
    labels_selector(spec.workload_selector.as_ref(), at);
    if spec.workload_selector.is_some() && !spec.endpoints.is_empty() {
        at.error("workloadSelector and endpoints exclude one another; keep one of them");
    }
    at.each("hosts", &spec.hosts, |name, at| {
        match name.as_str() {
            "*" => at.error("* is too wide for a service; name the hosts, or use *. with a domain"),
            name => host::report(host::wildcard(name), at),
        }
        if let Some(fault) =
            host::partial_wildcard(name).filter(|_| spec.resolution != Resolution::DynamicDns)
        {
            at.warning(fault);
        }
    });
    addresses(spec, at);
    ports(spec, at);
    resolution(spec, at);
    waypoint(spec, meta, at);
    several_hosts(spec, at);
    export_to(&meta.namespace, &spec.export_to, true, at);
}

fn addresses(spec: &ServiceEntry, at: &At<'_>) {
    let ranges = matches!(spec.resolution, Resolution::None | Resolution::Static);
    at.each("addresses", &spec.addresses, |address, at| {
        if !syntax::is_ip_or_range(address) {
            at.error(format!(
                "{address:?} is neither an IP address nor a range such as 10.0.0.0/8"
            ));
        } else if address.contains('/') && !ranges {
            let resolution = spec.resolution.as_str();
            at.error(format!(
                "resolution {resolution} takes single addresses; ranges need NONE or STATIC"
            ));
        }
    });
}

fn ports(spec: &ServiceEntry, at: &At<'_>) {
    at.each("ports", &spec.ports, |value: &ServicePort, at| {
        port(value.number, &at.key("number"));
        port_name(&value.name, &at.key("name"));
        protocol(&value.protocol, &at.key("protocol"));
        if value.target_port != 0 {
            port(value.target_port, &at.key("targetPort"));
        }
    });
    unique(
        "ports",
        spec.ports.iter().map(|port| port.name.as_str()),
        "the port's name",
        at,
    );
    let numbers: Vec<String> = spec.ports.iter().map(|port| port.number.to_string()).collect();
    unique("ports", numbers.iter().map(String::as_str), "the port number", at);
}

/// What a resolution needs and excludes.
fn resolution(spec: &ServiceEntry, at: &At<'_>) {
    let mode = spec.resolution.as_str();
    let names: BTreeSet<&str> = spec.ports.iter().map(|port| port.name.as_str()).collect();
    match spec.resolution {
        Resolution::None => {
            if !spec.endpoints.is_empty() {
                at.key("endpoints")
                    .error("resolution NONE goes where the client wants; remove them or use STATIC or DNS");
            }
            if spec.workload_selector.is_some() {
                at.key("workloadSelector")
                    .warning("has no effect with resolution NONE");
            }
        }
        Resolution::Static => {
            at.each("endpoints", &spec.endpoints, |endpoint, at| {
                workload::endpoint(endpoint, &names, false, at)
            });
        }
        Resolution::Dns | Resolution::DnsRoundRobin => {
            at.each("endpoints", &spec.endpoints, |endpoint, at| {
                workload::endpoint(endpoint, &names, true, at)
            });
            if spec.resolution == Resolution::DnsRoundRobin && spec.endpoints.len() > 1 {
                at.key("endpoints")
                    .error("resolution DNS_ROUND_ROBIN takes one endpoint at most");
            }
            if spec.endpoints.is_empty() && spec.workload_selector.is_none() {
                at.each("hosts", &spec.hosts, |name, at| {
                    if host::wildcard(name).is_none() && host::dns_name(name).is_some() {
                        at.error(format!("resolution {mode} without endpoints looks up the hosts, which must have no wildcard"));
                    }
                });
            }
        }
        Resolution::DynamicDns => dynamic_dns(spec, at),
    }
}

fn dynamic_dns(spec: &ServiceEntry, at: &At<'_>) {
    at.each("hosts", &spec.hosts, |name, at| {
        at.require(
            name.starts_with('*'),
            "resolution DYNAMIC_DNS takes hosts with a wildcard only",
        );
    });
    for (key, given) in [
        ("addresses", !spec.addresses.is_empty()),
        ("endpoints", !spec.endpoints.is_empty()),
    ] {
        if given {
            at.key(key)
                .error("resolution DYNAMIC_DNS takes addresses from the request's host; remove them");
        }
    }
    at.each("ports", &spec.ports, |value, at| {
        let known = Protocol::parse(&value.protocol);
        let fine = matches!(
            known,
            Some(Protocol::Http | Protocol::Http2 | Protocol::Grpc | Protocol::Tls)
        );
        at.key("protocol").require(
            fine,
            "resolution DYNAMIC_DNS takes HTTP, HTTP2, GRPC and TLS only",
        );
    });
}

/// A waypoint resolves no hosts of the mesh by the request (Istio's ValidateServiceEntry).
fn waypoint(spec: &ServiceEntry, meta: &Meta, at: &At<'_>) {
    const LABEL: &str = "istio.io/use-waypoint";
    let used = meta
        .labels
        .get(LABEL)
        .is_some_and(|name| !name.is_empty() && !name.eq_ignore_ascii_case("none"));
    let is_internal = spec.location == Location::MeshInternal;
    if used && is_internal && spec.resolution == Resolution::DynamicDns {
        at.key("location").error(format!(
            "MESH_INTERNAL with resolution DYNAMIC_DNS is not served by a waypoint; use MESH_EXTERNAL, or take the label {LABEL} off"
        ));
    }
}

/// Several hosts can be told apart by what they send only where it is HTTP or TLS.
fn several_hosts(spec: &ServiceEntry, at: &At<'_>) {
    if spec.hosts.len() < 2 || spec.resolution == Resolution::None {
        return;
    }
    at.each("ports", &spec.ports, |value, at| {
        let fine =
            Protocol::parse(&value.protocol).is_some_and(|protocol| protocol.is_http() || protocol.is_tls());
        at.key("protocol").require(
            fine,
            "with several hosts a port must be HTTP or TLS, by which they are told apart",
        );
    });
}
