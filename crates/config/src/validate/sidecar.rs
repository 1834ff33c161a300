//! Sidecar: ingress and egress listeners and the policy for unknown hosts.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::common::{labels_selector, port_name, protocol};
use super::host::{self, Owner};
use super::virtual_service::destination;
use super::{connection_pool, gateway};
use crate::networking::{
    CaptureMode, IstioEgressListener, IstioIngressListener, OutboundTrafficPolicy, OutboundTrafficPolicyMode,
    ServerTlsMode, ServerTlsSettings, Sidecar, SidecarPort,
};
use crate::path::At;
use crate::{Meta, Protocol, syntax};

/// Checks a Sidecar.
pub(super) fn check(spec: &Sidecar, meta: &Meta, at: &At<'_>) {
    labels_selector(spec.workload_selector.as_ref(), at);
    let empty = spec.egress.is_empty()
        && spec.ingress.is_empty()
        && spec.outbound_traffic_policy.is_none()
        && spec.inbound_connection_pool.is_none();
    if empty {
        at.error("nothing is configured; ingress, egress, outboundTrafficPolicy or inboundConnectionPool is needed");
    }
    at.each("ingress", &spec.ingress, ingress);
    unique_ports(
        spec.ingress
            .iter()
            .map(|listener| (listener.bind.as_str(), listener.port.as_ref())),
        "ingress",
        at,
    );
    at.some(
        "inboundConnectionPool",
        spec.inbound_connection_pool.as_ref(),
        connection_pool::check,
    );
    at.each("egress", &spec.egress, |listener, at| egress(listener, meta, at));
    unique_ports(
        spec.egress
            .iter()
            .map(|listener| (listener.bind.as_str(), listener.port.as_ref())),
        "egress",
        at,
    );
    catch_all_last(&spec.egress, at);
    at.some(
        "outboundTrafficPolicy",
        spec.outbound_traffic_policy.as_ref(),
        outbound_policy,
    );
}

/// Listeners of one direction have different ports, or different sockets.
fn unique_ports<'a>(ports: impl Iterator<Item = (&'a str, Option<&'a SidecarPort>)>, key: &str, at: &At<'_>) {
    let mut seen = BTreeSet::new();
    for (index, (bind, port)) in ports.enumerate() {
        let Some(port) = port else { continue };
        let socket = if port.number == 0 { bind } else { "" };
        if !seen.insert((port.number, socket)) {
            let message =
                "another listener has the same port or socket; listeners of a workload need different ones";
            at.key(key).index(index).key("port").error(message);
        }
    }
}

fn listener_port(port: &SidecarPort, at: &At<'_>) {
    if !port.name.is_empty() {
        port_name(&port.name, &at.key("name"));
    }
    protocol(&port.protocol, &at.key("protocol"));
    if port.target_port != 0 {
        at.key("targetPort")
            .error("has no effect in a Sidecar; remove it");
    }
}

fn bind_address(bind: &str, at: &At<'_>) {
    if !bind.is_empty() && syntax::ip(bind).is_none() {
        at.key("bind").error(format!("{bind:?} is not an IP address"));
    }
}

fn ingress(listener: &IstioIngressListener, at: &At<'_>) {
    let Some(port) = &listener.port else { return };
    listener_port(port, &at.key("port"));
    super::common::port(port.number, &at.key("port").key("number"));
    bind_address(&listener.bind, at);
    if !listener.default_endpoint.is_empty() {
        default_endpoint(
            &listener.default_endpoint,
            listener.capture_mode,
            &at.key("defaultEndpoint"),
        );
    }
    at.some("tls", listener.tls.as_ref(), |tls, at| ingress_tls(tls, port, at));
    at.some(
        "connectionPool",
        listener.connection_pool.as_ref(),
        connection_pool::check,
    );
    let http_settings = listener
        .connection_pool
        .as_ref()
        .is_some_and(|pool| pool.http.is_some());
    if http_settings && !Protocol::parse(&port.protocol).is_some_and(Protocol::is_http) {
        at.key("connectionPool")
            .key("http")
            .warning("the port's protocol is not HTTP, so these have no effect");
    }
}

/// Where the application listens: the loopback, all addresses, a Unix socket; any address where traffic is not captured,
/// since then the workload may have one of its own.
fn default_endpoint(endpoint: &str, capture: CaptureMode, at: &At<'_>) {
    if let Some(path) = endpoint.strip_prefix("unix://") {
        return host::report(host::unix_path(path), at);
    }
    let (host, port) = endpoint.rsplit_once(':').unwrap_or((endpoint, ""));
    if !port.parse::<u32>().is_ok_and(syntax::is_port) {
        at.error(format!("{endpoint:?} has no port from 1 to 65535 after a colon"));
    }
    let host = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    let fine = match syntax::ip(host) {
        _ if host.is_empty() => true,
        Some(ip) => {
            ip.is_loopback() || ip.is_unspecified() || (capture == CaptureMode::None && !is_multicast(ip))
        }
        None => false,
    };
    at.require(
        fine,
        "must be 127.0.0.1:PORT, 0.0.0.0:PORT, [::1]:PORT, [::]:PORT or unix:///PATH; another IP with captureMode NONE only",
    );
}

fn is_multicast(ip: IpAddr) -> bool {
    ip.is_multicast()
}

fn ingress_tls(tls: &ServerTlsSettings, port: &SidecarPort, at: &At<'_>) {
    let unsupported = [
        ("subjectAltNames", !tls.subject_alt_names.is_empty()),
        ("httpsRedirect", tls.https_redirect),
        ("credentialName", !tls.credential_name.is_empty()),
        ("credentialNames", !tls.credential_names.is_empty()),
        ("tlsCertificates", !tls.tls_certificates.is_empty()),
    ];
    for (key, _) in unsupported.iter().filter(|(_, given)| *given) {
        at.key(key).error("cannot be used at a sidecar; remove it");
    }
    if matches!(
        tls.mode,
        ServerTlsMode::IstioMutual | ServerTlsMode::AutoPassthrough
    ) {
        at.key("mode")
            .error(format!("{} cannot be used at a sidecar", tls.mode.as_str()));
    }
    if !Protocol::parse(&port.protocol).is_some_and(Protocol::is_tls) {
        at.error("of no use on a port that is neither HTTPS nor TLS; remove it or change port.protocol");
    }
    gateway::tls(tls, at);
}

fn egress(listener: &IstioEgressListener, meta: &Meta, at: &At<'_>) {
    if let Some(port) = &listener.port {
        listener_port(port, &at.key("port"));
        match port.number {
            0 => unix_listener(listener, at),
            number => {
                super::common::port(number, &at.key("port").key("number"));
                bind_address(&listener.bind, at);
            }
        }
    }
    at.key("hosts")
        .require(!listener.hosts.is_empty(), "at least one host is needed");
    at.each("hosts", &listener.hosts, |entry, at| {
        host::within_namespace(entry, Owner::Sidecar, at)
    });
    repeated_hosts(&listener.hosts, &meta.namespace, at);
}

/// A listener with port 0 is a Unix socket.
fn unix_listener(listener: &IstioEgressListener, at: &At<'_>) {
    match listener.bind.strip_prefix("unix://") {
        Some(path) => host::report(host::unix_path(path), &at.key("bind")),
        None => at
            .key("port")
            .key("number")
            .error("0 is for Unix sockets, with bind unix:///PATH"),
    }
    if listener.capture_mode == CaptureMode::Iptables {
        at.key("captureMode")
            .error("traffic to a Unix socket cannot be captured; use NONE");
    }
}

/// Entries that others of the list include.
fn repeated_hosts(entries: &[String], namespace: &str, at: &At<'_>) {
    let mut seen: BTreeSet<(&str, &str)> = BTreeSet::new();
    for (index, entry) in entries.iter().enumerate() {
        let Some((of, host)) = entry.split_once('/').filter(|(of, _)| !of.starts_with('~')) else {
            continue;
        };
        let of = if of == "." { namespace } else { of };
        if seen.contains(&(of, "*")) || !seen.insert((of, host)) {
            at.key("hosts")
                .index(index)
                .warning(format!("{entry:?} is included in an entry before it"));
        }
    }
    if seen.contains(&("*", "*")) && seen.len() > 1 {
        at.key("hosts")
            .warning("*/* means all hosts; the other entries have no effect");
    }
}

/// The listener without port takes what the others leave, so it stands last.
fn catch_all_last(egress: &[IstioEgressListener], at: &At<'_>) {
    for (index, _) in egress
        .iter()
        .enumerate()
        .rev()
        .skip(1)
        .filter(|(_, listener)| listener.port.is_none())
    {
        at.key("egress")
            .index(index)
            .error("only the last listener may have no port: it takes what the others leave");
    }
}

fn outbound_policy(policy: &OutboundTrafficPolicy, at: &At<'_>) {
    at.some("egressProxy", policy.egress_proxy.as_ref(), |proxy, at| {
        if policy.mode != OutboundTrafficPolicyMode::AllowAny {
            at.error("takes unknown traffic, so it needs mode ALLOW_ANY");
        }
        host::report(host::dns_name(&proxy.host), &at.key("host"));
        at.key("port")
            .require(proxy.port.is_some(), "this field is required");
        destination(proxy, at);
    });
}
