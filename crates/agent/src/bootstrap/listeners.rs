//! The one static listener: a health check that goes through Envoy to the agent.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::{Values, clusters, socket_address};

/// `/healthz/ready` on port 15021, which Istio's load balancers and probes ask: it fails when the agent is
/// not ready and when Envoy drains. It counts against no connection limit.
pub(super) fn health(values: &Values) -> Value {
    let address = SocketAddr::new(values.listen, values.health_port);
    json!({
        "name": format!("{}_{}", values.listen, values.health_port),
        "address": socket_address(address),
        "enable_reuse_port": false,
        "ignore_global_conn_limit": true,
        "bypass_overload_manager": true,
        "filter_chains": [{ "filters": [{
            "name": "envoy.filters.network.http_connection_manager",
            "typed_config": connection_manager(),
        }]}],
    })
}

fn connection_manager() -> Value {
    json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "codec_type": "AUTO",
        "stat_prefix": "agent",
        "route_config": { "virtual_hosts": [{
            "name": "backend",
            "domains": ["*"],
            "routes": [{
                "match": { "path": "/healthz/ready" },
                "route": { "cluster": clusters::AGENT },
            }],
        }]},
        "http_filters": [{
            "name": "envoy.filters.http.router",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
            },
        }],
    })
}
