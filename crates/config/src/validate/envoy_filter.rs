//! EnvoyFilter: whether patch, place and match belong together. The configuration in it is checked where Envoy's types are
//! known. Istio 1.4's `filters` have rules of their own.

use super::common::{labels_selector, port, regex};
use crate::networking::{
    ApplyTo, EnvoyConfigObjectMatch, EnvoyConfigObjectPatch, EnvoyFilter, FilterMatch, LegacyFilter,
    LegacyFilterType, LegacyInsertIndex, PatchContext, PatchOperation,
};
use crate::path::At;

/// Names of the filter that holds HTTP filters, today's and a former one.
const CONNECTION_MANAGER: &[&str] = &[
    "envoy.filters.network.http_connection_manager",
    "envoy.http_connection_manager",
];

/// Checks an EnvoyFilter.
pub(super) fn check(spec: &EnvoyFilter, at: &At<'_>) {
    at.warning("EnvoyFilter depends on how Envoy's configuration is made inside, which may change; prefer other kinds");
    labels_selector(spec.workload_selector.as_ref(), at);
    if spec.workload_selector.is_some() && !spec.target_refs.is_empty() {
        at.error("workloadSelector and targetRefs exclude one another; keep one of them");
    }
    if !spec.workload_labels.is_empty() {
        at.key("workloadLabels")
            .warning("deprecated since Istio 1.4; use workloadSelector.labels");
    }
    at.each("filters", &spec.filters, legacy_filter);
    at.each("configPatches", &spec.config_patches, patch);
}

fn legacy_filter(filter: &LegacyFilter, at: &At<'_>) {
    at.warning("deprecated since Istio 1.4; use configPatches");
    if let Some(position) = &filter.insert_position {
        let relative = matches!(
            position.index,
            LegacyInsertIndex::Before | LegacyInsertIndex::After
        );
        let at = at.key("insertPosition");
        at.key("relativeTo").require(
            !relative || !position.relative_to.is_empty(),
            "BEFORE and AFTER need the other filter's name",
        );
    }
    at.key("filterType").require(
        filter.filter_type != LegacyFilterType::Invalid,
        "HTTP or NETWORK is needed",
    );
    at.key("filterName")
        .require(!filter.filter_name.is_empty(), "this field is required");
    at.key("filterConfig")
        .require(filter.filter_config.is_some(), "this field is required");
}

fn patch(entry: &EnvoyConfigObjectPatch, at: &At<'_>) {
    at.some("match", entry.r#match.as_ref(), |found, at| {
        conditions(found, entry.apply_to, at)
    });
    if entry
        .r#match
        .as_ref()
        .is_some_and(|found| found.context == PatchContext::Waypoint)
    {
        return;
    }
    at.key("applyTo")
        .require(entry.apply_to != ApplyTo::Invalid, "this field is required");
    let Some(change) = &entry.patch else {
        return at.key("patch").error("this field is required");
    };
    let at = at.key("patch");
    at.key("operation").require(
        change.operation != PatchOperation::Invalid,
        "this field is required",
    );
    if change.operation != PatchOperation::Remove && change.value.is_none() {
        at.key("value")
            .error(format!("needed by operation {}", change.operation.as_str()));
    }
}

fn conditions(found: &EnvoyConfigObjectMatch, apply_to: ApplyTo, at: &At<'_>) {
    if found.waypoint.is_some() != (found.context == PatchContext::Waypoint) {
        at.error("waypoint and context WAYPOINT belong together; give both or none");
    }
    at.some("waypoint", found.waypoint.as_ref(), |waypoint, at| {
        if waypoint.port_number != 0 {
            port(waypoint.port_number, &at.key("portNumber"));
        }
    });
    at.some("proxy", found.proxy.as_ref(), |proxy, at| {
        if !proxy.proxy_version.is_empty() {
            regex(&proxy.proxy_version, &at.key("proxyVersion"));
        }
    });
    if found.context == PatchContext::Waypoint {
        return;
    }
    let of_listener = matches!(
        apply_to,
        ApplyTo::Listener
            | ApplyTo::FilterChain
            | ApplyTo::NetworkFilter
            | ApplyTo::HttpFilter
            | ApplyTo::ListenerFilter
    );
    let of_route = matches!(
        apply_to,
        ApplyTo::RouteConfiguration | ApplyTo::VirtualHost | ApplyTo::HttpRoute
    );
    let given = [
        ("listener", found.listener.is_some(), of_listener),
        (
            "routeConfiguration",
            found.route_configuration.is_some(),
            of_route,
        ),
        ("cluster", found.cluster.is_some(), apply_to == ApplyTo::Cluster),
    ];
    let decided = of_listener || of_route || apply_to == ApplyTo::Cluster;
    for (key, _, _) in given.iter().filter(|(_, given, fits)| decided && *given && !fits) {
        at.key(key)
            .error(format!("does not fit applyTo {}", apply_to.as_str()));
    }
    let chain = found
        .listener
        .as_ref()
        .and_then(|listener| listener.filter_chain.as_ref());
    if let Some(filter) = chain.and_then(|chain| chain.filter.as_ref()) {
        let at = at.key("listener");
        let at = at.key("filterChain");
        filter_match(filter, apply_to, &at.key("filter"));
    }
}

fn filter_match(filter: &FilterMatch, apply_to: ApplyTo, at: &At<'_>) {
    if matches!(apply_to, ApplyTo::Listener | ApplyTo::FilterChain) {
        at.warning(format!("has no effect with applyTo {}", apply_to.as_str()));
    }
    at.key("name")
        .require(!filter.name.is_empty(), "this field is required");
    at.some("subFilter", filter.sub_filter.as_ref(), |sub, at| {
        if apply_to != ApplyTo::HttpFilter {
            at.error(format!("is for applyTo HTTP_FILTER, not {}", apply_to.as_str()));
        }
        if !CONNECTION_MANAGER.contains(&filter.name.as_str()) {
            at.error(format!(
                "needs the filter's name to be {}",
                CONNECTION_MANAGER.first().unwrap_or(&"")
            ));
        }
        at.key("name")
            .require(!sub.name.is_empty(), "this field is required");
    });
}
