//! Names that pods, users and the agent know one another by. All are Istio's
//! (<https://istio.io/latest/docs/reference/config/annotations/>, <https://istio.io/latest/docs/reference/config/labels/>).

/// The proxy's container.
pub const PROXY: &str = "istio-proxy";
/// The init container that redirects the pod's traffic.
pub const INIT: &str = "istio-init";
/// The user that the proxy runs as; traffic of this user is not redirected.
pub const PROXY_USER: i64 = 1337;
/// An image that stands for the settings' one, in a container that the user wrote to change the proxy's.
pub const AUTO: &str = "auto";

/// Label and, older, annotation of a pod: `true` or `false`.
pub const INJECT: &str = "sidecar.istio.io/inject";
/// Label of a namespace: `enabled` or `disabled`.
pub const INJECTION: &str = "istio-injection";
/// Label of a namespace or pod that chooses a control plane.
pub const REVISION: &str = "istio.io/rev";
/// Annotation: the templates to use instead of the default ones, with commas.
pub const TEMPLATES: &str = "inject.istio.io/templates";
/// Annotation that injection leaves behind: what it added.
pub const STATUS: &str = "sidecar.istio.io/status";
/// Annotation that injection leaves behind: the user's own container for the proxy, to be laid over it again.
pub const OVERRIDES: &str = "proxy.istio.io/overrides";
/// Annotation: ProxyConfig of MeshConfig as YAML or JSON, laid over the mesh's.
pub const PROXY_CONFIG: &str = "proxy.istio.io/config";

/// Annotation: the proxy's image.
pub const PROXY_IMAGE: &str = "sidecar.istio.io/proxyImage";
/// Annotation: the flavour of the settings' image, such as `distroless`.
pub const PROXY_IMAGE_TYPE: &str = "sidecar.istio.io/proxyImageType";
/// Annotation: CPU requested.
pub const CPU: &str = "sidecar.istio.io/proxyCPU";
/// Annotation: most CPU.
pub const CPU_LIMIT: &str = "sidecar.istio.io/proxyCPULimit";
/// Annotation: memory requested.
pub const MEMORY: &str = "sidecar.istio.io/proxyMemory";
/// Annotation: most memory.
pub const MEMORY_LIMIT: &str = "sidecar.istio.io/proxyMemoryLimit";
/// Annotation: Envoy's log level.
pub const LOG_LEVEL: &str = "sidecar.istio.io/logLevel";
/// Annotation: log levels of Envoy's parts.
pub const COMPONENT_LOG_LEVEL: &str = "sidecar.istio.io/componentLogLevel";
/// Annotation: the agent's log level.
pub const AGENT_LOG_LEVEL: &str = "sidecar.istio.io/agentLogLevel";
/// Annotation: REDIRECT, TPROXY or NONE.
pub const INTERCEPTION: &str = "sidecar.istio.io/interceptionMode";
/// Annotation: `true` has the kubelet's probes pass through the agent.
pub const REWRITE_PROBES: &str = "sidecar.istio.io/rewriteAppHTTPProbers";
/// Annotation: `true` or `false`, whether the proxy is a native sidecar.
pub const NATIVE: &str = "sidecar.istio.io/nativeSidecar";
/// Annotation: further volumes, a JSON object by name.
pub const USER_VOLUME: &str = "sidecar.istio.io/userVolume";
/// Annotation: further mounts of the proxy, a JSON object by volume.
pub const USER_VOLUME_MOUNT: &str = "sidecar.istio.io/userVolumeMount";
/// Annotation: the agent's port; 0 is none.
pub const STATUS_PORT: &str = "status.sidecar.istio.io/port";
/// Annotation: seconds before the first readiness probe.
pub const READINESS_DELAY: &str = "readiness.status.sidecar.istio.io/initialDelaySeconds";
/// Annotation: seconds between readiness probes.
pub const READINESS_PERIOD: &str = "readiness.status.sidecar.istio.io/periodSeconds";
/// Annotation: failed readiness probes before the proxy is not ready.
pub const READINESS_FAILURES: &str = "readiness.status.sidecar.istio.io/failureThreshold";
/// Annotation: ranges of destinations that are redirected; `*` is all.
pub const INCLUDE_RANGES: &str = "traffic.sidecar.istio.io/includeOutboundIPRanges";
/// Annotation: ranges of destinations that are not.
pub const EXCLUDE_RANGES: &str = "traffic.sidecar.istio.io/excludeOutboundIPRanges";
/// Annotation: ports whose incoming traffic is redirected; `*` is all.
pub const INCLUDE_INBOUND: &str = "traffic.sidecar.istio.io/includeInboundPorts";
/// Annotation: ports whose incoming traffic is not.
pub const EXCLUDE_INBOUND: &str = "traffic.sidecar.istio.io/excludeInboundPorts";
/// Annotation: destination ports that are redirected whatever the address.
pub const INCLUDE_OUTBOUND: &str = "traffic.sidecar.istio.io/includeOutboundPorts";
/// Annotation: destination ports that are not.
pub const EXCLUDE_OUTBOUND: &str = "traffic.sidecar.istio.io/excludeOutboundPorts";
/// Annotation: interfaces whose traffic is not redirected.
pub const EXCLUDE_INTERFACES: &str = "traffic.sidecar.istio.io/excludeInterfaces";
/// Annotation: interfaces of virtual machines, whose incoming traffic is outgoing.
pub const VIRTUAL_INTERFACES: &str = "traffic.sidecar.istio.io/kubevirtInterfaces";
/// Annotation: newer name of [`VIRTUAL_INTERFACES`].
pub const REROUTE_INTERFACES: &str = "istio.io/reroute-virtual-interfaces";
/// Annotation: `false` leaves the pod's own metrics page alone.
pub const MERGE_METRICS: &str = "prometheus.istio.io/merge-metrics";

/// Label: what the peer may expect, `istio` or `disabled`.
pub const TLS_MODE: &str = "security.istio.io/tlsMode";
/// Label: what telemetry calls the workload.
pub const CANONICAL_NAME: &str = "service.istio.io/canonical-name";
/// Label: the version that telemetry tells.
pub const CANONICAL_REVISION: &str = "service.istio.io/canonical-revision";
/// Label: the network of the pod's address.
pub const NETWORK: &str = "topology.istio.io/network";

/// Annotation: names of statistics that are kept too, expressions with commas; the agent reads it.
pub const STATS_REGEXPS: &str = "sidecar.istio.io/statsInclusionRegexps";

/// Port of Envoy's own metrics.
pub const PROMETHEUS_PORT: u16 = 15090;
/// Port of the health check that goes through Envoy.
pub const HEALTH_PORT: u16 = 15021;
/// Port of outgoing traffic.
pub const OUTBOUND_PORT: u16 = 15001;
/// Port of incoming traffic.
pub const INBOUND_PORT: u16 = 15006;

/// Annotations that others of Istio's and of ours read: the agent, Pilot, people's tools.
const OTHERS: [&str; 4] = [
    "sidecar.istio.io/statsInclusionPrefixes",
    "sidecar.istio.io/statsInclusionSuffixes",
    STATS_REGEXPS,
    "sidecar.istio.io/extraStatTags",
];
/// All that the injector itself reads of a pod's annotations.
const KNOWN: [&str; 31] = [
    INJECT,
    TEMPLATES,
    STATUS,
    OVERRIDES,
    PROXY_CONFIG,
    PROXY_IMAGE,
    PROXY_IMAGE_TYPE,
    CPU,
    CPU_LIMIT,
    MEMORY,
    MEMORY_LIMIT,
    LOG_LEVEL,
    COMPONENT_LOG_LEVEL,
    AGENT_LOG_LEVEL,
    INTERCEPTION,
    REWRITE_PROBES,
    NATIVE,
    USER_VOLUME,
    USER_VOLUME_MOUNT,
    STATUS_PORT,
    READINESS_DELAY,
    READINESS_PERIOD,
    READINESS_FAILURES,
    INCLUDE_RANGES,
    EXCLUDE_RANGES,
    INCLUDE_INBOUND,
    EXCLUDE_INBOUND,
    INCLUDE_OUTBOUND,
    EXCLUDE_OUTBOUND,
    EXCLUDE_INTERFACES,
    VIRTUAL_INTERFACES,
];

/// Whether an annotation is of a group that the injector reads, and none that is known: a slip of the pen, or one that has no effect here.
pub(crate) fn is_unknown(name: &str) -> bool {
    let group = name.split('/').next().unwrap_or_default();
    let ours =
        group == "inject.istio.io" || group == "sidecar.istio.io" || group.ends_with(".sidecar.istio.io");
    ours && !KNOWN.contains(&name) && !OTHERS.contains(&name)
}
