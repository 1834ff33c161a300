//! DestinationRule: subsets of a host and how to talk to them.

use std::collections::BTreeMap;

use super::{LoadBalancerSettings, PortSelector};
use crate::Duration;
use crate::api::{api, api_enum};
use crate::selector::WorkloadSelector;

api! {
    /// Policies for traffic to a host, after routing.
    #[schemars(extend("required" = ["host"]))]
    pub struct DestinationRule {
        host: String,
        traffic_policy: Option<TrafficPolicy>,
        subsets: Vec<Subset>,
        export_to: Vec<String>,
        workload_selector: Option<WorkloadSelector>,
    }

    /// Load balancing, connection pools, outlier detection and TLS of a destination.
    #[schemars(extend("x-kubernetes-validations" = crate::cel::rules(&[crate::cel::TUNNEL_OR_PROXY_PROTOCOL])))]
    pub struct TrafficPolicy {
        load_balancer: Option<LoadBalancerSettings>,
        connection_pool: Option<ConnectionPoolSettings>,
        outlier_detection: Option<OutlierDetection>,
        tls: Option<ClientTlsSettings>,
        #[schemars(length(max = 4096))]
        port_level_settings: Vec<PortTrafficPolicy>,
        tunnel: Option<TunnelSettings>,
        proxy_protocol: Option<ProxyProtocol>,
        retry_budget: Option<RetryBudget>,
    }

    /// A policy for one port, which replaces the destination's policy there.
    pub struct PortTrafficPolicy {
        port: Option<PortSelector>,
        load_balancer: Option<LoadBalancerSettings>,
        connection_pool: Option<ConnectionPoolSettings>,
        outlier_detection: Option<OutlierDetection>,
        tls: Option<ClientTlsSettings>,
    }

    /// TCP carried in HTTP CONNECT or POST.
    #[schemars(extend("required" = ["targetHost", "targetPort"]))]
    pub struct TunnelSettings {
        protocol: String,
        target_host: String,
        target_port: u32,
    }

    /// PROXY protocol header sent upstream.
    pub struct ProxyProtocol {
        version: ProxyProtocolVersion,
    }

    /// Bound on concurrent retries.
    pub struct RetryBudget {
        /// Of active requests, 0 to 100, default 20.
        #[schemars(range(min = 0, max = 100))]
        percent: Option<f64>,
        min_retry_concurrency: u32,
        budget_interval: Option<Duration>,
    }

    /// Named part of a host's endpoints, chosen by labels.
    #[schemars(extend("required" = ["name"]))]
    pub struct Subset {
        name: String,
        labels: BTreeMap<String, String>,
        traffic_policy: Option<TrafficPolicy>,
    }

    /// Bounds on connections and requests.
    pub struct ConnectionPoolSettings {
        tcp: Option<TcpSettings>,
        http: Option<HttpSettings>,
    }

    /// Connection settings shared by HTTP and TCP.
    pub struct TcpSettings {
        max_connections: i32,
        connect_timeout: Option<Duration>,
        tcp_keepalive: Option<TcpKeepalive>,
        max_connection_duration: Option<Duration>,
        idle_timeout: Option<Duration>,
    }

    /// SO_KEEPALIVE settings; zero or absent is the operating system's default.
    pub struct TcpKeepalive {
        probes: u32,
        time: Option<Duration>,
        interval: Option<Duration>,
    }

    /// Settings of HTTP connections.
    pub struct HttpSettings {
        http1_max_pending_requests: i32,
        http2_max_requests: i32,
        max_requests_per_connection: i32,
        max_retries: i32,
        idle_timeout: Option<Duration>,
        h2_upgrade_policy: H2UpgradePolicy,
        use_client_protocol: bool,
        max_concurrent_streams: i32,
        http2_keep_alive: Option<ConnectionKeepalive>,
    }

    /// HTTP/2 PING based liveness of a connection.
    pub struct ConnectionKeepalive {
        interval: Option<Duration>,
        timeout: Option<Duration>,
    }

    /// When an endpoint is taken out for a while.
    pub struct OutlierDetection {
        /// Deprecated by `consecutive5xxErrors` and `consecutiveGatewayErrors`.
        consecutive_errors: i32,
        split_external_local_origin_errors: bool,
        consecutive_local_origin_failures: Option<u32>,
        consecutive_gateway_errors: Option<u32>,
        consecutive_5xx_errors: Option<u32>,
        interval: Option<Duration>,
        base_ejection_time: Option<Duration>,
        max_ejection_percent: i32,
        min_health_percent: i32,
        #[schemars(inner(range(min = 100, max = 599)))]
        outlier_detection_http_error_codes: Vec<u32>,
    }

    /// TLS towards an upstream.
    pub struct ClientTlsSettings {
        mode: ClientTlsMode,
        client_certificate: String,
        private_key: String,
        ca_certificates: String,
        credential_name: String,
        subject_alt_names: Vec<String>,
        sni: String,
        insecure_skip_verify: Option<bool>,
        ca_crl: String,
    }
}

api_enum! {
    /// Version of the PROXY protocol.
    pub enum ProxyProtocolVersion {
        #[default]
        V1 = "V1",
        V2 = "V2",
    }

    /// Whether HTTP/1.1 is turned into HTTP/2 towards the destination.
    pub enum H2UpgradePolicy {
        #[default]
        Default = "DEFAULT",
        DoNotUpgrade = "DO_NOT_UPGRADE",
        Upgrade = "UPGRADE",
    }

    /// How a client secures its connections.
    pub enum ClientTlsMode {
        #[default]
        Disable = "DISABLE",
        Simple = "SIMPLE",
        Mutual = "MUTUAL",
        /// Mutual TLS with the mesh's own certificates.
        IstioMutual = "ISTIO_MUTUAL",
    }
}
