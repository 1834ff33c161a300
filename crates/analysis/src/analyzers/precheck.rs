//! Whether a cluster is fit for an installation or an update (as `istioctl x precheck` asks).

use config::kube::CustomResourceDefinition;
use config::{Kind, Object};

use crate::analyzer::Check;
use crate::{Analyzer, Code, Report, Set};

/// The API server's version.
pub(crate) const VERSION: Analyzer = Analyzer::new(
    "precheck.KubernetesVersion",
    "Whether the cluster's Kubernetes is new enough",
    &[Code::UnsupportedKubernetesVersion],
    &[],
    Check::Mesh(version),
)
.by_facts();

/// The caller's rights.
pub(crate) const PERMISSIONS: Analyzer = Analyzer::new(
    "precheck.Permissions",
    "Whether the caller may create what an installation consists of",
    &[Code::InsufficientPermissions],
    &[],
    Check::Mesh(permissions),
)
.by_facts();

/// Versions of Gateway API's kinds.
pub(crate) const GATEWAY_API: Analyzer = Analyzer::new(
    "precheck.GatewayAPI",
    "Whether the definitions of Gateway API serve versions that are read",
    &[
        Code::UnsupportedGatewayAPIVersion,
        Code::FutureUnsupportedGatewayAPIVersion,
    ],
    &[Kind::CustomResourceDefinition],
    Check::Mesh(gateway_api),
);

/// What has changed since an older release.
pub(crate) const UPDATE: Analyzer = Analyzer::new(
    "precheck.Update",
    "What behaves differently from the Istio release that is to be replaced",
    &[Code::UpdateIncompatibility],
    &[Kind::Service],
    Check::Mesh(update),
)
.by_facts();

/// The oldest Kubernetes whose CustomResourceDefinitions have CEL rules in all clusters, which ours rely on.
const OLDEST_KUBERNETES: (u32, u32) = (1, 29);

const GATEWAY_GROUP: &str = "gateway.networking.k8s.io";
/// Kinds that must be served as `v1beta1`.
const BETA: (&str, &[&str]) = (
    "v1beta1",
    &["Gateway", "GatewayClass", "HTTPRoute", "ReferenceGrant"],
);
/// Kinds of which only `v1` is going to be read.
const STABLE: (&str, &[&str]) = ("v1", &["Gateway", "GatewayClass", "HTTPRoute", "GRPCRoute"]);

/// The last Istio release that sent traces to `zipkin.istio-system` without being asked to.
const TRACING_BY_DEFAULT: (u32, u32) = (1, 21);

fn version(set: &Set<'_>, report: &mut Report) {
    let Some(given) = &set.facts().kubernetes_version else {
        return;
    };
    let (major, minor) = OLDEST_KUBERNETES;
    if parse(given).is_some_and(|given| given < OLDEST_KUBERNETES) {
        let oldest = format!("{major}.{minor}");
        report.say_of_cluster(Code::UnsupportedKubernetesVersion, &[given, &oldest]);
    }
}

/// Major and minor of `v1.34.4`, `1.29+` and the like.
fn parse(version: &str) -> Option<(u32, u32)> {
    let (major, rest) = version.trim_start_matches('v').split_once('.')?;
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    Some((major.parse().ok()?, rest.get(..end)?.parse().ok()?))
}

fn permissions(set: &Set<'_>, report: &mut Report) {
    for denied in &set.facts().denied {
        let code = Code::InsufficientPermissions;
        report.say_of_cluster(code, &[&denied.resource, &denied.reason]);
    }
}

fn gateway_api(set: &Set<'_>, report: &mut Report) {
    for (object, definition) in set.definitions() {
        if definition.spec.group != GATEWAY_GROUP {
            continue;
        }
        lacks(
            object,
            definition,
            BETA,
            Code::UnsupportedGatewayAPIVersion,
            report,
        );
        lacks(
            object,
            definition,
            STABLE,
            Code::FutureUnsupportedGatewayAPIVersion,
            report,
        );
    }
}

fn lacks(
    object: &Object,
    definition: &CustomResourceDefinition,
    (version, kinds): (&str, &[&str]),
    code: Code,
    report: &mut Report,
) {
    let spec = &definition.spec;
    let served: Vec<&str> = spec
        .versions
        .iter()
        .filter(|version| version.served)
        .map(|version| version.name.as_str())
        .collect();
    if kinds.contains(&spec.names.kind.as_str()) && !served.contains(&version) {
        let served = match served.as_slice() {
            [] => "none".to_owned(),
            served => served.join(", "),
        };
        report.say(code, object, "spec.versions", &[&served, &version]);
    }
}

fn update(set: &Set<'_>, report: &mut Report) {
    let from = set.facts().from_version;
    if from.is_none_or(|from| from > TRACING_BY_DEFAULT) {
        return;
    }
    if let Some(object) = set.get(Kind::Service, "istio-system", "zipkin") {
        let what = "traces are no longer sent to zipkin.istio-system unless a Telemetry and an extension provider say so";
        let field = "meshConfig.defaultConfig.tracing";
        report.say(Code::UpdateIncompatibility, object, "", &[&field, &"1.22", &what]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        for (text, expected) in [
            ("v1.34.4", Some((1, 34))),
            ("1.28+", Some((1, 28))),
            ("v1.29.0-gke.1", Some((1, 29))),
            ("main", None),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
    }
}
