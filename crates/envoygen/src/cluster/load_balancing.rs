//! How a cluster spreads requests over its endpoints.

use config::networking::{
    BackendUtilization, ConsistentHashLb, LoadBalancerSettings, SimpleLb, WarmupConfiguration,
    ZoneAwareLoadBalancerSetting,
};
use envoy_types::pb::envoy::config::cluster::v3::{
    Cluster, LoadBalancingPolicy,
    cluster::{
        self as pb, CommonLbConfig, LbConfig, LbPolicy,
        common_lb_config::{LocalityConfigSpecifier, LocalityWeightedLbConfig, ZoneAwareLbConfig},
    },
    load_balancing_policy::Policy,
};
use envoy_types::pb::envoy::config::core::v3::{RuntimeDouble, TypedExtensionConfig};
use envoy_types::pb::envoy::extensions::load_balancing_policies::client_side_weighted_round_robin::v3::ClientSideWeightedRoundRobin;
use envoy_types::pb::envoy::extensions::load_balancing_policies::common::v3::SlowStartConfig;
use envoy_types::pb::envoy::r#type::v3::Percent;
use envoy_types::pb::google::protobuf::FloatValue;

use super::Preference;
use crate::wire::{duration, plain_any, u64_value};

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
    if let Some(utilization) = &settings.backend_utilization {
        by_utilization(cluster, utilization, slow_start);
        return;
    }
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

/// Endpoints get shares by the load that they report of themselves (ORCA).
fn by_utilization(
    cluster: &mut Cluster,
    asked: &BackendUtilization,
    slow_start: Option<pb::SlowStartConfig>,
) {
    let period = |period: Option<config::Duration>| period.and_then(|period| duration(period.0));
    let penalty = asked.error_utilization_penalty_percent.map(|percent| FloatValue {
        // A percentage has no digits that a float loses.
        value: u16::try_from(percent).map_or(f32::MAX, f32::from) / 100.0,
    });
    let config = ClientSideWeightedRoundRobin {
        blackout_period: period(asked.weight_stabilization_period),
        weight_expiration_period: period(asked.weight_expiration_period),
        weight_update_period: period(asked.weight_update_period),
        error_utilization_penalty: penalty,
        metric_names_for_computing_utilization: asked.metric_names_for_computing_utilization.clone(),
        slow_start_config: slow_start.map(|start| SlowStartConfig {
            slow_start_window: start.slow_start_window,
            aggression: start.aggression,
            min_weight_percent: start.min_weight_percent,
        }),
        ..Default::default()
    };
    cluster.load_balancing_policy = Some(LoadBalancingPolicy {
        policies: vec![Policy {
            typed_extension_config: Some(TypedExtensionConfig {
                name: "envoy.load_balancing_policies.client_side_weighted_round_robin".to_owned(),
                typed_config: Some(plain_any(&config)),
            }),
        }],
    });
}

/// Sets how the cluster chooses between localities.
pub(super) fn apply_preference(cluster: &mut Cluster, preference: Option<&Preference>) {
    let outlier_detection = cluster.outlier_detection.is_some();
    let specifier = match preference {
        Some(Preference::Zone(zone)) => LocalityConfigSpecifier::ZoneAwareLbConfig(zone_aware(zone)),
        Some(locality) if locality.weighs_localities(outlier_detection) => {
            LocalityConfigSpecifier::LocalityWeightedLbConfig(LocalityWeightedLbConfig {})
        }
        _ => return,
    };
    common(cluster).locality_config_specifier = Some(specifier);
}

fn zone_aware(zone: &ZoneAwareLoadBalancerSetting) -> ZoneAwareLbConfig {
    ZoneAwareLbConfig {
        routing_enabled: (zone.enabled == Some(false)).then_some(Percent { value: 0.0 }),
        min_cluster_size: zone.min_cluster_size.and_then(u64_value),
        ..Default::default()
    }
}

/// Endpoints that are not ready are in the set for the sake of priorities and must not be used in a panic.
pub(super) fn never_panic(cluster: &mut Cluster) {
    common(cluster).healthy_panic_threshold = Some(Percent { value: 0.0 });
}

fn common(cluster: &mut Cluster) -> &mut CommonLbConfig {
    cluster
        .common_lb_config
        .get_or_insert_with(CommonLbConfig::default)
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
        aggression: Some(RuntimeDouble {
            default_value: warmup.aggression.unwrap_or(1.0),
            runtime_key: "aggression".to_owned(),
        }),
        min_weight_percent: Some(Percent {
            value: warmup.minimum_percent.unwrap_or(10.0),
        }),
    })
}
