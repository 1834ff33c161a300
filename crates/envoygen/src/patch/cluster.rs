//! Patches of clusters.

use config::networking::PatchOperation;
use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::core::v3::TransportSocket;

use super::compile::Compiled;
use super::run::{Run, merge};
use crate::reflect;

impl Run<'_> {
    /// The cluster with its patches; `None` if one removes it.
    pub(super) fn patch_cluster(&mut self, mut cluster: Cluster, patches: &[&Compiled]) -> Option<Cluster> {
        for patch in patches {
            if patch.operation == PatchOperation::Remove {
                return None;
            }
            if let Some(merged) = merged(&cluster, patch) {
                cluster = merged;
                self.applied(patch);
            }
        }
        Some(cluster)
    }
}

/// The transport socket of a patch goes into those of the cluster's that have its name; Envoy takes no cluster with both kinds.
fn merged(cluster: &Cluster, patch: &Compiled) -> Option<Cluster> {
    let (lists, value) = (patch.merges()?, patch.value.as_ref()?);
    if cluster.transport_socket_matches.is_empty() {
        return merge(cluster, value, lists);
    }
    let mut rest = value.clone();
    rest.clear_field_by_name("transport_socket");
    let mut out = merge(cluster, &rest, lists)?;
    let socket = patch.typed::<Cluster>()?.transport_socket;
    if let Some(socket) = socket {
        let given = reflect::dynamic(&socket)?;
        let sockets = out
            .transport_socket_matches
            .iter_mut()
            .filter_map(|m| m.transport_socket.as_mut());
        for there in sockets.filter(|there| there.name == socket.name) {
            *there = merge::<TransportSocket>(there, &given, lists)?;
        }
    }
    Some(out)
}
