//! How a cluster spreads requests over its endpoints.

use config::networking::{ConsistentHashLb, LoadBalancerSettings, SimpleLb, WarmupConfiguration};
use envoy_types::pb::envoy::config::cluster::v3::{
    Cluster,
    cluster::{self as pb, LbConfig, LbPolicy},
};
use envoy_types::pb::envoy::config::core::v3::RuntimeDouble;
use envoy_types::pb::envoy::r#type::v3::Percent;

use crate::wire::{duration, u64_value};

/// Istio's smallest hash ring.
const RING_SIZE: u64 = 1024;
/// Envoy's bound on hash rings and tables.
const MAX_RING_SIZE: u64 = 8 * 1024 * 1024;

/// Sets the cluster's load balancer; least request unless something else is asked for.
pub(super) fn apply(cluster: &mut Cluster, settings: Option<&LoadBalancerSettings>) {
    cluster.lb_policy = LbPolicy::LeastRequest as i32;
    let Some(settings) = settings else { return };
    if let Some(hash) = &settings.consistent_hash {
        by_hash(cluster, hash);
        return;
    }
    let slow_start = slow_start(settings);
    match settings.simple.unwrap_or_default() {
        SimpleLb::Random => cluster.lb_policy = LbPolicy::Random as i32,
        SimpleLb::RoundRobin => {
            cluster.lb_policy = LbPolicy::RoundRobin as i32;
            cluster.lb_config = slow_start.map(|slow_start_config| {
                LbConfig::RoundRobinLbConfig(pb::RoundRobinLbConfig {
                    slow_start_config: Some(slow_start_config),
                })
            });
        }
        _ => {
            cluster.lb_config = slow_start.map(|slow_start_config| {
                LbConfig::LeastRequestLbConfig(pb::LeastRequestLbConfig {
                    slow_start_config: Some(slow_start_config),
                    ..Default::default()
                })
            });
        }
    }
}

fn by_hash(cluster: &mut Cluster, hash: &ConsistentHashLb) {
    if let Some(maglev) = &hash.maglev {
        cluster.lb_policy = LbPolicy::Maglev as i32;
        let size = (maglev.table_size > 0).then(|| maglev.table_size.min(MAX_RING_SIZE));
        cluster.lb_config = size.map(|table_size| {
            LbConfig::MaglevLbConfig(pb::MaglevLbConfig {
                table_size: u64_value(table_size),
            })
        });
        return;
    }
    let asked = hash
        .ring_hash
        .as_ref()
        .map_or(hash.minimum_ring_size, |ring| ring.minimum_ring_size);
    let size = if asked == 0 {
        RING_SIZE
    } else {
        asked.min(MAX_RING_SIZE)
    };
    cluster.lb_policy = LbPolicy::RingHash as i32;
    cluster.lb_config = Some(LbConfig::RingHashLbConfig(pb::RingHashLbConfig {
        minimum_ring_size: u64_value(size),
        ..Default::default()
    }));
}

/// New endpoints get their share step by step.
fn slow_start(settings: &LoadBalancerSettings) -> Option<pb::SlowStartConfig> {
    let old = settings.warmup_duration_secs;
    let warmup = settings.warmup.clone().or_else(|| {
        old.map(|window| WarmupConfiguration {
            duration: Some(window),
            ..Default::default()
        })
    })?;
    Some(pb::SlowStartConfig {
        slow_start_window: warmup.duration.and_then(|window| duration(window.0)),
        aggression: warmup.aggression.map(|default_value| RuntimeDouble {
            default_value,
            runtime_key: "aggression".to_owned(),
        }),
        min_weight_percent: warmup.minimum_percent.map(|value| Percent { value }),
    })
}
