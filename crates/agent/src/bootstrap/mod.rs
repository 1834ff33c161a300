//! Envoy's bootstrap: a pure function from [`Values`] to JSON.
//!
//! The bootstrap says who the proxy is and where its agent listens; all else comes over xDS. Cluster names
//! (`xds-grpc`, `sds-grpc`, `agent`), ports and statistics are those of Istio's proxies. This module knows
//! neither files nor processes, and nothing of what Pilot will send.

mod clusters;
mod listeners;
mod node;
mod stats;

use std::{collections::BTreeMap, net::IpAddr, net::SocketAddr, path::PathBuf};

use serde_json::{Map, Value, json};

pub use node::{Locality, ProxyType, node_id};
pub use stats::StatsOptions;

/// Port of Envoy's administration interface.
pub const ADMIN_PORT: u16 = 15000;
/// Port of the agent's own server: readiness and merged metrics.
pub const STATUS_PORT: u16 = 15020;
/// Port of the health check that goes through Envoy to the agent, so that it fails while Envoy drains.
pub const HEALTH_PORT: u16 = 15021;
/// Port where the agent serves Envoy's metrics alone.
pub const PROMETHEUS_PORT: u16 = 15090;

/// Connections from downstream that one Envoy holds at most; Istio sets the same (no limit in effect).
pub const MAX_DOWNSTREAM_CONNECTIONS: u32 = 2_147_483_647;

/// Everything that the bootstrap depends on.
#[derive(Debug, Clone, PartialEq)]
pub struct Values {
    /// Beside an application, or a gateway of its own.
    pub proxy_type: ProxyType,
    /// Namespace of the workload.
    pub namespace: String,
    /// Name of the WorkloadEntry (or pod).
    pub name: String,
    /// DNS domain of the mesh's services, `cluster.local` by default.
    pub domain: String,
    /// SPIFFE trust domain; also the mesh's id.
    pub trust_domain: String,
    /// Id of the cluster that the workload is registered in.
    pub cluster_id: String,
    /// Name of the network that the workload's address belongs to; empty is the default network.
    pub network: String,
    /// The workload's own address.
    pub address: IpAddr,
    /// Where Envoy's static listener is: the workload's address, or all of a pod's.
    pub listen: IpAddr,
    /// The workload's labels.
    pub labels: BTreeMap<String, String>,
    /// The workload's annotations.
    pub annotations: BTreeMap<String, String>,
    /// Service account that the certificate is for.
    pub service_account: String,
    /// Where the workload runs.
    pub locality: Locality,
    /// Where Envoy's administration interface listens.
    pub admin: SocketAddr,
    /// Where the agent's status server listens.
    pub status: SocketAddr,
    /// Port of the health check through Envoy.
    pub health_port: u16,
    /// Port of the agent's page of Envoy's metrics; told to Pilot, not used by Envoy.
    pub prometheus_port: u16,
    /// The agent's Unix socket, carrying ADS and SDS.
    pub socket: PathBuf,
    /// Connections from downstream over all listeners.
    pub max_downstream_connections: u32,
    /// Which statistics Envoy keeps, and which tags it takes out of their names.
    pub stats: StatsOptions,
    /// Envoy's own log as JSON objects instead of text lines.
    pub json_logs: bool,
    /// Metadata of the node that counts instead of what follows from the other values.
    pub metadata: Map<String, Value>,
    /// What Envoy calls itself in traces and logs, instead of app and namespace.
    pub service_cluster: Option<String>,
    /// Runtime flags, over Argosy's.
    pub runtime: BTreeMap<String, String>,
    /// Most memory in bytes that Envoy may take.
    pub heap: Option<u64>,
}

/// Renders the bootstrap.
pub fn render(values: &Values) -> Value {
    json!({
        "application_log_config": { "log_format": log_format(values.json_logs) },
        "node": node::node(values),
        "layered_runtime": layered_runtime(&values.runtime),
        "overload_manager": overload_manager(values),
        "stats_config": stats::config(&values.stats, &values.domain),
        "admin": admin(values.admin),
        "dynamic_resources": dynamic_resources(),
        "static_resources": {
            "clusters": [
                clusters::grpc_over_socket(clusters::XDS, &values.socket),
                clusters::grpc_over_socket(clusters::SDS, &values.socket),
                clusters::agent(values.status),
            ],
            "listeners": [listeners::health(values)],
        },
    })
}

fn log_format(json: bool) -> Value {
    if json {
        json!({ "json_format": {
            "time": "%Y-%m-%dT%T.%fZ", "level": "%l", "scope": "envoy %n", "caller": "%g:%#",
            "thread": "%t", "message": "%j",
        }})
    } else {
        json!({ "text_format": "%Y-%m-%dT%T.%fZ\t%l\tenvoy %n %g:%#\t%v\tthread=%t" })
    }
}

/// `re2.max_program_size` is Istio's: Envoy's default of 100 refuses ordinary regular expressions. The admin
/// layer makes `POST /runtime_modify` work.
fn layered_runtime(own: &BTreeMap<String, String>) -> Value {
    let mut flags = Map::from_iter([("re2.max_program_size.error_level".to_owned(), json!(32768))]);
    // Numbers and truth values are written as such; Envoy does not read them from texts everywhere.
    let typed = |text: &String| {
        serde_json::from_str(text)
            .ok()
            .filter(|value: &Value| !value.is_object() && !value.is_array())
    };
    flags.extend(
        own.iter()
            .map(|(name, text)| (name.clone(), typed(text).unwrap_or_else(|| json!(text)))),
    );
    json!({ "layers": [
        { "name": "global config", "static_layer": flags },
        { "name": "admin", "admin_layer": {} },
    ]})
}

/// Near its limit Envoy gives memory back, then takes no more requests: better than to be killed with all that are under way.
fn overload_manager(values: &Values) -> Value {
    let mut manager = connections(values);
    if let (Some(heap), Some(manager)) = (values.heap, manager.as_object_mut()) {
        let monitor = json!({
            "name": HEAP,
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig",
                "max_heap_size_bytes": heap,
            },
        });
        if let Some(all) = manager.get_mut("resource_monitors").and_then(Value::as_array_mut) {
            all.push(monitor);
        }
        let action = |name: &str, at: f64| json!({ "name": name, "triggers": [{ "name": HEAP, "threshold": { "value": at } }] });
        let actions = [
            action("envoy.overload_actions.shrink_heap", 0.90),
            action("envoy.overload_actions.stop_accepting_requests", 0.98),
        ];
        manager.insert("actions".to_owned(), json!(actions));
    }
    manager
}

const HEAP: &str = "envoy.resource_monitors.fixed_heap";

fn connections(values: &Values) -> Value {
    json!({ "resource_monitors": [{
        "name": "envoy.resource_monitors.global_downstream_max_connections",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
            "max_active_downstream_connections": values.max_downstream_connections,
        },
    }]})
}

fn admin(address: SocketAddr) -> Value {
    json!({ "address": socket_address(address), "ignore_global_conn_limit": true })
}

/// No timeout on the first fetch (Istio's way): Envoy is not LIVE, so the agent not ready, before Pilot has
/// given it listeners and clusters.
fn dynamic_resources() -> Value {
    let over_ads = json!({ "ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3" });
    json!({
        "lds_config": over_ads,
        "cds_config": over_ads,
        "ads_config": {
            "api_type": "DELTA_GRPC",
            "transport_api_version": "V3",
            "set_node_on_first_message_only": true,
            "grpc_services": [{ "envoy_grpc": {
                "cluster_name": clusters::XDS,
                "retry_policy": { "retry_back_off": { "base_interval": "0.2s", "max_interval": "2s" } },
            }}],
        },
    })
}

fn socket_address(address: SocketAddr) -> Value {
    json!({ "socket_address": { "address": address.ip().to_string(), "port_value": address.port() } })
}

#[cfg(test)]
mod tests;
