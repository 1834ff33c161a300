//! Rules for the values of annotations on pods (Istio, pkg/kube/inject; what Envoy takes as levels of its log). Injection asks for them
//! too: what is found here is refused there.

use ipnet::IpNet;

/// Longest name of a network interface on Linux.
const MAX_INTERFACE: usize = 15;

/// Levels of Envoy's log (`envoy --help`, `--log-level`).
const LEVELS: &[&str] = &[
    "trace", "debug", "info", "warning", "warn", "error", "critical", "off",
];
/// Longest tag of an image (OCI Distribution Specification, "Pulling manifests").
const MAX_TAG: usize = 128;

/// What is wrong with the value of an annotation of a pod, if anything. Annotations that are not known are fine.
///
/// # Errors
/// In words: the value, the rule, what would be right.
pub fn check(key: &str, value: &str) -> Result<(), String> {
    match key {
        "sidecar.istio.io/interceptionMode" => one_of(value, &["REDIRECT", "TPROXY", "NONE"]),
        "status.sidecar.istio.io/port" => port(value),
        "readiness.status.sidecar.istio.io/initialDelaySeconds"
        | "readiness.status.sidecar.istio.io/periodSeconds"
        | "readiness.status.sidecar.istio.io/failureThreshold" => number(value),
        "traffic.sidecar.istio.io/includeOutboundIPRanges" if value == "*" => Ok(()),
        "traffic.sidecar.istio.io/includeOutboundIPRanges"
        | "traffic.sidecar.istio.io/excludeOutboundIPRanges" => each(value, prefix),
        "traffic.sidecar.istio.io/includeInboundPorts" if value == "*" => Ok(()),
        "traffic.sidecar.istio.io/includeInboundPorts"
        | "traffic.sidecar.istio.io/excludeInboundPorts"
        | "traffic.sidecar.istio.io/excludeOutboundPorts" => each(value.trim(), port),
        "traffic.sidecar.istio.io/excludeInterfaces"
        | "traffic.sidecar.istio.io/kubevirtInterfaces"
        | "istio.io/reroute-virtual-interfaces" => each(value, |name| interface(name.trim())),
        "prometheus.istio.io/merge-metrics" => one_of(
            value,
            &[
                "1", "t", "T", "TRUE", "true", "True", "0", "f", "F", "FALSE", "false", "False",
            ],
        ),
        "proxy.istio.io/config" => proxy_config(value).map(drop),
        "sidecar.istio.io/proxyCPU"
        | "sidecar.istio.io/proxyMemory"
        | "sidecar.istio.io/proxyCPULimit"
        | "sidecar.istio.io/proxyMemoryLimit" => quantity(value),
        "sidecar.istio.io/logLevel" => one_of(value, LEVELS),
        "sidecar.istio.io/componentLogLevel" => each(value, component),
        "sidecar.istio.io/proxyImage" => image(value),
        "sidecar.istio.io/proxyImageType" => flavour(value),
        "sidecar.istio.io/statsInclusionRegexps" => each(value, |one| expression(one.trim())),
        _ => Ok(()),
    }
}

/// The settings that `proxy.istio.io/config` holds: ProxyConfig of MeshConfig, as YAML or JSON.
pub(crate) fn proxy_config(value: &str) -> Result<config::mesh::ProxyConfig, String> {
    let lines: Vec<String> = value.lines().map(|line| format!("  {line}")).collect();
    let text = format!("defaultConfig:\n{}\n", lines.join("\n"));
    let parsed = config::parse_mesh_config("annotation", text.as_bytes(), "");
    if let Some(error) = parsed.findings.iter().find(|finding| finding.is_error()) {
        return Err(error.message.clone());
    }
    let mesh = parsed.objects.into_iter().find_map(|object| match object.spec {
        config::Spec::MeshConfig(mesh) => Some(mesh),
        _ => None,
    });
    Ok(mesh.and_then(|mesh| mesh.default_config).unwrap_or_default())
}

/// A list with commas; empty is fine.
fn each(list: &str, check: impl Fn(&str) -> Result<(), String>) -> Result<(), String> {
    match list.is_empty() {
        true => Ok(()),
        false => list.split(',').try_for_each(check),
    }
}

fn one_of(value: &str, allowed: &[&str]) -> Result<(), String> {
    match allowed.contains(&value) {
        true => Ok(()),
        false => Err(format!("{value:?} is none of {}", allowed.join(", "))),
    }
}

fn number(value: &str) -> Result<(), String> {
    let parsed = value.parse::<u32>();
    parsed
        .map(drop)
        .map_err(|_| format!("{value:?} is not a whole number"))
}

fn port(value: &str) -> Result<(), String> {
    let parsed = value.trim().parse::<u16>();
    parsed.map(drop).map_err(|_| format!("{value:?} is not a port"))
}

fn prefix(value: &str) -> Result<(), String> {
    let parsed = value.parse::<IpNet>();
    parsed
        .map(drop)
        .map_err(|_| format!("{value:?} is not a range such as 10.0.0.0/8"))
}

fn interface(name: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':' | '@');
    // As iptables has it, a + at the end stands for any rest.
    let start = name.strip_suffix('+').unwrap_or(name);
    match !name.is_empty() && name.len() <= MAX_INTERFACE && start.chars().all(allowed) {
        true => Ok(()),
        false => Err(format!("{name:?} is not the name of a network interface")),
    }
}

/// A part of Envoy and its level. Which parts there are, only the image's Envoy knows.
fn component(entry: &str) -> Result<(), String> {
    let (name, level) = entry.split_once(':').unwrap_or_default();
    let known = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    match !name.is_empty() && name.chars().all(known) {
        true => one_of(level, LEVELS),
        false => Err(format!(
            "{entry:?} is not a part of Envoy and its level, such as upstream:debug"
        )),
    }
}

fn image(value: &str) -> Result<(), String> {
    let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/' | ':' | '@');
    match value.starts_with(|c: char| c.is_ascii_alphanumeric()) && value.chars().all(known) {
        true => Ok(()),
        false => Err(format!(
            "{value:?} is not an image such as registry.example/proxy:1.0"
        )),
    }
}

/// The end of an image's tag, behind a hyphen.
fn flavour(value: &str) -> Result<(), String> {
    let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    match !value.is_empty() && value.len() < MAX_TAG && value.chars().all(known) {
        true => Ok(()),
        false => Err(format!("{value:?} is not the end of a tag such as distroless")),
    }
}

fn expression(value: &str) -> Result<(), String> {
    re2::parse(value)
        .map(drop)
        .map_err(|fault| format!("{value:?}: {fault}"))
}

/// A Kubernetes quantity: a decimal number with a suffix (`m`, `k`, `Mi`, `e3`). None of a container's is below 0.
fn quantity(value: &str) -> Result<(), String> {
    let unsigned = value.strip_prefix('+').unwrap_or(value);
    let end = unsigned
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(unsigned.len());
    let (digits, suffix) = unsigned.split_at(end);
    let exponent = suffix
        .strip_prefix(['e', 'E'])
        .is_some_and(|exponent| exponent.parse::<i32>().is_ok());
    let units = [
        "", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei",
    ];
    let is_number = digits.bytes().any(|b| b.is_ascii_digit()) && digits.matches('.').count() <= 1;
    match is_number && (exponent || units.contains(&suffix)) {
        true => Ok(()),
        false => Err(format!("{value:?} is not a quantity such as 100m or 128Mi")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        for (key, value, fine) in [
            ("sidecar.istio.io/interceptionMode", "TPROXY", true),
            ("sidecar.istio.io/interceptionMode", "tproxy", false),
            ("status.sidecar.istio.io/port", "65536", false),
            ("traffic.sidecar.istio.io/includeInboundPorts", "*", true),
            ("traffic.sidecar.istio.io/excludeInboundPorts", "80, 443", true),
            ("traffic.sidecar.istio.io/excludeInboundPorts", "80,", false),
            (
                "traffic.sidecar.istio.io/excludeOutboundIPRanges",
                "10.0.0.0/8,::/0",
                true,
            ),
            (
                "traffic.sidecar.istio.io/excludeOutboundIPRanges",
                "10.0.0.1",
                false,
            ),
            ("sidecar.istio.io/proxyCPU", "100m", true),
            ("sidecar.istio.io/proxyMemory", "1.5Gi", true),
            ("sidecar.istio.io/proxyMemory", "lots", false),
            ("sidecar.istio.io/proxyMemory", "", false),
            ("proxy.istio.io/config", "{}", true),
            (
                "proxy.istio.io/config",
                "concurrency: 2\nholdApplicationUntilProxyStarts: true",
                true,
            ),
            ("proxy.istio.io/config", "concurrency: many", false),
            ("sidecar.istio.io/proxyMemory", "1e3", true),
            ("sidecar.istio.io/proxyMemory", "128MB", false),
            ("sidecar.istio.io/proxyCPULimit", "-1", false),
            ("sidecar.istio.io/logLevel", "warn", true),
            ("sidecar.istio.io/logLevel", "critical", true),
            ("sidecar.istio.io/logLevel", "loud", false),
            ("sidecar.istio.io/logLevel", "Info", false),
            ("sidecar.istio.io/logLevel", "", false),
            ("sidecar.istio.io/componentLogLevel", "", true),
            (
                "sidecar.istio.io/componentLogLevel",
                "upstream:debug,config:off",
                true,
            ),
            (
                "sidecar.istio.io/componentLogLevel",
                "upstream:debug, config:off",
                false,
            ),
            ("sidecar.istio.io/componentLogLevel", "upstream=debug", false),
            ("sidecar.istio.io/componentLogLevel", "upstream:loud", false),
            ("sidecar.istio.io/componentLogLevel", "upstream:debug,", false),
            (
                "sidecar.istio.io/proxyImage",
                "registry.example:5000/mesh/proxy@sha256:00",
                true,
            ),
            ("sidecar.istio.io/proxyImage", "auto", true),
            ("sidecar.istio.io/proxyImage", "", false),
            ("sidecar.istio.io/proxyImage", "proxy 1.0", false),
            ("sidecar.istio.io/proxyImageType", "distroless", true),
            ("sidecar.istio.io/proxyImageType", "", false),
            ("sidecar.istio.io/proxyImageType", "de/bug", false),
            (
                "sidecar.istio.io/statsInclusionRegexps",
                "cluster\\..*, http.*",
                true,
            ),
            ("sidecar.istio.io/statsInclusionRegexps", "cluster(", false),
            ("traffic.sidecar.istio.io/excludeInterfaces", "eth0, tap+", true),
            ("traffic.sidecar.istio.io/kubevirtInterfaces", "a+b", false),
            ("istio.io/reroute-virtual-interfaces", "net 1", false),
            (
                "traffic.sidecar.istio.io/excludeInterfaces",
                "eth0,a-very-long-name-indeed",
                false,
            ),
        ] {
            assert_eq!(check(key, value).is_ok(), fine, "{key}: {value}");
        }
    }
}
