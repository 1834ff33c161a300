//! Where the control plane may fetch keys from.

use config::{Kind, Object, Spec};

use crate::analyzer::Check;
use crate::workload::label;
use crate::{Analyzer, Code, Report, Set};

/// Whether istiod is kept from fetching keys (JWKS) from any address that a RequestAuthentication names.
pub(crate) const BLOCKED_CIDRS: Analyzer = Analyzer::new(
    "authn.BlockedCIDRsAnalyzer",
    "Whether istiod may fetch keys from any address",
    &[Code::JwksUriFetchUnrestricted],
    &[Kind::RequestAuthentication, Kind::Deployment],
    Check::Each(&[Kind::Deployment], run),
);

/// istiod's variable with the ranges that are not fetched from.
const VARIABLE: &str = "BLOCKED_CIDRS_IN_JWKS_URIS";
/// Most names written into a message.
const MAX_NAMES: usize = 5;

fn run(set: &Set<'_>, object: &Object, report: &mut Report) {
    let Spec::Deployment(deployment) = &object.spec else {
        return;
    };
    let containers = &deployment.spec.template.spec.containers;
    let mut variables = containers.iter().flat_map(|container| &container.env);
    let set_there = variables.any(|variable| variable.name == VARIABLE && !variable.value.is_empty());
    if label(object, "app") != Some("istiod") || set_there {
        return;
    }
    let names: Vec<String> = set.request_authentications().map(|(o, _)| name(o)).collect();
    if names.is_empty() {
        return;
    }
    let mut listed = names
        .iter()
        .take(MAX_NAMES)
        .cloned()
        .collect::<Vec<_>>()
        .join(", ");
    if names.len() > MAX_NAMES {
        listed.push_str(&format!(" and {} more", names.len() - MAX_NAMES));
    }
    report.say(
        Code::JwksUriFetchUnrestricted,
        object,
        "spec.template.spec.containers",
        &[&names.len(), &listed],
    );
}

fn name(object: &Object) -> String {
    super::full_name(object)
}
