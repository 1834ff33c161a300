//! Connections carried as bytes.

use config::networking::TunnelSettings;
use envoy_types::pb::envoy::config::accesslog::v3::AccessLog;
use envoy_types::pb::envoy::config::listener::v3::Filter;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::{
    TcpProxy,
    tcp_proxy::{ClusterSpecifier, TunnelingConfig, WeightedCluster, weighted_cluster::ClusterWeight},
};

use crate::filter;
use crate::names;
use crate::wire::plain_any;

/// Forwards connections to clusters by weight.
pub(crate) fn proxy(stat_prefix: &str, clusters: Vec<(String, u32)>, access_log: Vec<AccessLog>) -> Filter {
    tunneled(stat_prefix, clusters, access_log, None)
}

/// Forwards connections to clusters by weight, carried in HTTP where a tunnel is asked for.
pub(crate) fn tunneled(
    stat_prefix: &str,
    clusters: Vec<(String, u32)>,
    access_log: Vec<AccessLog>,
    tunnel: Option<TunnelSettings>,
) -> Filter {
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
        tunneling_config: tunnel.map(|tunnel| TunnelingConfig {
            hostname: format!("{}:{}", names::bracketed(&tunnel.target_host), tunnel.target_port),
            use_post: tunnel.protocol.eq_ignore_ascii_case("POST"),
            ..Default::default()
        }),
        ..Default::default()
    };
    filter::network(filter::TCP_PROXY, plain_any(&config))
}
