//! WorkloadEntry (also as an endpoint of a ServiceEntry) and WorkloadGroup with its probe.

use std::collections::BTreeSet;

use super::common::{port, port_name};
use super::host;
use crate::networking::{ReadinessProbe, WorkloadEntry, WorkloadGroup};
use crate::path::At;
use crate::{meta, syntax};

/// Checks a WorkloadEntry.
pub(super) fn entry(entry: &WorkloadEntry, at: &At<'_>) {
    if entry.address.is_empty() {
        match entry.network.is_empty() {
            true => at
                .key("address")
                .error_help("this field is required", "only with network may it be left out"),
            false => at.warning(format!(
                "without address the workload is reached through the network {:?}",
                entry.network
            )),
        }
    }
    common(entry, true, at);
}

/// Checks an endpoint of a ServiceEntry whose ports have these names.
pub(super) fn endpoint(endpoint: &WorkloadEntry, ports: &BTreeSet<&str>, names: bool, at: &At<'_>) {
    if endpoint.address.is_empty() {
        match (names, endpoint.network.is_empty()) {
            (true, _) => at.key("address").error_help(
                "this field is required",
                "give an address or a name to look up, or use resolution STATIC",
            ),
            (false, true) => at
                .key("address")
                .error_help("this field is required", "only with network may it be left out"),
            (false, false) => at.warning(format!(
                "without address the endpoint is reached through the network {:?}",
                endpoint.network
            )),
        }
    }
    common(endpoint, names, at);
    for name in endpoint
        .ports
        .keys()
        .filter(|name| !ports.contains(name.as_str()))
    {
        at.key("ports")
            .key(name)
            .error(format!("the service has no port named {name:?}"));
    }
    let is_socket = endpoint.address.starts_with("unix://");
    if is_socket && names {
        at.key("address").error_help(
            "resolution DNS looks up names, and a Unix socket has none",
            "use resolution STATIC",
        );
    }
    if is_socket && ports.len() != 1 {
        at.key("address")
            .error("a Unix socket serves one port, so the service must have exactly one");
    }
}

/// Rules for all: `names` says whether the address may be a DNS name.
fn common(entry: &WorkloadEntry, names: bool, at: &At<'_>) {
    let address = entry.address.as_str();
    let field = at.key("address");
    if let Some(path) = address.strip_prefix("unix://") {
        host::report(host::unix_path(path), &field);
        if !entry.ports.is_empty() {
            at.key("ports").error("a Unix socket has no ports; remove them");
        }
    } else if !address.is_empty() && syntax::ip(address).is_none() {
        match names {
            true if host::dns_name(address).is_none() => {}
            true => field.error(format!("{address:?} is neither an IP address nor a DNS name")),
            false => field.error(format!(
                "{address:?} is not an IP address; names need a resolution by DNS"
            )),
        }
    }
    for (name, number) in &entry.ports {
        let at = at.key("ports");
        port_name(name, &at.key(name));
        port(*number, &at.key(name));
    }
    meta::check_labels(&entry.labels, &at.key("labels"));
}

/// Checks a WorkloadGroup.
pub(super) fn group(spec: &WorkloadGroup, at: &At<'_>) {
    at.some("metadata", spec.metadata.as_ref(), |metadata, at| {
        meta::check_labels(&metadata.labels, &at.key("labels"));
    });
    at.some("template", spec.template.as_ref(), |template, at| {
        common(template, true, at)
    });
    at.some("probe", spec.probe.as_ref(), probe);
}

/// A readiness probe of a WorkloadGroup or of ProxyConfig.
pub(super) fn probe(probe: &ReadinessProbe, at: &At<'_>) {
    let methods = [
        probe.http_get.is_some(),
        probe.tcp_socket.is_some(),
        probe.exec.is_some(),
        probe.grpc.is_some(),
    ];
    at.require(
        methods.contains(&true),
        "no method is given; httpGet, tcpSocket, exec or grpc is needed",
    );
    at.some("httpGet", probe.http_get.as_ref(), |http, at| {
        port(http.port, &at.key("port"));
        at.each("httpHeaders", &http.http_headers, |header, at| {
            let fine = !header.name.is_empty()
                && (header.name.bytes()).all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
            at.key("name")
                .require(fine, "a header's name is made of letters, digits and '-'");
        });
        if !matches!(http.scheme.as_str(), "" | "HTTP" | "HTTPS") {
            at.key("scheme")
                .error(format!("{:?} is neither HTTP nor HTTPS", http.scheme));
        }
    });
    at.some("tcpSocket", probe.tcp_socket.as_ref(), |tcp, at| {
        port(tcp.port, &at.key("port"))
    });
    at.some("grpc", probe.grpc.as_ref(), |grpc, at| {
        port(grpc.port, &at.key("port"))
    });
    at.some("exec", probe.exec.as_ref(), |exec, at| {
        at.key("command")
            .require(!exec.command.is_empty(), "this field is required");
    });
}
