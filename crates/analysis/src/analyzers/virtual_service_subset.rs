//! Subsets that VirtualServices route to and no DestinationRule defines.

use std::collections::BTreeSet;

use config::Kind;

use super::virtual_service_destination::{Place, destinations};
use crate::hosts::fqdn;
use crate::{Analyzer, Code, Report, Set};

/// Whether a DestinationRule has each subset.
pub(crate) const SUBSETS: Analyzer = Analyzer::new(
    "virtualservice.DestinationRuleAnalyzer",
    "Subsets that VirtualServices route to and no DestinationRule defines",
    &[Code::ReferencedResourceNotFound],
    &[Kind::VirtualService, Kind::DestinationRule],
    run,
);

fn run(set: &Set<'_>, report: &mut Report) {
    let mut known = BTreeSet::new();
    for (object, rule) in set.destination_rules() {
        let host = fqdn(&rule.host, &object.meta.namespace);
        known.extend(
            rule.subsets
                .iter()
                .map(|subset| (host.clone(), subset.name.as_str())),
        );
    }
    for (object, service) in set.virtual_services() {
        for Place { path, mirror, to } in destinations(service) {
            let host = fqdn(&to.host, &object.meta.namespace);
            if !to.subset.is_empty() && !known.contains(&(host, to.subset.as_str())) {
                let what = if mirror {
                    "subset for the mirror"
                } else {
                    "subset for the host"
                };
                let missing = format!("{} {}", to.host, to.subset);
                let path = path + ".subset";
                report.say(Code::ReferencedResourceNotFound, object, path, &[&what, &missing]);
            }
        }
    }
}
