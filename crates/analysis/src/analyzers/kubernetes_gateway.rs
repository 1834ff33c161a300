//! Gateway API: policies that select its gateways by labels, and definitions that are too old.

use config::selector::{PolicyTargetReference, WorkloadSelector};
use config::{Kind, Object};
use model::selects;

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
    selectors,
);

/// Whether Gateway API's definitions are as new as Istio needs.
pub(crate) const DEFINITIONS: Analyzer = Analyzer::new(
    "k8sgateway.CRDVersionAnalyzer",
    "Gateway API definitions that are too old to be read",
    &[Code::GatewayAPICRDVersionBelowMinimum],
    &[Kind::CustomResourceDefinition],
    definitions,
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

/// A policy, its selector and what it is attached to otherwise.
type Policy<'a> = (
    &'a Object,
    Option<&'a WorkloadSelector>,
    Option<&'a PolicyTargetReference>,
    &'a [PolicyTargetReference],
);

macro_rules! policy {
    () => {
        |(object, spec)| {
            (
                object,
                spec.selector.as_ref(),
                spec.target_ref.as_ref(),
                spec.target_refs.as_slice(),
            )
        }
    };
}

fn selectors(set: &Set<'_>, report: &mut Report) {
    let policies = set.authorization_policies().map::<Policy<'_>, _>(policy!());
    let policies = policies.chain(set.request_authentications().map(policy!()));
    let policies = policies.chain(set.telemetries().map(policy!()));
    let policies = policies.chain(set.wasm_plugins().map(policy!()));
    let gateways: Vec<_> = set
        .all_pods()
        .filter_map(|(object, _)| Some((object, object.meta.labels.get(GATEWAY_NAME)?)))
        .collect();
    for (object, selector, target, targets) in policies {
        let Some(selector) = selector.filter(|_| target.is_none() && targets.is_empty()) else {
            continue;
        };
        for (pod, gateway) in &gateways {
            let selected = pod.meta.namespace == object.meta.namespace
                && selects(&selector.match_labels, &pod.meta.labels);
            if selected {
                report.say(Code::IneffectiveSelector, object, "spec.selector", &[gateway]);
            }
        }
    }
}

fn definitions(set: &Set<'_>, report: &mut Report) {
    for (object, _) in set.definitions() {
        let name = object.meta.name.as_str();
        let oldest = OLDEST.iter().find(|(definition, _)| *definition == name);
        let given = object.meta.annotations.get(BUNDLE_VERSION);
        let (Some((_, oldest)), Some(given)) = (oldest, given) else {
            continue;
        };
        if version(given).is_some_and(|given| given < *oldest) {
            let [major, minor, patch] = oldest;
            let oldest = format!("{major}.{minor}.{patch}");
            let path = format!("metadata.annotations[{BUNDLE_VERSION:?}]");
            let code = Code::GatewayAPICRDVersionBelowMinimum;
            report.say(code, object, path, &[&name, given, &oldest]);
        }
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
