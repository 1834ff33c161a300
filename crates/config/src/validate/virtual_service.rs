//! VirtualService: its hosts and gateways, and the TLS and TCP routes; HTTP routes are in `http_route`.

use super::common::{export_to, port_selector};
use super::{header, host, http_route, reachability};
use crate::networking::{
    Destination, L4MatchAttributes, RouteDestination, TcpRoute, TlsMatchAttributes, TlsRoute, VirtualService,
};
use crate::path::At;
use crate::{Meta, meta, syntax};

/// The gateway's name that stands for all sidecars.
const MESH: &str = "mesh";

/// Checks a VirtualService.
pub(super) fn check(spec: &VirtualService, meta: &Meta, at: &At<'_>) {
    let delegate = spec.hosts.is_empty();
    if delegate {
        check_delegate(spec, at);
    }
    if spec.http.is_empty() && spec.tls.is_empty() && spec.tcp.is_empty() {
        at.error("no route is given; http, tls or tcp is needed");
    }
    host::gateways(&spec.gateways, at);
    hosts(spec, at);
    claims_need_gateway(spec, at);
    at.each("http", &spec.http, |route, at| {
        http_route::check(route, delegate, at)
    });
    let mut names = host::Names::default();
    spec.hosts.iter().for_each(|name| names.add(name));
    at.each("tls", &spec.tls, |route, at| tls_route(route, spec, &names, at));
    at.each("tcp", &spec.tcp, tcp_route);
    export_to(&meta.namespace, &spec.export_to, false, at);
    reachability::check(spec, at);
}

/// A VirtualService without hosts holds routes for another one, and HTTP routes only.
fn check_delegate(spec: &VirtualService, at: &At<'_>) {
    if !at.options().delegates {
        return at.key("hosts").error("at least one host is needed");
    }
    if !spec.gateways.is_empty() {
        at.key("gateways")
            .error("without hosts these are routes for another VirtualService, whose gateways hold");
    }
    for (key, given) in [("tls", !spec.tls.is_empty()), ("tcp", !spec.tcp.is_empty())] {
        if given {
            at.key(key)
                .error("without hosts these are routes for another VirtualService, which takes http only");
        }
    }
}

/// Whether sidecars apply the routes; `false` when only gateways do.
fn applies_to_mesh(spec: &VirtualService) -> bool {
    spec.gateways.is_empty() || spec.gateways.iter().any(|gateway| gateway == MESH)
}

fn hosts(spec: &VirtualService, at: &At<'_>) {
    let passes_sni = spec
        .tls
        .iter()
        .flat_map(|route| &route.r#match)
        .any(|found| !found.sni_hosts.is_empty());
    let before = at.error_count();
    at.each("hosts", &spec.hosts, |name, at| {
        if syntax::ip(name).is_some() {
            return;
        }
        host::report(sni_or_host(name, passes_sni && !applies_to_mesh(spec)), at);
        if name == "*" && applies_to_mesh(spec) {
            at.error_help(
                "* is too wide for sidecars",
                "name the hosts, or only gateways in gateways",
            );
        }
    });
    if at.error_count() == before {
        duplicate_hosts(spec, at);
    }
}

/// A host, or the SNI of a gateway between networks: `outbound_.PORT_.SUBSET_.HOST`.
fn sni_or_host(name: &str, between_networks: bool) -> host::Fault {
    if !between_networks || !name.starts_with("outbound_") {
        return host::wildcard(name);
    }
    let mut parts = name.split('_').skip(1).map(|part| part.trim_matches('.'));
    let (port, _, rest) = (parts.next(), parts.next(), parts.next());
    let fine = port.is_some_and(|port| port.bytes().any(|b| b.is_ascii_digit()))
        && rest.is_some_and(|rest| rest.bytes().any(|b| b.is_ascii_alphabetic()));
    (!fine).then(|| format!("{name:?} must be outbound_.PORT_.SUBSET_.HOST"))
}

fn duplicate_hosts(spec: &VirtualService, at: &At<'_>) {
    let mut earlier = host::Names::default();
    for (index, name) in spec.hosts.iter().enumerate() {
        if let Some(other) = earlier.overlapping(name) {
            at.key("hosts").index(index).error(format!(
                "{name:?} and {other:?} mean the same hosts; keep one of them"
            ));
        }
        earlier.add(name);
    }
}

/// Tokens are verified before routing only where a gateway does it.
fn claims_need_gateway(spec: &VirtualService, at: &At<'_>) {
    if !applies_to_mesh(spec) {
        return;
    }
    at.each("http", &spec.http, |route, at| {
        at.each("match", &route.r#match, |found, at| {
            for (key, names) in [
                ("headers", &found.headers),
                ("withoutHeaders", &found.without_headers),
            ] {
                for name in names.keys().filter(|name| header::is_claim(name)) {
                    at.key(key)
                        .key(name)
                        .error("claims of tokens can be matched at gateways only; name them in gateways");
                }
            }
        });
    });
}

fn tls_route(route: &TlsRoute, spec: &VirtualService, names: &host::Names<'_>, at: &At<'_>) {
    at.key("match")
        .require(!route.r#match.is_empty(), "at least one condition is needed");
    at.each("match", &route.r#match, |found, at| {
        tls_match(found, spec, names, at)
    });
    destinations(&route.route, at);
}

fn tls_match(found: &TlsMatchAttributes, spec: &VirtualService, names: &host::Names<'_>, at: &At<'_>) {
    at.key("sniHosts")
        .require(!found.sni_hosts.is_empty(), "at least one host is needed");
    at.each("sniHosts", &found.sni_hosts, |name, at| {
        if syntax::ip(name).is_some() {
            return at.warning("clients send no IP address as SNI (RFC 6066), so this will hardly match");
        }
        host::report(sni_or_host(name, !applies_to_mesh(spec)), at);
        if names.around(name).is_none() {
            at.error(format!(
                "{name:?} is not among the hosts of the VirtualService, {}",
                some_of(&spec.hosts)
            ));
        }
    });
    subnets(&found.destination_subnets, at);
    l4_conditions(found.port, &found.source_labels, &found.gateways, at);
}

/// The first few names, for people.
fn some_of(names: &[String]) -> String {
    const FEW: usize = 10;
    let few: Vec<&str> = names.iter().take(FEW).map(String::as_str).collect();
    match names.len().saturating_sub(FEW) {
        0 => few.join(", "),
        more => format!("{} and {more} others", few.join(", ")),
    }
}

fn tcp_route(route: &TcpRoute, at: &At<'_>) {
    at.each("match", &route.r#match, |found: &L4MatchAttributes, at| {
        subnets(&found.destination_subnets, at);
        l4_conditions(found.port, &found.source_labels, &found.gateways, at);
    });
    destinations(&route.route, at);
}

fn subnets(subnets: &[String], at: &At<'_>) {
    at.each("destinationSubnets", subnets, |subnet, at| {
        at.require(
            syntax::is_ip_or_range(subnet),
            "must be an IP address or a range such as 10.0.0.0/8",
        );
    });
}

fn l4_conditions(
    port: u32,
    labels: &std::collections::BTreeMap<String, String>,
    gateways: &[String],
    at: &At<'_>,
) {
    if port != 0 {
        super::common::port(port, &at.key("port"));
    }
    meta::check_labels(labels, &at.key("sourceLabels"));
    host::gateways(gateways, at);
}

fn destinations(route: &[RouteDestination], at: &At<'_>) {
    at.key("route")
        .require(!route.is_empty(), "at least one destination is needed");
    at.each("route", route, |target, at| {
        at.some("destination", target.destination.as_ref(), destination)
    });
    weights(route.iter().map(|target| target.weight), at);
}

/// Weights of a route's destinations: not negative, and not all zero where there are several.
pub(super) fn weights(weights: impl ExactSizeIterator<Item = i32>, at: &At<'_>) {
    let at = at.key("route");
    let several = weights.len() > 1;
    let mut total: i64 = 0;
    for (index, weight) in weights.enumerate() {
        total = total.saturating_add(weight.into());
        if weight < 0 {
            at.index(index)
                .key("weight")
                .error(format!("{weight} is negative"));
        }
    }
    if several && total == 0 {
        at.error("the weights of all destinations are 0, so none gets traffic");
    }
    if total > i64::from(u32::MAX) {
        at.error(format!(
            "the weights add up to {total}, more than Envoy's {} allowed",
            u32::MAX
        ));
    }
}

/// A service, and perhaps a subset and a port of it.
pub(super) fn destination(destination: &Destination, at: &At<'_>) {
    match destination.host.as_str() {
        "*" => at.key("host").error("* names no service"),
        host => host::report(host::wildcard(host), &at.key("host")),
    }
    if !destination.subset.is_empty() {
        subset_name(&destination.subset, &at.key("subset"));
    }
    at.some("port", destination.port.as_ref(), port_selector);
}

/// A subset's name: a DNS label, since it is a part of cluster names.
pub(super) fn subset_name(name: &str, at: &At<'_>) {
    if !syntax::is_host_label(name) {
        at.error(format!(
            "{name:?} is not a subset's name: up to 63 letters, digits and hyphens, no hyphen at an end"
        ));
    }
}
