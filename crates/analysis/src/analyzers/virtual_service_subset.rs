//! Subsets that VirtualServices route to and no DestinationRule defines.

use config::networking::Destination;
use config::{Kind, Object, Spec};

use super::virtual_service_destination::{Place, destinations};
use crate::analyzer::Check;
use crate::hosts::fqdn;
use crate::term::Term;
use crate::{Analyzer, Code, Report, Set};

/// Whether a DestinationRule has each subset.
pub(crate) const SUBSETS: Analyzer = Analyzer::new(
    "virtualservice.DestinationRuleAnalyzer",
    "Subsets that VirtualServices route to and no DestinationRule defines",
    &[Code::ReferencedResourceNotFound],
    &[Kind::VirtualService, Kind::DestinationRule],
    Check::Each(&[Kind::VirtualService], run),
);

fn run(set: &Set<'_>, object: &Object, report: &mut Report) {
    let Spec::VirtualService(service) = &object.spec else {
        return;
    };
    for Place { path, mirror, to } in destinations(service) {
        if !to.subset.is_empty() && !is_defined(set, to, &object.meta.namespace) {
            let of = if mirror { "mirror" } else { "host" };
            let (what, missing) = ("subset", format!("{} of the {of} {}", to.subset, to.host));
            let path = path + ".subset";
            report.say(Code::ReferencedResourceNotFound, object, path, &[&what, &missing]);
        }
    }
}

/// Whether a DestinationRule for the host has the subset.
fn is_defined(set: &Set<'_>, to: &Destination, namespace: &str) -> bool {
    let host = fqdn(&to.host, namespace);
    let mut rules = set.found(Kind::DestinationRule, Term::RuleHost(&host));
    rules.any(|object| match &object.spec {
        Spec::DestinationRule(rule) => {
            fqdn(&rule.host, &object.meta.namespace) == host
                && rule.subsets.iter().any(|subset| subset.name == to.subset)
        }
        _ => false,
    })
}
