//! DestinationRule: host, subsets and traffic policies.

use super::common::{export_to, percent, port_selector, some_duration, unique, workload_selector};
use super::virtual_service::subset_name;
use super::{client_tls, connection_pool, host, load_balancer};
use crate::networking::{
    DestinationRule, OutlierDetection, PortTrafficPolicy, TrafficPolicy, TunnelSettings,
};
use crate::path::At;
use crate::{Meta, meta, syntax};

/// Checks a DestinationRule.
pub(super) fn check(spec: &DestinationRule, meta: &Meta, at: &At<'_>) {
    host::report(host::wildcard(&spec.host), &at.key("host"));
    at.some("trafficPolicy", spec.traffic_policy.as_ref(), |policy, at| {
        traffic_policy(policy, meta, at)
    });
    unique(
        "subsets",
        spec.subsets.iter().map(|subset| subset.name.as_str()),
        "the subset",
        at,
    );
    at.each("subsets", &spec.subsets, |subset, at| {
        subset_name(&subset.name, &at.key("name"));
        meta::check_labels(&subset.labels, &at.key("labels"));
        at.some("trafficPolicy", subset.traffic_policy.as_ref(), |policy, at| {
            traffic_policy(policy, meta, at)
        });
    });
    export_to(&meta.namespace, &spec.export_to, false, at);
    workload_selector("workloadSelector", spec.workload_selector.as_ref(), at);
    let own_only = spec
        .export_to
        .iter()
        .all(|entry| entry == "." || *entry == meta.namespace);
    if spec.workload_selector.is_some() && !own_only {
        at.key("exportTo")
            .error("with a workloadSelector the rule holds in its own namespace only; use . or nothing");
    }
}

fn traffic_policy(policy: &TrafficPolicy, meta: &Meta, at: &At<'_>) {
    if *policy == TrafficPolicy::default() {
        at.error("no setting is given; remove the field or give one");
    }
    if policy.tunnel.is_some() && policy.proxy_protocol.is_some() {
        at.error("tunnel and proxyProtocol exclude one another; keep one of them");
    }
    settings(
        &PortTrafficPolicy {
            port: None,
            load_balancer: policy.load_balancer.clone(),
            connection_pool: policy.connection_pool.clone(),
            outlier_detection: policy.outlier_detection.clone(),
            tls: policy.tls.clone(),
        },
        meta,
        at,
    );
    at.each("portLevelSettings", &policy.port_level_settings, |policy, at| {
        port_policy(policy, meta, at)
    });
    at.some("tunnel", policy.tunnel.as_ref(), tunnel);
    at.some("retryBudget", policy.retry_budget.as_ref(), |budget, at| {
        some_duration("budgetInterval", budget.budget_interval, at);
    });
}

fn port_policy(policy: &PortTrafficPolicy, meta: &Meta, at: &At<'_>) {
    match &policy.port {
        Some(port) => port_selector(port, &at.key("port")),
        None => at
            .key("port")
            .error("the port that the settings are for is needed"),
    }
    if *policy
        == (PortTrafficPolicy {
            port: policy.port.clone(),
            ..PortTrafficPolicy::default()
        })
    {
        at.error("no setting is given; remove the entry or give one");
    }
    settings(policy, meta, at);
}

/// The settings that a destination and a port of it have in common.
fn settings(policy: &PortTrafficPolicy, meta: &Meta, at: &At<'_>) {
    at.some(
        "outlierDetection",
        policy.outlier_detection.as_ref(),
        outlier_detection,
    );
    at.some(
        "connectionPool",
        policy.connection_pool.as_ref(),
        connection_pool::check,
    );
    at.some("loadBalancer", policy.load_balancer.as_ref(), |balancer, at| {
        load_balancer::check(balancer, policy.outlier_detection.is_some(), at);
    });
    at.some("tls", policy.tls.as_ref(), |tls, at| {
        client_tls::check(tls, &meta.namespace, at)
    });
}

/// Outlier detection of a destination or of the mesh.
pub(super) fn outlier_detection(outlier: &OutlierDetection, at: &At<'_>) {
    some_duration("baseEjectionTime", outlier.base_ejection_time, at);
    some_duration("interval", outlier.interval, at);
    if outlier.consecutive_errors != 0 {
        at.key("consecutiveErrors")
            .warning("deprecated; use consecutiveGatewayErrors or consecutive5xxErrors");
    }
    if !outlier.split_external_local_origin_errors
        && outlier.consecutive_local_origin_failures.unwrap_or(0) > 0
    {
        at.key("consecutiveLocalOriginFailures").error_help(
            "counts nothing unless local failures are told apart",
            "set splitExternalLocalOriginErrors",
        );
    }
    percent("maxEjectionPercent", outlier.max_ejection_percent, at);
    percent("minHealthPercent", outlier.min_health_percent, at);
}

fn tunnel(tunnel: &TunnelSettings, at: &At<'_>) {
    if !matches!(tunnel.protocol.as_str(), "" | "CONNECT" | "POST") {
        at.key("protocol")
            .error(format!("{:?} is neither CONNECT nor POST", tunnel.protocol));
    }
    if syntax::ip(&tunnel.target_host).is_none() {
        host::report(host::dns_name(&tunnel.target_host), &at.key("targetHost"));
    }
    super::common::port(tunnel.target_port, &at.key("targetPort"));
}
