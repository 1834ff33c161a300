//! VirtualServices of gateways that route by claims of tokens which nobody checks.

use config::networking::{Gateway, VirtualService};
use config::{Kind, Object, Spec};
use model::MESH_GATEWAY;

use super::{full_name, reference};
use crate::analyzer::Check;
use crate::selector::Labels;
use crate::{Analyzer, Code, Report, Set};

/// Whether gateways that route by claims have a RequestAuthentication.
pub(crate) const CLAIMS: Analyzer = Analyzer::new(
    "virtualservice.JWTClaimRouteAnalyzer",
    "Routes by claims of tokens that no RequestAuthentication checks",
    &[Code::JwtClaimBasedRoutingWithoutRequestAuthN],
    &[
        Kind::VirtualService,
        Kind::RequestAuthentication,
        Kind::Gateway,
        Kind::Pod,
        Kind::WorkloadEntry,
    ],
    Check::Each(&[Kind::VirtualService], run),
);

/// What stands for claims among a match's headers: `@request.auth.claims.NAME` or `@request.auth.claims[NAME]`.
const CLAIM: &str = "@request.auth.claims";
/// RequestAuthentications there hold for the whole mesh.
const ROOT: &str = "istio-system";

fn run(set: &Set<'_>, object: &Object, report: &mut Report) {
    let Spec::VirtualService(service) = &object.spec else {
        return;
    };
    let Some(claim) = claim(service) else { return };
    for name in service.gateways.iter().filter(|name| *name != MESH_GATEWAY) {
        let (namespace, name) = reference(name, &object.meta.namespace);
        let found = set.get(Kind::Gateway, namespace, name);
        if let Some((found, Spec::Gateway(gateway))) = found.map(|found| (found, &found.spec)) {
            check(set, object, claim, (found, gateway), report);
        }
    }
}

/// The labels of the workloads that a RequestAuthentication is for.
fn wanted(object: &Object) -> &Labels {
    static ALL: Labels = Labels::new();
    let selector = match &object.spec {
        Spec::RequestAuthentication(authentication) => authentication.selector.as_ref(),
        _ => None,
    };
    selector.map_or(&ALL, |selector| &selector.match_labels)
}

fn check(
    set: &Set<'_>,
    object: &Object,
    claim: &str,
    (found, gateway): (&Object, &Gateway),
    report: &mut Report,
) {
    for workload in set.workloads(&gateway.selector, None) {
        let pod = workload.object;
        let mut near = [ROOT, pod.meta.namespace.as_str()].into_iter();
        let is_checked = |namespace: &str| {
            let mut all = set.of_namespace(Kind::RequestAuthentication, namespace);
            all.any(|object| workload.has(wanted(object)))
        };
        if !near.any(is_checked) {
            let code = Code::JwtClaimBasedRoutingWithoutRequestAuthN;
            let args: [&dyn std::fmt::Display; 3] = [&claim, &full_name(found), &pod.meta.name];
            report.say(code, object, "spec.http", &args);
        }
    }
}

/// The first claim that a VirtualService routes by.
fn claim(service: &VirtualService) -> Option<&str> {
    let matches = service.http.iter().flat_map(|route| &route.r#match);
    let mut headers = matches.flat_map(|found| found.headers.keys().chain(found.without_headers.keys()));
    headers.find(|key| is_claim(key)).map(String::as_str)
}

fn is_claim(header: &str) -> bool {
    let prefix = header.get(..CLAIM.len());
    if !prefix.is_some_and(|prefix| prefix.eq_ignore_ascii_case(CLAIM)) {
        return false;
    }
    let name = header.get(CLAIM.len()..).unwrap_or_default();
    let bracketed = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    name.strip_prefix('.')
        .or(bracketed)
        .is_some_and(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims() {
        for (header, expected) in [
            ("@request.auth.claims.sub", true),
            ("@Request.Auth.Claims[sub][x]", true),
            ("@request.auth.claims", false),
            ("@request.auth.claims.", false),
            ("@request.auth.claims[]", false),
            ("x-claims", false),
        ] {
            assert_eq!(is_claim(header), expected, "{header}");
        }
    }
}
