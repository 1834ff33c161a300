//! The static clusters: the agent's Unix socket (twice, under the names that configuration uses) and its
//! status server.

use std::{net::SocketAddr, path::Path};

use serde_json::{Value, json};

use super::socket_address;

/// Carries ADS.
pub(super) const XDS: &str = "xds-grpc";
/// Carries SDS; the name that Pilot's transport sockets refer to.
pub(super) const SDS: &str = "sds-grpc";
/// The agent's status server.
pub(super) const AGENT: &str = "agent";

/// A gRPC cluster over the Unix socket. Keepalive pings find an agent that hangs; Envoy then connects again.
/// `alt_stat_name` ends in `;` so that the tag expression sees where the name ends.
pub(super) fn grpc_over_socket(name: &str, socket: &Path) -> Value {
    json!({
        "name": name,
        "alt_stat_name": format!("{name};"),
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": one_endpoint(name, &json!({ "pipe": { "path": socket.to_string_lossy() } })),
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": { "http2_protocol_options": {
                    "connection_keepalive": { "interval": "30s", "timeout": "10s" },
                }},
            },
        },
        "circuit_breakers": { "thresholds": [breaker("DEFAULT"), breaker("HIGH")] },
    })
}

/// The agent's status server over TCP.
pub(super) fn agent(status: SocketAddr) -> Value {
    json!({
        "name": AGENT,
        "alt_stat_name": format!("{AGENT};"),
        "type": "STATIC",
        "connect_timeout": "0.250s",
        "load_assignment": one_endpoint(AGENT, &socket_address(status)),
    })
}

fn one_endpoint(cluster: &str, address: &Value) -> Value {
    json!({
        "cluster_name": cluster,
        "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": address } }] }],
    })
}

/// Every secret of every cluster is a stream of its own, so the default of 1024 would be a limit.
fn breaker(priority: &str) -> Value {
    json!({
        "priority": priority,
        "max_connections": 100_000,
        "max_pending_requests": 100_000,
        "max_requests": 100_000,
    })
}
