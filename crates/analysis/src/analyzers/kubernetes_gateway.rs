//! Gateway API: policies that select its gateways by labels, and definitions that are too old.

use config::selector::WorkloadSelector;
use config::{Kind, Object, Spec};

use crate::analyzer::Check;
use crate::{Analyzer, Code, Report, Set};

/// Whether policies try to select gateways of Gateway API by labels.
pub(crate) const SELECTORS: Analyzer = Analyzer::new(
    "k8sgateway.SelectorAnalyzer",
    "Policies that select Gateway API's gateways by labels",
    &[Code::IneffectiveSelector],
    &[
        Kind::AuthorizationPolicy,
        Kind::RequestAuthentication,
        Kind::Telemetry,
        Kind::WasmPlugin,
        Kind::Pod,
    ],
    Check::Each(POLICIES, selectors),
);

/// Whether Gateway API's definitions are as new as Istio needs.
pub(crate) const DEFINITIONS: Analyzer = Analyzer::new(
    "k8sgateway.CRDVersionAnalyzer",
    "Gateway API definitions that are too old to be read",
    &[Code::GatewayAPICRDVersionBelowMinimum],
    &[Kind::CustomResourceDefinition],
    Check::Each(&[Kind::CustomResourceDefinition], definitions),
);

/// Label that a gateway's pods have.
const GATEWAY_NAME: &str = "gateway.networking.k8s.io/gateway-name";
/// Annotation of a definition with Gateway API's release.
const BUNDLE_VERSION: &str = "gateway.networking.k8s.io/bundle-version";

/// The oldest release of each definition that is read (Istio, pkg/config/schema/gatewayapi).
const OLDEST: [(&str, [u64; 3]); 4] = [
    ("grpcroutes.gateway.networking.k8s.io", [1, 1, 0]),
    ("backendtlspolicies.gateway.networking.k8s.io", [1, 4, 0]),
    ("tlsroutes.gateway.networking.k8s.io", [1, 5, 0]),
    ("tcproutes.gateway.networking.k8s.io", [1, 6, 0]),
];

/// Policies that can select workloads by labels.
const POLICIES: &[Kind] = &[
    Kind::AuthorizationPolicy,
    Kind::RequestAuthentication,
    Kind::Telemetry,
    Kind::WasmPlugin,
];

/// A policy's selector, unless it names what it is for.
fn selector(object: &Object) -> Option<&WorkloadSelector> {
    let (selector, target, targets) = match &object.spec {
        Spec::AuthorizationPolicy(p) => (&p.selector, &p.target_ref, &p.target_refs),
        Spec::RequestAuthentication(p) => (&p.selector, &p.target_ref, &p.target_refs),
        Spec::Telemetry(p) => (&p.selector, &p.target_ref, &p.target_refs),
        Spec::WasmPlugin(p) => (&p.selector, &p.target_ref, &p.target_refs),
        _ => return None,
    };
    let by_name = target.is_some() || !targets.is_empty();
    selector.as_ref().filter(|_| !by_name)
}

fn selectors(set: &Set<'_>, object: &Object, report: &mut Report) {
    let Some(selector) = selector(object) else {
        return;
    };
    for (pod, _) in set.pods(&selector.match_labels, Some(&object.meta.namespace)) {
        if let Some(gateway) = pod.meta.labels.get(GATEWAY_NAME) {
            report.say(Code::IneffectiveSelector, object, "spec.selector", &[gateway]);
        }
    }
}

fn definitions(_: &Set<'_>, object: &Object, report: &mut Report) {
    let name = object.meta.name.as_str();
    let oldest = OLDEST.iter().find(|(definition, _)| *definition == name);
    let given = object.meta.annotations.get(BUNDLE_VERSION);
    let (Some((_, oldest)), Some(given)) = (oldest, given) else {
        return;
    };
    if version(given).is_some_and(|given| given < *oldest) {
        let [major, minor, patch] = oldest;
        let oldest = format!("{major}.{minor}.{patch}");
        let path = format!("metadata.annotations[{BUNDLE_VERSION:?}]");
        let code = Code::GatewayAPICRDVersionBelowMinimum;
        report.say(code, object, path, &[&name, given, &oldest]);
    }
}

/// A semantic version without what follows `-` or `+`.
fn version(text: &str) -> Option<[u64; 3]> {
    let core = text.trim_start_matches('v').split(['-', '+']).next()?;
    let mut parts = core.split('.').map(|part| part.parse::<u64>().ok());
    let version = [
        parts.next()??,
        parts.next().unwrap_or(Some(0))?,
        parts.next().unwrap_or(Some(0))?,
    ];
    parts.next().is_none().then_some(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        for (text, expected) in [
            ("v1.4.1", Some([1, 4, 1])),
            ("1.5.0-rc.1", Some([1, 5, 0])),
            ("v1.2", Some([1, 2, 0])),
            ("main", None),
            ("1.2.3.4", None),
        ] {
            assert_eq!(version(text), expected, "{text}");
        }
    }
}
