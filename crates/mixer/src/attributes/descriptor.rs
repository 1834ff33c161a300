//! A rate limit descriptor as attributes. Which entries it has, `policy` decides; here the workloads are found that it
//! speaks of, and its sender is held to its own.

use envoy_types::pb::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use policy::{DescriptorFacts, DescriptorProblem, Due, WorkloadView};

use super::address::Endpoint;
use super::parties;
use crate::mesh::Mesh;

/// Key of the entry that names a descriptor's rule.
const RULE: &str = "rule";

/// The descriptors of one call, and what they have charged.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    descriptors: &'a [RateLimitDescriptor],
    /// How often it counts; 0 is not said, and means once.
    hits_addend: u32,
    /// Rules that are charged in place of others: `NAME.NAMESPACE`.
    instead: Vec<String>,
}

impl<'a> Call<'a> {
    pub(crate) fn new(descriptors: &'a [RateLimitDescriptor], hits_addend: u32) -> Self {
        Self {
            descriptors,
            hits_addend,
            instead: Vec::new(),
        }
    }

    /// Whether a rule is charged by a descriptor of its own, or was in place of another.
    pub(crate) fn asks(&self, rule: &str) -> bool {
        let mut entries = self.descriptors.iter().flat_map(|descriptor| &descriptor.entries);
        entries.any(|entry| entry.key == RULE && entry.value == rule)
            || self.instead.iter().any(|charged| charged == rule)
    }

    /// How often a descriptor counts: as it says, else as the call says (Envoy's `hits_addend`).
    pub(crate) fn hits(&self, descriptor: &RateLimitDescriptor) -> u64 {
        let own = descriptor.hits_addend.as_ref().map(|hits| hits.value);
        own.unwrap_or_else(|| self.hits_addend.max(1).into())
    }

    /// Notes what a descriptor charges.
    pub(crate) fn charged(&mut self, facts: &DescriptorFacts, due: &[Due]) {
        let rules = due.iter().map(Due::rule);
        self.instead.extend(rules.filter(|rule| *rule != facts.rule));
    }
}

/// Reads a descriptor.
///
/// # Errors
/// When an entry is missing or unknown.
pub(crate) fn read(descriptor: &RateLimitDescriptor) -> Result<DescriptorFacts, DescriptorProblem> {
    DescriptorFacts::read(
        descriptor
            .entries
            .iter()
            .map(|entry| (entry.key.as_str(), entry.value.as_str())),
    )
}

/// The workload that the descriptor says it comes from, if it has the caller's identity.
pub(crate) fn own<'a>(facts: &DescriptorFacts, mesh: &'a Mesh, caller: &str) -> Option<&'a WorkloadView> {
    let (name, namespace) = facts
        .destination_uid
        .strip_prefix("kubernetes://")?
        .rsplit_once('.')?;
    mesh.named(namespace, name, caller)
}

/// The calling workload, if its address and its identity agree.
pub(crate) fn source<'a>(facts: &'a DescriptorFacts, mesh: &'a Mesh) -> Option<&'a WorkloadView> {
    let address = Endpoint {
        ip: facts.source_ip(),
        port: None,
    };
    parties::far(mesh, address, facts.principal.as_deref()).workload
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::Entry;
    use envoy_types::pb::google::protobuf::UInt64Value;

    use super::*;

    fn descriptor(rule: &str, hits: Option<u64>) -> RateLimitDescriptor {
        RateLimitDescriptor {
            entries: vec![Entry {
                key: RULE.to_owned(),
                value: rule.to_owned(),
            }],
            hits_addend: hits.map(|value| UInt64Value { value }),
            ..RateLimitDescriptor::default()
        }
    }

    #[test]
    fn a_call_knows_its_rules_and_how_often_each_counts() {
        let all = [descriptor("a.shop", None), descriptor("b.shop", Some(3))];
        let call = Call::new(&all, 0);
        assert!(call.asks("b.shop") && !call.asks("c.shop"));
        assert_eq!(all.each_ref().map(|one| call.hits(one)), [1, 3]);
        let call = Call::new(&all, 5);
        assert_eq!(all.each_ref().map(|one| call.hits(one)), [5, 3]);
    }
}
