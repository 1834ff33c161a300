//! A rate limit descriptor as attributes. Which entries it has, `policy` decides; here the workloads are found that it
//! speaks of, and its sender is held to its own.

use envoy_types::pb::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use policy::{DescriptorFacts, DescriptorProblem, WorkloadView};

use super::address::Endpoint;
use super::parties;
use crate::mesh::Mesh;

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
