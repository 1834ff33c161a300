//! How connections are spread over endpoints: simple and hash based policies, locality, warm-up.

use std::collections::BTreeMap;

use crate::Duration;
use crate::api::{api, api_enum};

api! {
    /// Load balancing of one destination.
    #[schemars(extend("x-oneof" = [["simple", "consistentHash", "backendUtilization"]]))]
    pub struct LoadBalancerSettings {
        simple: Option<SimpleLb>,
        consistent_hash: Option<ConsistentHashLb>,
        backend_utilization: Option<BackendUtilization>,
        locality_lb_setting: Option<LocalityLoadBalancerSetting>,
        zone_aware_lb_setting: Option<ZoneAwareLoadBalancerSetting>,
        /// Deprecated by `warmup`.
        warmup_duration_secs: Option<Duration>,
        warmup: Option<WarmupConfiguration>,
    }

    /// A hash of the request chooses the endpoint.
    #[schemars(extend("x-oneof" = [
        ["httpHeaderName", "httpCookie", "useSourceIp", "httpQueryParameterName"], ["ringHash", "maglev"]
    ]))]
    pub struct ConsistentHashLb {
        http_header_name: Option<String>,
        http_cookie: Option<HttpCookie>,
        use_source_ip: Option<bool>,
        http_query_parameter_name: Option<String>,
        ring_hash: Option<RingHash>,
        maglev: Option<MagLev>,
        /// Deprecated by `ringHash`.
        minimum_ring_size: u64,
    }

    /// Endpoints are weighted by the utilization that they report themselves (ORCA).
    pub struct BackendUtilization {
        weight_stabilization_period: Option<Duration>,
        weight_expiration_period: Option<Duration>,
        weight_update_period: Option<Duration>,
        error_utilization_penalty_percent: Option<u32>,
        metric_names_for_computing_utilization: Vec<String>,
    }

    /// Hash ring with at least this many virtual nodes (default 1024).
    pub struct RingHash {
        minimum_ring_size: u64,
    }

    /// Maglev table size; prime, default 65537.
    pub struct MagLev {
        table_size: u64,
    }

    /// The cookie that carries the hash; made by the proxy when `ttl` is set.
    #[schemars(extend("required" = ["name"]))]
    pub struct HttpCookie {
        name: String,
        path: String,
        ttl: Option<Duration>,
        attributes: Vec<CookieAttribute>,
    }

    /// An attribute of a cookie that the proxy makes.
    #[schemars(extend("required" = ["name"]))]
    pub struct CookieAttribute {
        name: String,
        value: String,
    }

    /// New endpoints get their share of traffic step by step.
    #[schemars(extend("required" = ["duration"]))]
    pub struct WarmupConfiguration {
        duration: Option<Duration>,
        /// Share at the beginning in percent, 0 to 100, default 10.
        #[schemars(range(min = 0, max = 100))]
        minimum_percent: Option<f64>,
        /// Shape of the curve, 1 or more, default 1 (linear).
        #[schemars(range(min = 0))]
        aggression: Option<f64>,
    }

    /// Load balancing by locality (`region/zone/subzone`).
    pub struct LocalityLoadBalancerSetting {
        distribute: Vec<LocalityDistribute>,
        failover: Vec<LocalityFailover>,
        failover_priority: Vec<String>,
        enabled: Option<bool>,
    }

    /// Where the traffic of one locality goes, in percent by locality.
    pub struct LocalityDistribute {
        from: String,
        to: BTreeMap<String, u32>,
    }

    /// Which region takes over from another.
    pub struct LocalityFailover {
        from: String,
        to: String,
    }

    /// Load balancing that prefers the caller's zone as far as its capacity allows.
    pub struct ZoneAwareLoadBalancerSetting {
        enabled: Option<bool>,
        failover: Vec<LocalityFailover>,
        failover_priority: Vec<String>,
        #[schemars(range(min = 1))]
        min_cluster_size: Option<u64>,
    }
}

api_enum! {
    /// Policies without parameters.
    pub enum SimpleLb {
        #[default]
        Unspecified = "UNSPECIFIED",
        /// Deprecated name of `LEAST_REQUEST`.
        LeastConn = "LEAST_CONN",
        Random = "RANDOM",
        Passthrough = "PASSTHROUGH",
        RoundRobin = "ROUND_ROBIN",
        LeastRequest = "LEAST_REQUEST",
    }
}
