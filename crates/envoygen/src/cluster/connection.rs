//! Connections of a cluster: protocol, bounds, timeouts, and when an endpoint is taken out.

use config::mesh::{MeshConfig, MeshH2UpgradePolicy};
use config::networking::{
    ConnectionPoolSettings, H2UpgradePolicy, HttpSettings, OutlierDetection, RetryBudget, TcpKeepalive,
};
use envoy_types::pb::envoy::config::cluster::v3::{
    CircuitBreakers, Cluster, OutlierDetection as EnvoyOutlier, UpstreamConnectionOptions,
    circuit_breakers::{Thresholds, thresholds::RetryBudget as EnvoyBudget},
    cluster::CommonLbConfig,
};
use envoy_types::pb::envoy::config::common::matcher::v3::{
    HttpHeadersMatch, MatchPredicate, match_predicate,
};
use envoy_types::pb::envoy::config::core::v3::{
    Http1ProtocolOptions, Http2ProtocolOptions, HttpProtocolOptions as CommonHttp, KeepaliveSettings,
    TcpKeepalive as EnvoyKeepalive, UpstreamHttpProtocolOptions,
};
use envoy_types::pb::envoy::config::route::v3::{HeaderMatcher, header_matcher::HeaderMatchSpecifier};
use envoy_types::pb::envoy::extensions::upstreams::http::v3::{
    HttpProtocolOptions,
    http_protocol_options::{
        self, ExplicitHttpConfig, UpstreamProtocolOptions, UseDownstreamHttpConfig,
        explicit_http_config::ProtocolConfig,
    },
};
use envoy_types::pb::envoy::r#type::v3::Percent;
use model::Protocol;

use super::policy::Effective;
use crate::proxy::ProxyKind;
use crate::wire::{duration, exact, plain_any, u32_value};

/// Key of the HTTP settings among a cluster's protocol options.
const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// How an upstream is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UpstreamProtocol {
    /// Bytes.
    Tcp,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
    /// HTTP in the version that the proxy got it in.
    Downstream,
}

/// Who speaks to an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speaker {
    /// A sidecar, for its application.
    Sidecar,
    /// A gateway.
    Router,
    /// A sidecar, to its application.
    Server,
}

impl From<ProxyKind> for Speaker {
    fn from(kind: ProxyKind) -> Self {
        match kind {
            ProxyKind::Sidecar => Speaker::Sidecar,
            ProxyKind::Router => Speaker::Router,
        }
    }
}

/// The upstream's protocol: the port's, unless a policy upgrades it or keeps the client's. Of a port without a declared
/// protocol nobody knows whether it takes HTTP/2: sidecars speak what their applications do, gateways, whose clients take
/// HTTP/2 wherever TLS offers it, HTTP/1.1. No application is upgraded by the proxy beside it (Istio).
pub(crate) fn upstream_protocol(
    policy: &Effective,
    port: Protocol,
    mesh: &MeshConfig,
    speaker: Speaker,
) -> UpstreamProtocol {
    let http = policy
        .connection_pool
        .as_ref()
        .and_then(|pool| pool.http.as_ref());
    let maybe_http = port.is_http() || port == Protocol::Auto;
    if http.is_some_and(|http| http.use_client_protocol) && maybe_http {
        return UpstreamProtocol::Downstream;
    }
    let upgrade = match http.map(|http| http.h2_upgrade_policy).unwrap_or_default() {
        H2UpgradePolicy::Default => port.is_http() && mesh.h2_upgrade_policy == MeshH2UpgradePolicy::Upgrade,
        H2UpgradePolicy::DoNotUpgrade => false,
        H2UpgradePolicy::Upgrade => maybe_http,
    };
    match port {
        _ if port.is_http2() => UpstreamProtocol::Http2,
        _ if upgrade && speaker != Speaker::Server => UpstreamProtocol::Http2,
        Protocol::Auto if speaker != Speaker::Router => UpstreamProtocol::Downstream,
        _ if maybe_http => UpstreamProtocol::Http1,
        _ => UpstreamProtocol::Tcp,
    }
}

/// Sets protocol, bounds and outlier detection.
pub(super) fn apply(
    cluster: &mut Cluster,
    policy: &Effective,
    port: Protocol,
    mesh: &MeshConfig,
    speaker: Speaker,
) {
    let pool = policy.connection_pool.clone().unwrap_or_default();
    cluster.circuit_breakers = Some(circuit_breakers(&pool, policy.retry_budget.as_ref()));
    apply_tcp(cluster, &pool, mesh);
    let protocol = upstream_protocol(policy, port, mesh, speaker);
    let outlier = policy.outlier_detection.as_ref();
    if protocol != UpstreamProtocol::Tcp {
        let mut options = http_options(protocol, &pool);
        options.outlier_detection = outlier.and_then(counted_codes);
        set_http_options(cluster, &options);
    } else if let Some(common) = common_options(&pool) {
        // Envoy reads the bounds of raw connections from here too.
        let options = HttpProtocolOptions {
            common_http_protocol_options: Some(common),
            upstream_protocol_options: Some(explicit(ProtocolConfig::HttpProtocolOptions(
                Http1ProtocolOptions::default(),
            ))),
            ..Default::default()
        };
        set_http_options(cluster, &options);
    }
    if let Some(outlier) = outlier {
        apply_outlier(cluster, outlier);
    }
}

/// Which answers count as failures, where not those from 500 on.
fn counted_codes(outlier: &OutlierDetection) -> Option<http_protocol_options::OutlierDetection> {
    let rule = |code: &u32| MatchPredicate {
        rule: Some(match_predicate::Rule::HttpResponseHeadersMatch(
            HttpHeadersMatch {
                headers: vec![HeaderMatcher {
                    name: ":status".to_owned(),
                    header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(exact(&code.to_string()))),
                    ..Default::default()
                }],
            },
        )),
    };
    let mut rules: Vec<_> = outlier
        .outlier_detection_http_error_codes
        .iter()
        .map(rule)
        .collect();
    let matcher = match rules.len() {
        0 => return None,
        1 => rules.pop(),
        _ => Some(MatchPredicate {
            rule: Some(match_predicate::Rule::OrMatch(match_predicate::MatchSet {
                rules,
            })),
        }),
    };
    Some(http_protocol_options::OutlierDetection {
        error_matcher: matcher,
    })
}

fn set_http_options(cluster: &mut Cluster, options: &HttpProtocolOptions) {
    cluster
        .typed_extension_protocol_options
        .insert(HTTP_OPTIONS.to_owned(), plain_any(options));
}

/// Takes out what Envoy does unless told otherwise, HTTP/1.1: clusters are most of what a proxy is sent.
pub(super) fn leave_out_defaults(cluster: &mut Cluster) {
    let http1 = explicit(ProtocolConfig::HttpProtocolOptions(
        Http1ProtocolOptions::default(),
    ));
    let default = plain_any(&HttpProtocolOptions {
        upstream_protocol_options: Some(http1),
        ..Default::default()
    });
    cluster
        .typed_extension_protocol_options
        .retain(|key, options| key != HTTP_OPTIONS || *options != default);
}

/// Sets SNI from the request's host, and checks the certificate against it where nothing else is asked for.
pub(super) fn auto_sni(cluster: &mut Cluster, sni: bool, san: bool) {
    use prost::Message;
    let known = cluster.typed_extension_protocol_options.get(HTTP_OPTIONS);
    let Some(mut options) = known.and_then(|any| HttpProtocolOptions::decode(any.value.as_slice()).ok())
    else {
        return;
    };
    options.upstream_http_protocol_options = Some(UpstreamHttpProtocolOptions {
        auto_sni: sni,
        auto_san_validation: san,
        ..Default::default()
    });
    set_http_options(cluster, &options);
}

fn http_options(protocol: UpstreamProtocol, pool: &ConnectionPoolSettings) -> HttpProtocolOptions {
    let none = HttpSettings::default();
    let http = pool.http.as_ref().unwrap_or(&none);
    let http2 = Http2ProtocolOptions {
        max_concurrent_streams: positive(http.max_concurrent_streams).and_then(u32_value),
        connection_keepalive: http.http2_keep_alive.as_ref().map(|keepalive| KeepaliveSettings {
            interval: keepalive.interval.and_then(|i| duration(i.0)),
            timeout: keepalive.timeout.and_then(|t| duration(t.0)),
            ..Default::default()
        }),
        ..Default::default()
    };
    let options = match protocol {
        UpstreamProtocol::Http2 => explicit(ProtocolConfig::Http2ProtocolOptions(http2)),
        UpstreamProtocol::Downstream => {
            UpstreamProtocolOptions::UseDownstreamProtocolConfig(UseDownstreamHttpConfig {
                http_protocol_options: Some(Http1ProtocolOptions::default()),
                http2_protocol_options: Some(http2),
                ..Default::default()
            })
        }
        _ => explicit(ProtocolConfig::HttpProtocolOptions(
            Http1ProtocolOptions::default(),
        )),
    };
    HttpProtocolOptions {
        common_http_protocol_options: common_options(pool),
        upstream_protocol_options: Some(options),
        ..Default::default()
    }
}

/// Bounds on connections, whatever they carry; none if nothing is asked for.
fn common_options(pool: &ConnectionPoolSettings) -> Option<CommonHttp> {
    let (tcp, http) = (pool.tcp.as_ref(), pool.http.as_ref());
    let idle = http
        .and_then(|http| http.idle_timeout)
        .or_else(|| tcp.and_then(|tcp| tcp.idle_timeout));
    let longest = tcp.and_then(|tcp| tcp.max_connection_duration);
    let per_connection = http.and_then(|http| positive(http.max_requests_per_connection));
    (idle.is_some() || longest.is_some() || per_connection.is_some()).then(|| CommonHttp {
        idle_timeout: idle.and_then(|idle| duration(idle.0)),
        max_connection_duration: longest.and_then(|longest| duration(longest.0)),
        max_requests_per_connection: per_connection.and_then(u32_value),
        ..Default::default()
    })
}

fn explicit(config: ProtocolConfig) -> UpstreamProtocolOptions {
    UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig {
        protocol_config: Some(config),
    })
}

fn positive(value: i32) -> Option<u32> {
    u32::try_from(value).ok().filter(|value| *value > 0)
}

/// Bounds as asked for, and none where nothing is (Envoy's own bound of 1,024 would surprise).
fn circuit_breakers(pool: &ConnectionPoolSettings, budget: Option<&RetryBudget>) -> CircuitBreakers {
    let bound = |value: Option<i32>| u32_value(value.and_then(positive).unwrap_or(u32::MAX));
    let (tcp, http) = (pool.tcp.as_ref(), pool.http.as_ref());
    CircuitBreakers {
        thresholds: vec![Thresholds {
            max_connections: bound(tcp.map(|tcp| tcp.max_connections)),
            max_pending_requests: bound(http.map(|http| http.http1_max_pending_requests)),
            max_requests: bound(http.map(|http| http.http2_max_requests)),
            max_retries: bound(http.map(|http| http.max_retries)),
            track_remaining: true,
            retry_budget: budget.map(retry_budget),
            ..Default::default()
        }],
        ..Default::default()
    }
}

/// Retries as a share of the active requests, 20% and at least 3 if nothing is given (Istio).
fn retry_budget(budget: &RetryBudget) -> EnvoyBudget {
    let concurrency = match budget.min_retry_concurrency {
        0 => 3,
        given => given,
    };
    EnvoyBudget {
        budget_percent: Some(Percent {
            value: budget.percent.unwrap_or(20.0).clamp(0.0, 100.0),
        }),
        min_retry_concurrency: u32_value(concurrency),
        budget_interval: budget.budget_interval.and_then(|interval| duration(interval.0)),
    }
}

fn apply_tcp(cluster: &mut Cluster, pool: &ConnectionPoolSettings, mesh: &MeshConfig) {
    let tcp = pool.tcp.as_ref();
    if let Some(timeout) = tcp.and_then(|tcp| tcp.connect_timeout) {
        cluster.connect_timeout = duration(timeout.0);
    }
    let own = tcp.and_then(|tcp| tcp.tcp_keepalive.as_ref());
    cluster.upstream_connection_options =
        (own.is_some() || mesh.tcp_keepalive.is_some()).then(|| UpstreamConnectionOptions {
            tcp_keepalive: Some(tcp_keepalive(own, mesh.tcp_keepalive.as_ref())),
            ..Default::default()
        });
}

/// A rule's settings, each that it leaves open as the mesh has it (Istio).
fn tcp_keepalive(own: Option<&TcpKeepalive>, mesh: Option<&TcpKeepalive>) -> EnvoyKeepalive {
    let setting = |of: &dyn Fn(&TcpKeepalive) -> Option<u32>| {
        let given = |keepalive: Option<&TcpKeepalive>| keepalive.and_then(of).filter(|value| *value > 0);
        given(own).or_else(|| given(mesh)).and_then(u32_value)
    };
    let seconds = |time: Option<config::Duration>| u32::try_from(time?.0.as_secs()).ok();
    EnvoyKeepalive {
        keepalive_probes: setting(&|keepalive| Some(keepalive.probes)),
        keepalive_time: setting(&|keepalive| seconds(keepalive.time)),
        keepalive_interval: setting(&|keepalive| seconds(keepalive.interval)),
    }
}

fn apply_outlier(cluster: &mut Cluster, outlier: &OutlierDetection) {
    let count = |asked: Option<u32>| asked.and_then(u32_value);
    let enforced = |asked: Option<u32>| asked.and_then(|count| u32_value(if count > 0 { 100 } else { 0 }));
    let five_xx = outlier
        .consecutive_5xx_errors
        .or_else(|| positive(outlier.consecutive_errors));
    let gateway = outlier.consecutive_gateway_errors;
    cluster.outlier_detection = Some(EnvoyOutlier {
        consecutive_5xx: count(five_xx.filter(|n| *n > 0)),
        enforcing_consecutive_5xx: enforced(five_xx),
        consecutive_gateway_failure: count(gateway.filter(|n| *n > 0)),
        enforcing_consecutive_gateway_failure: enforced(gateway),
        // Only what is counted takes endpoints out (Istio).
        enforcing_success_rate: u32_value(0),
        interval: outlier.interval.and_then(|i| duration(i.0)),
        base_ejection_time: outlier.base_ejection_time.and_then(|t| duration(t.0)),
        max_ejection_percent: positive(outlier.max_ejection_percent).and_then(u32_value),
        split_external_local_origin_errors: outlier.split_external_local_origin_errors,
        consecutive_local_origin_failure: count(outlier.consecutive_local_origin_failures.filter(|n| *n > 0)),
        enforcing_consecutive_local_origin_failure: enforced(outlier.consecutive_local_origin_failures),
        enforcing_local_origin_success_rate: u32_value(0),
        ..Default::default()
    });
    let healthy = f64::from(outlier.min_health_percent.clamp(0, 100));
    let common = cluster
        .common_lb_config
        .get_or_insert_with(CommonLbConfig::default);
    common.healthy_panic_threshold = Some(Percent { value: healthy });
}
