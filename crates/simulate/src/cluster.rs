//! Clusters and the endpoints behind them.

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, DiscoveryType, LbPolicy};
use envoy_types::pb::envoy::config::core::v3::HealthStatus;
use envoy_types::pb::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, LbEndpoint, lb_endpoint::HostIdentifier,
};

use crate::address;
use crate::call::Call;
use crate::resources::{CLUSTER, ENDPOINTS, Resources, resource};
use crate::verdict::{Endpoint, Unavailable, Verdict};

/// Ends the walk at one of several clusters, where the call's number says which.
pub(crate) fn choose(
    resources: &Resources,
    weighted: Vec<(String, u32)>,
    call: &Call,
    verdict: &mut Verdict,
) {
    let shown: Vec<String> = weighted
        .iter()
        .map(|(name, weight)| format!("{name} ({weight})"))
        .collect();
    verdict.step("weighted clusters", shown.join(", "), None);
    let total: u64 = weighted.iter().map(|(_, weight)| u64::from(*weight)).sum();
    let mut possible = weighted.iter().filter(|(_, weight)| *weight > 0);
    let chosen = match (call.random, possible.next(), possible.next()) {
        (_, Some((only, _)), None) => Some(only.clone()),
        (Some(random), Some(_), _) => pick(&weighted, random.checked_rem(total).unwrap_or_default()),
        _ => None,
    };
    match chosen {
        Some(cluster) => reach(resources, &cluster, call, verdict),
        None => {
            for (name, _) in &weighted {
                if !resources.clusters.contains_key(name) {
                    verdict.step(
                        "cluster",
                        format!("{name}: the proxy has no such cluster: 503"),
                        None,
                    );
                }
            }
        }
    }
    verdict.clusters = weighted;
}

/// The cluster whose share of the whole holds a number.
fn pick(weighted: &[(String, u32)], number: u64) -> Option<String> {
    let mut end = 0_u64;
    for (name, weight) in weighted {
        end += u64::from(*weight);
        if number < end {
            return Some(name.clone());
        }
    }
    None
}

/// Ends the walk at a cluster.
pub(crate) fn reach(resources: &Resources, name: &str, call: &Call, verdict: &mut Verdict) {
    verdict.cluster = Some(name.to_owned());
    let Some(cluster) = resources.clusters.get(name) else {
        verdict.unavailable = Some(Unavailable::NoCluster);
        verdict.status = call.is_http().then_some(503);
        verdict.step("cluster", format!("{name}: the proxy has no such cluster"), None);
        return;
    };
    verdict.step(
        "cluster",
        format!("{name}: {}", describe(cluster)),
        resource(CLUSTER, name),
    );
    if is(cluster, DiscoveryType::OriginalDst) || cluster.lb_policy == LbPolicy::ClusterProvided as i32 {
        verdict.step(
            "endpoints",
            format!("the original destination, {}:{}", call.address, call.port),
            None,
        );
        return;
    }
    if matches!(
        cluster.cluster_discovery_type,
        Some(ClusterDiscoveryType::ClusterType(_))
    ) && cluster.load_assignment.is_none()
    {
        verdict.step("endpoints", "found by the cluster's own type", None);
        return;
    }
    endpoints(resources, cluster, call, verdict);
}

fn endpoints(resources: &Resources, cluster: &Cluster, call: &Call, verdict: &mut Verdict) {
    let eds = is(cluster, DiscoveryType::Eds);
    let name = cluster
        .eds_cluster_config
        .as_ref()
        .map(|eds| eds.service_name.as_str())
        .filter(|name| !name.is_empty())
        .unwrap_or(&cluster.name);
    let set = if eds {
        resources.endpoints.get(name)
    } else {
        cluster.load_assignment.as_ref()
    };
    let all = set.map(all).unwrap_or_default();
    let from = if eds {
        resource(ENDPOINTS, name)
    } else {
        resource(CLUSTER, &cluster.name)
    };
    if !all.iter().any(|endpoint| endpoint.healthy) {
        verdict.unavailable = Some(Unavailable::NoEndpoints);
        verdict.status = call.is_http().then_some(503);
        verdict.step("endpoints", "none takes requests", from);
    } else {
        let shown: Vec<&str> = all
            .iter()
            .take(10)
            .map(|endpoint| endpoint.address.as_str())
            .collect();
        let more = if all.len() > shown.len() { ", …" } else { "" };
        verdict.step(
            "endpoints",
            format!("{}: {}{more}", all.len(), shown.join(", ")),
            from,
        );
    }
    verdict.endpoints = all;
}

fn all(set: &ClusterLoadAssignment) -> Vec<Endpoint> {
    let mut out = Vec::new();
    for locality in &set.endpoints {
        for endpoint in &locality.lb_endpoints {
            out.push(Endpoint {
                address: shown(endpoint),
                weight: endpoint
                    .load_balancing_weight
                    .as_ref()
                    .map_or(1, |weight| weight.value),
                priority: locality.priority,
                healthy: matches!(
                    HealthStatus::try_from(endpoint.health_status),
                    Ok(HealthStatus::Unknown | HealthStatus::Healthy | HealthStatus::Degraded)
                ),
            });
        }
    }
    out
}

fn shown(endpoint: &LbEndpoint) -> String {
    match &endpoint.host_identifier {
        Some(HostIdentifier::Endpoint(own)) => address::show(own.address.as_ref()),
        Some(HostIdentifier::EndpointName(name)) => name.clone(),
        None => "no address".to_owned(),
    }
}

fn is(cluster: &Cluster, kind: DiscoveryType) -> bool {
    matches!(cluster.cluster_discovery_type, Some(ClusterDiscoveryType::Type(own)) if own == kind as i32)
}

fn describe(cluster: &Cluster) -> String {
    let kind = match &cluster.cluster_discovery_type {
        Some(ClusterDiscoveryType::Type(kind)) => DiscoveryType::try_from(*kind)
            .map_or("unknown", |kind| kind.as_str_name())
            .to_owned(),
        Some(ClusterDiscoveryType::ClusterType(custom)) => custom.name.clone(),
        None => "STATIC".to_owned(),
    };
    let tls = match (
        &cluster.transport_socket,
        cluster.transport_socket_matches.first(),
    ) {
        (_, Some(first)) => format!(", transport by endpoint, first {}", first.name),
        (Some(socket), None) => format!(", {}", socket.name.trim_start_matches("envoy.transport_sockets.")),
        (None, None) => String::new(),
    };
    format!("{kind}{tls}")
}
