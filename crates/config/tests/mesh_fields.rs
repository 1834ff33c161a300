//! No field of MeshConfig and of its ProxyConfig is silent: each is followed by a component, or named as without effect.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may fail loudly"
)]

use std::collections::BTreeSet;

use config::{Kind, Severity, Spec, unserved};
use serde_json::Value;

/// Fields that a component follows; where it follows a part only, the rest is in the table of what has no effect. Pilot follows
/// them where nothing else is said.
const MESH: &[&str] = &[
    "accessLogEncoding",
    "accessLogFile",
    "accessLogFormat",
    "connectTimeout",
    "defaultConfig",
    "defaultDestinationRuleExportTo",
    "defaultHttpRetryPolicy",
    "defaultProviders",
    "defaultServiceExportTo",
    "defaultTrafficPolicy",
    "defaultVirtualServiceExportTo",
    "disableMixerHttpReports",
    "disablePolicyChecks",
    "disableReportBatch",
    "discoverySelectors", // Galley
    "dnsRefreshRate",
    "enableAutoMtls",
    "enableTracing",
    "extensionProviders",
    "h2UpgradePolicy",
    "ingressClass",
    "ingressControllerMode",
    "ingressSelector",
    "ingressService",
    "localityLbSetting",
    "meshMTLS",
    "mixerCheckServer",
    "mixerReportServer",
    "outboundTrafficPolicy",
    "pathNormalization",
    "policyCheckFailOpen",
    "protocolDetectionTimeout",
    "proxyInboundListenPort",
    "proxyListenPort",
    "reportBatchMaxTime",
    "rootNamespace",
    "tcpKeepalive",
    "tlsDefaults",
    "trustDomain",
    "trustDomainAliases",
];

/// The same of `defaultConfig`: the agent's and the injector's, and Pilot's where it is said.
const PROXY: &[&str] = &[
    "concurrency",
    "drainDuration",
    "extraStatTags",
    "gatewayTopology", // Pilot
    "holdApplicationUntilProxyStarts",
    "image",
    "interceptionMode",
    "meshId",
    "proxyAdminPort",
    "proxyMetadata",
    "proxyStatsMatcher",
    "runtimeValues",
    "serviceCluster",
    "statusPort",
    "terminationDrainDuration",
    "tracing",       // Pilot
    "zipkinAddress", // Pilot
];

fn names(properties: &Value) -> BTreeSet<&str> {
    let properties = properties["properties"].as_object().unwrap();
    properties.keys().map(String::as_str).collect()
}

/// Whole fields, not parts of them, that the table names below `prefix`.
fn without_effect(prefix: &str) -> Vec<&'static str> {
    let (_, paths) = unserved::TABLE
        .iter()
        .find(|(kind, _)| *kind == Kind::MeshConfig)
        .unwrap();
    let below = paths.iter().filter_map(|path| path.strip_prefix(prefix));
    below.filter(|path| !path.contains(['.', '['])).collect()
}

fn check(fields: &BTreeSet<&str>, served: &[&'static str], prefix: &str) {
    let mut said: Vec<&str> = [served, &without_effect(prefix)].concat();
    said.sort_unstable();
    assert_eq!(said, fields.iter().copied().collect::<Vec<_>>());
}

#[test]
fn each_field_is_followed_or_named() {
    let schema = Spec::schema(Kind::MeshConfig).to_value();
    check(&names(&schema), MESH, "");
    check(&names(&schema["$defs"]["ProxyConfig"]), PROXY, "defaultConfig.");
}

#[test]
fn what_nobody_follows_is_said() {
    let mesh = "
authPolicy: MUTUAL_TLS
sdsUdsPath: unix:/a
defaultInboundHttpRetryPolicy: {attempts: 1}
extensionProviders:
- name: traces
  opentelemetry: {service: a.example.com, port: 4317, dynatraceSampler: {tenant: a, clusterId: 1}}
defaultConfig: {discoveryAddress: \"a:1\", statNameLength: 100, statusPort: 15020, runtimeValues: {a: b}}
";
    let parsed = config::parse_mesh_config("mesh.yaml", mesh.as_bytes(), "istio-system");
    let seen: BTreeSet<&str> = parsed
        .findings
        .iter()
        .filter(|finding| finding.severity == Severity::Warning && finding.message == unserved::NO_EFFECT)
        .map(|finding| finding.path.as_str())
        .collect();
    let expected = [
        "authPolicy",
        "defaultConfig.discoveryAddress",
        "defaultConfig.statNameLength",
        "defaultInboundHttpRetryPolicy",
        "extensionProviders[0].opentelemetry.dynatraceSampler",
        "sdsUdsPath",
    ];
    assert_eq!(seen, BTreeSet::from(expected), "{:#?}", parsed.findings);
}
