//! Connections carried as bytes.

use envoy_types::pb::envoy::config::accesslog::v3::AccessLog;
use envoy_types::pb::envoy::config::listener::v3::Filter;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::{
    TcpProxy,
    tcp_proxy::{ClusterSpecifier, WeightedCluster, weighted_cluster::ClusterWeight},
};

use crate::filter;
use crate::names;
use crate::wire::plain_any;

/// Forwards connections to clusters by weight.
pub(crate) fn proxy(stat_prefix: &str, clusters: Vec<(String, u32)>, access_log: Vec<AccessLog>) -> Filter {
    let mut clusters: Vec<_> = clusters.into_iter().filter(|(_, weight)| *weight > 0).collect();
    let specifier = match (clusters.len(), clusters.pop()) {
        (_, None) => ClusterSpecifier::Cluster(names::BLACK_HOLE_CLUSTER.to_owned()),
        (1, Some((only, _))) => ClusterSpecifier::Cluster(only),
        (_, Some(last)) => {
            clusters.push(last);
            let weights = clusters.into_iter();
            ClusterSpecifier::WeightedClusters(WeightedCluster {
                clusters: weights
                    .map(|(name, weight)| ClusterWeight {
                        name,
                        weight,
                        ..Default::default()
                    })
                    .collect(),
            })
        }
    };
    let config = TcpProxy {
        stat_prefix: stat_prefix.to_owned(),
        cluster_specifier: Some(specifier),
        access_log,
        ..Default::default()
    };
    filter::network(filter::TCP_PROXY, plain_any(&config))
}
