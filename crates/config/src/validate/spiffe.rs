//! Names of workloads by SPIFFE where other kinds have them. Istio takes any text there, so what can never match is a warning.

use crate::path::At;
use crate::spiffe::{self, SCHEME};

/// Principals of a policy, which are written without their scheme.
pub(super) fn principals(values: &[String], at: &At<'_>) {
    for (index, value) in values.iter().enumerate() {
        if let Some(rest) = value.strip_prefix(SCHEME) {
            at.index(index).warning_help(
                format!("{value:?} matches no principal: they are compared without {SCHEME}"),
                format!("write {rest:?}"),
            );
        }
    }
}

/// Subject alternative names, of which those that begin as SPIFFE IDs do should be some.
pub(super) fn subject_alt_names(values: &[String], at: &At<'_>) {
    for (index, value) in values
        .iter()
        .enumerate()
        .filter(|(_, value)| value.starts_with(SCHEME))
    {
        if let Err(problem) = spiffe::parse(value) {
            at.index(index).warning_help(
                format!("{value:?} matches no certificate: as a SPIFFE ID it {problem}"),
                "write one such as spiffe://cluster.local/ns/NAMESPACE/sa/ACCOUNT",
            );
        }
    }
}

/// The mesh's trust domain or an alias of it.
pub(super) fn trust_domain(value: &str, at: &At<'_>) {
    if !spiffe::is_trust_domain(value) {
        at.warning_help(
            format!("{value:?} is no trust domain of SPIFFE, so peers outside of the mesh may refuse certificates of it"),
            "use up to 255 lower-case letters, digits, dots, hyphens and underscores",
        );
    }
}
