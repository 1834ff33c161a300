//! Connection pool settings of destinations, sidecars and the mesh.

use super::common::{duration, not_negative, some_duration};
use crate::networking::{ConnectionPoolSettings, H2UpgradePolicy, HttpSettings, TcpSettings};
use crate::path::At;

/// Checks connection pool settings.
pub(super) fn check(pool: &ConnectionPoolSettings, at: &At<'_>) {
    at.require(
        pool.http.is_some() || pool.tcp.is_some(),
        "no setting is given; tcp or http is needed",
    );
    at.some("http", pool.http.as_ref(), http);
    at.some("tcp", pool.tcp.as_ref(), tcp);
}

fn http(http: &HttpSettings, at: &At<'_>) {
    not_negative("http1MaxPendingRequests", http.http1_max_pending_requests, at);
    not_negative("http2MaxRequests", http.http2_max_requests, at);
    not_negative("maxRequestsPerConnection", http.max_requests_per_connection, at);
    not_negative("maxRetries", http.max_retries, at);
    not_negative("maxConcurrentStreams", http.max_concurrent_streams, at);
    some_duration("idleTimeout", http.idle_timeout, at);
    if http.h2_upgrade_policy == H2UpgradePolicy::Upgrade && http.use_client_protocol {
        at.key("useClientProtocol")
            .error("excluded by h2UpgradePolicy UPGRADE; keep one of them");
    }
    at.some(
        "http2KeepAlive",
        http.http2_keep_alive.as_ref(),
        |keepalive, at| {
            for (key, value) in [("interval", keepalive.interval), ("timeout", keepalive.timeout)] {
                match value {
                    Some(value) => duration(value, &at.key(key)),
                    None => at.key(key).error("this field is required"),
                }
            }
        },
    );
}

fn tcp(tcp: &TcpSettings, at: &At<'_>) {
    not_negative("maxConnections", tcp.max_connections, at);
    some_duration("connectTimeout", tcp.connect_timeout, at);
    some_duration("maxConnectionDuration", tcp.max_connection_duration, at);
    // Zero turns the timeout off.
    some_duration(
        "idleTimeout",
        tcp.idle_timeout.filter(|timeout| !timeout.is_zero()),
        at,
    );
    at.some("tcpKeepalive", tcp.tcp_keepalive.as_ref(), |keepalive, at| {
        some_duration("time", keepalive.time, at);
        some_duration("interval", keepalive.interval, at);
    });
}
