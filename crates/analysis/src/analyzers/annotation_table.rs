//! The annotations of Istio's API: how mature each is and on which kinds it has an effect (istio.io/api, annotation).

/// How mature a feature is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Alpha,
    Beta,
    Stable,
}

/// What is known of an annotation.
#[derive(Debug)]
pub(crate) struct Annotation {
    pub(crate) name: &'static str,
    pub(crate) stage: Stage,
    pub(crate) deprecated: bool,
    /// Kinds that it has an effect on; `Any` for all.
    pub(crate) kinds: &'static [&'static str],
}

/// The annotation of that name.
pub(crate) fn find(name: &str) -> Option<&'static Annotation> {
    TABLE.iter().find(|annotation| annotation.name == name)
}

const fn of(
    name: &'static str,
    stage: Stage,
    deprecated: bool,
    kinds: &'static [&'static str],
) -> Annotation {
    Annotation {
        name,
        stage,
        deprecated,
        kinds,
    }
}

const POD: &[&str] = &["Pod"];
const OLD: bool = true;
const NEW: bool = false;

use Stage::{Alpha, Beta, Stable};

#[rustfmt::skip]
const TABLE: &[Annotation] = &[
    of("alpha.istio.io/canonical-serviceaccounts", Alpha, OLD, &["Service"]),
    of("alpha.istio.io/kubernetes-serviceaccounts", Alpha, OLD, &["Service"]),
    of("ambient.istio.io/bypass-inbound-capture", Alpha, NEW, POD),
    of("ambient.istio.io/dns-capture", Alpha, NEW, POD),
    of("ambient.istio.io/redirection", Beta, NEW, POD),
    of("ambient.istio.io/waypoint-inbound-binding", Alpha, NEW, &["GatewayClass", "Gateway"]),
    of("galley.istio.io/analyze-suppress", Alpha, NEW, &["Any"]),
    of("gateway.istio.io/controller-version", Alpha, NEW, &["Any"]),
    of("gateway.istio.io/name-override", Alpha, NEW, &["Gateway"]),
    of("gateway.istio.io/service-account", Alpha, NEW, &["Gateway"]),
    of("inject.istio.io/templates", Alpha, NEW, POD),
    of("istio.io/autoRegistrationGroup", Alpha, NEW, &["WorkloadEntry"]),
    of("istio.io/connectedAt", Alpha, NEW, &["WorkloadEntry"]),
    of("istio.io/disconnectedAt", Alpha, NEW, &["WorkloadEntry"]),
    of("istio.io/dry-run", Alpha, NEW, &["AuthorizationPolicy"]),
    of("istio.io/reroute-virtual-interfaces", Alpha, NEW, POD),
    of("istio.io/rev", Alpha, NEW, POD),
    of("istio.io/use-waypoint-canary-weight", Alpha, NEW, &["Service", "ServiceEntry", "Namespace"]),
    of("istio.io/workloadController", Alpha, NEW, &["WorkloadEntry"]),
    of("kubernetes.io/ingress.class", Stable, NEW, &["Ingress"]),
    of("networking.istio.io/exportTo", Alpha, NEW, &["Service"]),
    of("networking.istio.io/service-type", Alpha, NEW, &["Gateway"]),
    of("networking.istio.io/traffic-distribution", Alpha, NEW, &["Namespace", "Service", "ServiceEntry"]),
    of("policy.istio.io/check", Alpha, NEW, POD),
    of("prometheus.istio.io/merge-metrics", Alpha, NEW, POD),
    of("proxy.istio.io/config", Beta, NEW, POD),
    of("proxy.istio.io/overrides", Alpha, NEW, POD),
    of("readiness.status.sidecar.istio.io/applicationPorts", Alpha, NEW, POD),
    of("readiness.status.sidecar.istio.io/failureThreshold", Alpha, NEW, POD),
    of("readiness.status.sidecar.istio.io/initialDelaySeconds", Alpha, NEW, POD),
    of("readiness.status.sidecar.istio.io/periodSeconds", Alpha, NEW, POD),
    of("sidecar.istio.io/agentLogLevel", Alpha, NEW, POD),
    of("sidecar.istio.io/bootstrapOverride", Alpha, NEW, POD),
    of("sidecar.istio.io/componentLogLevel", Alpha, NEW, POD),
    of("sidecar.istio.io/discoveryAddress", Alpha, OLD, POD),
    of("sidecar.istio.io/extraStatTags", Alpha, OLD, POD),
    of("sidecar.istio.io/inject", Beta, OLD, POD),
    of("sidecar.istio.io/interceptionMode", Alpha, NEW, POD),
    of("sidecar.istio.io/logLevel", Alpha, NEW, POD),
    of("sidecar.istio.io/nativeSidecar", Alpha, NEW, POD),
    of("sidecar.istio.io/proxyCPU", Alpha, NEW, POD),
    of("sidecar.istio.io/proxyCPULimit", Alpha, NEW, POD),
    of("sidecar.istio.io/proxyImage", Alpha, NEW, POD),
    of("sidecar.istio.io/proxyImageType", Alpha, NEW, POD),
    of("sidecar.istio.io/proxyMemory", Alpha, NEW, POD),
    of("sidecar.istio.io/proxyMemoryLimit", Alpha, NEW, POD),
    of("sidecar.istio.io/rewriteAppHTTPProbers", Alpha, NEW, POD),
    of("sidecar.istio.io/statsCompression", Alpha, OLD, POD),
    of("sidecar.istio.io/statsEvictionInterval", Alpha, NEW, POD),
    of("sidecar.istio.io/statsFlushInterval", Alpha, NEW, POD),
    of("sidecar.istio.io/statsHistogramBins", Alpha, NEW, POD),
    of("sidecar.istio.io/statsHistogramBuckets", Alpha, NEW, POD),
    of("sidecar.istio.io/statsInclusionPrefixes", Alpha, OLD, POD),
    of("sidecar.istio.io/statsInclusionRegexps", Alpha, OLD, POD),
    of("sidecar.istio.io/statsInclusionSuffixes", Alpha, OLD, POD),
    of("sidecar.istio.io/status", Alpha, NEW, POD),
    of("sidecar.istio.io/userVolume", Alpha, NEW, POD),
    of("sidecar.istio.io/userVolumeMount", Alpha, NEW, POD),
    of("status.sidecar.istio.io/port", Alpha, NEW, POD),
    of("topology.istio.io/controlPlaneClusters", Alpha, NEW, &["Namespace"]),
    of("traffic.istio.io/nodeSelector", Stable, NEW, &["Service"]),
    of("traffic.sidecar.istio.io/excludeInboundPorts", Alpha, NEW, POD),
    of("traffic.sidecar.istio.io/excludeInterfaces", Alpha, NEW, POD),
    of("traffic.sidecar.istio.io/excludeOutboundIPRanges", Alpha, NEW, POD),
    of("traffic.sidecar.istio.io/excludeOutboundPorts", Alpha, NEW, POD),
    of("traffic.sidecar.istio.io/includeInboundPorts", Alpha, NEW, POD),
    of("traffic.sidecar.istio.io/includeOutboundIPRanges", Alpha, NEW, POD),
    of("traffic.sidecar.istio.io/includeOutboundPorts", Alpha, NEW, POD),
    of("traffic.sidecar.istio.io/kubevirtInterfaces", Alpha, OLD, POD),
];
