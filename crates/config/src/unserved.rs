//! Fields that are accepted but without effect yet. Each is reported by name when it is set, so that nothing is dropped in
//! silence. One table; whoever makes a field work removes its line.

use serde_json::Value;

use crate::Kind;
use crate::path::At;

/// What is said of such a field.
pub const NO_EFFECT: &str =
    "this field is accepted but has no effect in this release; remove it, or do without what it asks for";

/// What is said of a WorkloadGroup: workloads do not register themselves (docs/kinds.md).
pub const NO_EFFECT_AT_ALL: &str = "objects of this kind are checked but have no effect in this release";

/// Per kind, paths below `spec` (below the object for Kubernetes' kinds): `[]` stands for any item of a list, `{}` for any
/// entry of a map. A path covers all below it.
pub const TABLE: &[(Kind, &[&str])] = &[
    (
        Kind::VirtualService,
        &[
            "http[].fault.delay.exponentialDelay",
            "http[].fault.abort.http2Error",
            "tcp[].match[].sourceSubnet",
        ],
    ),
    (
        Kind::DestinationRule,
        &[
            "trafficPolicy.loadBalancer.zoneAwareLbSetting",
            "trafficPolicy.portLevelSettings[].loadBalancer.zoneAwareLbSetting",
            "subsets[].trafficPolicy.loadBalancer.zoneAwareLbSetting",
            "subsets[].trafficPolicy.portLevelSettings[].loadBalancer.zoneAwareLbSetting",
        ],
    ),
    (Kind::Gateway, &["servers[].defaultEndpoint", "servers[].name"]),
    (
        Kind::EnvoyFilter,
        &[
            "filters",
            "configPatches[].patch.filterClass",
            "configPatches[].match.listener.portName",
            "configPatches[].match.listener.filterChain.transportSocket",
        ],
    ),
    (Kind::Telemetry, &["metrics[].reportingInterval"]),
    (Kind::WasmPlugin, &["imagePullPolicy", "imagePullSecret"]),
    (
        Kind::TrafficExtension,
        &["wasm.imagePullPolicy", "wasm.imagePullSecret"],
    ),
    (
        Kind::MeshConfig,
        &[
            "proxyHttpPort",
            "hboneIdleTimeout",
            "enableEnvoyAccessLogService",
            "disableEnvoyListenerLog",
            "inboundTrafficPolicy",
            "outboundTrafficPolicy.tls",
            "configSources",
            "caCertificates",
            "zoneAwareLbSetting",
            "inboundClusterStatName",
            "outboundClusterStatName",
            "certificates",
            "serviceSettings",
            "serviceScopeConfigs",
            "enablePrometheusMerge",
            "verifyCertificateAtClient",
            "ca",
            "extensionProviders[].lightstep",
            "extensionProviders[].stackdriver",
            "extensionProviders[].opencensus",
            "extensionProviders[].sds",
            "extensionProviders[].opentelemetry.dynatraceSampler",
            "serviceEntryVisibility",
            "enableClientSidePolicyCheck",
            "sidecarToTelemetrySessionAffinity",
            "reportBatchMaxEntries",
            "terminationDrainDuration",
            "defaultInboundHttpRetryPolicy",
            "rdsRefreshDelay",
            "authPolicy",
            "sdsUdsPath",
            "sdsRefreshDelay",
            "enableSdsTokenMount",
            "sdsUseK8sSaJwt",
            "defaultConfig.configPath",
            "defaultConfig.binaryPath",
            "defaultConfig.tracingServiceName",
            "defaultConfig.parentShutdownDuration",
            "defaultConfig.discoveryAddress",
            "defaultConfig.discoveryRefreshDelay",
            "defaultConfig.connectTimeout",
            "defaultConfig.controlPlaneAuthPolicy",
            "defaultConfig.statNameLength",
            "defaultConfig.sds",
            "defaultConfig.tracing.lightstep",
            "defaultConfig.tracing.stackdriver",
            "defaultConfig.tracing.openCensusAgent",
            "defaultConfig.tracing.tlsSettings",
            "defaultConfig.statsdUdpAddress",
            "defaultConfig.envoyMetricsServiceAddress",
            "defaultConfig.envoyAccessLogService",
            "defaultConfig.envoyMetricsService",
            "defaultConfig.availabilityZone",
            "defaultConfig.customConfigFile",
            "defaultConfig.proxyBootstrapTemplatePath",
            "defaultConfig.readinessProbe",
            "defaultConfig.caCertificatesPem",
            "defaultConfig.privateKeyProvider",
            "defaultConfig.proxyHeaders",
            "defaultConfig.fileFlushInterval",
            "defaultConfig.fileFlushMinSizeKb",
            "defaultConfig.statsCompression",
            "defaultConfig.connectionSettings",
        ],
    ),
];

/// Reports the fields of the table that `body` sets.
pub(crate) fn report(kind: Kind, body: &Value, at: &At<'_>) {
    if kind == Kind::WorkloadGroup {
        return at.warning_help(
            NO_EFFECT_AT_ALL,
            "write a WorkloadEntry for each workload, with the template's fields",
        );
    }
    for (_, paths) in TABLE.iter().filter(|(of, _)| *of == kind) {
        for path in *paths {
            visit(path, body, at);
        }
    }
}

/// Follows the pattern `path` through `value` and reports where it ends.
fn visit(path: &str, value: &Value, at: &At<'_>) {
    if path.is_empty() {
        return at.warning(NO_EFFECT);
    }
    if let Some(rest) = path.strip_prefix("[]") {
        let items = value.as_array().into_iter().flatten().enumerate();
        return items.for_each(|(index, item)| visit(rest, item, &at.index(index)));
    }
    if let Some(rest) = path.strip_prefix("{}") {
        let entries = value.as_object().into_iter().flatten();
        return entries.for_each(|(key, value)| visit(rest, value, &at.key(key)));
    }
    let path = path.trim_start_matches('.');
    let (name, rest) = path.split_at(path.find(['.', '[', '{']).unwrap_or(path.len()));
    if let Some(value) = value.get(name) {
        visit(rest, value, &at.key(name));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::path::{Display, Report};

    fn check(path: &str, expected: &[&str]) {
        let body =
            json!({"http": [{"a": 1}, {"match": [{"statPrefix": "x"}]}], "labels": {"x": {"y": 1}, "z": {}}});
        let report = Report::default();
        visit(path, &body, &At::root(&report));
        let seen: Vec<String> = report
            .into_issues()
            .iter()
            .map(|i| Display(&i.path).to_string())
            .collect();
        assert_eq!(seen, expected, "{path}");
    }

    #[test]
    fn patterns() {
        check("http[].match[].statPrefix", &["http[1].match[0].statPrefix"]);
        check("labels{}.y", &["labels.x.y"]);
        check("http", &["http"]);
        check("tcp[].match", &[]);
    }
}
