//! Connections carried as bytes.

use envoy_types::pb::envoy::config::accesslog::v3::AccessLog;
use envoy_types::pb::envoy::config::listener::v3::Filter;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::{
    TcpProxy,
    tcp_proxy::{
        ClusterSpecifier, TcpAccessLogOptions, TunnelingConfig, WeightedCluster,
        weighted_cluster::ClusterWeight,
    },
};
use envoy_types::pb::envoy::r#type::v3::{HashPolicy, hash_policy};

use crate::cluster::Effective;
use crate::filter;
use crate::names;
use crate::telemetry::logs::at_end;
use crate::telemetry::metrics::STATS_LOGGER;
use crate::wire::{duration, plain_any};

/// Where connections are counted, loggers hear of them when they stand and when they end; the others want the end alone.
fn moments(logs: &mut [AccessLog]) -> Option<TcpAccessLogOptions> {
    let (counters, others): (Vec<_>, Vec<_>) = logs.iter_mut().partition(|log| log.name == STATS_LOGGER);
    if counters.is_empty() {
        return None;
    }
    others.into_iter().for_each(at_end);
    Some(TcpAccessLogOptions {
        flush_access_log_on_connected: true,
        ..Default::default()
    })
}

/// Forwards connections to clusters by weight.
pub(crate) fn proxy(stat_prefix: &str, clusters: Vec<(String, u32)>, access_log: Vec<AccessLog>) -> Filter {
    governed(stat_prefix, clusters, access_log, &Effective::default())
}

/// Forwards connections to clusters by weight, as a policy says: within its bounds, carried in HTTP where it asks for a tunnel,
/// to the endpoint that a hash of the client's address chooses.
pub(crate) fn governed(
    stat_prefix: &str,
    clusters: Vec<(String, u32)>,
    mut access_log: Vec<AccessLog>,
    policy: &Effective,
) -> Filter {
    let moments = moments(&mut access_log);
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
    let bounds = policy.connection_pool.as_ref().and_then(|pool| pool.tcp.as_ref());
    let config = TcpProxy {
        stat_prefix: stat_prefix.to_owned(),
        cluster_specifier: Some(specifier),
        access_log,
        idle_timeout: bounds
            .and_then(|bounds| bounds.idle_timeout)
            .and_then(|time| duration(time.0)),
        max_downstream_connection_duration: bounds
            .and_then(|bounds| bounds.max_connection_duration)
            .and_then(|time| duration(time.0)),
        hash_policy: source_hash(policy).into_iter().collect(),
        tunneling_config: policy.tunnel.as_ref().map(|tunnel| TunnelingConfig {
            hostname: format!("{}:{}", names::bracketed(&tunnel.target_host), tunnel.target_port),
            use_post: tunnel.protocol.eq_ignore_ascii_case("POST"),
            ..Default::default()
        }),
        access_log_options: moments,
        ..Default::default()
    };
    filter::network(filter::TCP_PROXY, plain_any(&config))
}

/// The hash of the client's address, all that a connection has to be hashed.
fn source_hash(policy: &Effective) -> Option<HashPolicy> {
    let hash = policy.load_balancer.as_ref()?.consistent_hash.as_ref()?;
    (hash.use_source_ip == Some(true)).then_some(HashPolicy {
        policy_specifier: Some(hash_policy::PolicySpecifier::SourceIp(hash_policy::SourceIp {})),
    })
}
