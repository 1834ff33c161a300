//! Connections carried as bytes.

use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::{
    TcpProxy, tcp_proxy::ClusterSpecifier,
};

use crate::call::Call;
use crate::cluster;
use crate::resources::Resources;
use crate::verdict::Verdict;

pub(crate) fn walk(resources: &Resources, proxy: &TcpProxy, call: &Call, verdict: &mut Verdict) {
    match &proxy.cluster_specifier {
        Some(ClusterSpecifier::Cluster(cluster)) => cluster::reach(resources, cluster, call, verdict),
        Some(ClusterSpecifier::WeightedClusters(all)) => {
            let weighted = all.clusters.iter().map(|c| (c.name.clone(), c.weight)).collect();
            cluster::choose(resources, weighted, call, verdict);
        }
        None => verdict.step("tcp proxy", "names no cluster", None),
    }
}
