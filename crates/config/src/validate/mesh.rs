//! MeshConfig with its ProxyConfig, and MeshNetworks.

use super::authentication::https_url;
use super::common::{port, some_duration, unique};
use super::{
    client_tls, connection_pool, destination_rule, header, host, http_route, load_balancer, providers,
    workload,
};
use crate::mesh::{ConnectionSettings, MeshConfig, MeshNetworks, ProxyConfig, RemoteService, Tracing};
use crate::networking::HttpRetry;
use crate::path::At;
use crate::{Duration, syntax};

/// Curves that Envoy knows (BoringSSL's names).
const CURVES: &[&str] = &[
    "P-224",
    "P-256",
    "P-384",
    "P-521",
    "X25519",
    "X25519Kyber768Draft00",
    "X25519MLKEM768",
];

/// Checks MeshConfig.
pub(super) fn check(spec: &MeshConfig, at: &At<'_>) {
    for (key, number) in [
        ("proxyListenPort", spec.proxy_listen_port),
        ("proxyInboundListenPort", spec.proxy_inbound_listen_port),
        ("proxyHttpPort", spec.proxy_http_port),
    ] {
        some_port(key, number, at);
    }
    header::format_string(&spec.access_log_format, &at.key("accessLogFormat"));
    timeouts(spec, at);
    trust_domains(spec, at);
    at.each("caCertificates", &spec.ca_certificates, |certificate, at| {
        at.some(
            "spiffeBundleUrl",
            certificate.spiffe_bundle_url.as_ref(),
            |url, at| https_url(url, at),
        );
        at.each("trustDomains", &certificate.trust_domains, |domain, at| {
            super::spiffe::trust_domain(domain, at)
        });
    });
    at.some("defaultConfig", spec.default_config.as_ref(), proxy_config);
    at.some(
        "localityLbSetting",
        spec.locality_lb_setting.as_ref(),
        |value, at| {
            load_balancer::locality(value, true, at);
        },
    );
    at.each("serviceSettings", &spec.service_settings, |settings, at| {
        at.each("hosts", &settings.hosts, |name, at| {
            host::report(host::wildcard(name), at)
        });
    });
    if spec
        .mesh_mtls
        .as_ref()
        .is_some_and(|tls| !tls.ecdh_curves.is_empty())
    {
        at.key("meshMTLS")
            .key("ecdhCurves")
            .error("cannot be chosen inside the mesh; use tlsDefaults");
    }
    at.some("tlsDefaults", spec.tls_defaults.as_ref(), |tls, at| {
        at.each("ecdhCurves", &tls.ecdh_curves, |curve, at| {
            if !CURVES.contains(&curve.as_str()) {
                at.warning(format!("{curve:?} is not a curve that Envoy knows"));
            }
        });
    });
    at.some(
        "defaultTrafficPolicy",
        spec.default_traffic_policy.as_ref(),
        |policy, at| {
            at.some(
                "connectionPool",
                policy.connection_pool.as_ref(),
                connection_pool::check,
            );
            at.some(
                "outlierDetection",
                policy.outlier_detection.as_ref(),
                destination_rule::outlier_detection,
            );
        },
    );
    at.some(
        "defaultHttpRetryPolicy",
        spec.default_http_retry_policy.as_ref(),
        http_route::retry,
    );
    at.some(
        "defaultInboundHttpRetryPolicy",
        spec.default_inbound_http_retry_policy.as_ref(),
        inbound_retry,
    );
    at.each("extensionProviders", &spec.extension_providers, providers::check);
    unique(
        "extensionProviders",
        spec.extension_providers.iter().map(|p| p.name.as_str()),
        "the provider",
        at,
    );
    if !spec.root_namespace.is_empty() && !syntax::is_dns_label(&spec.root_namespace) {
        at.key("rootNamespace")
            .error(format!("{:?} must be {}", spec.root_namespace, syntax::DNS_LABEL));
    }
    for (key, address) in [
        ("mixerCheckServer", &spec.mixer_check_server),
        ("mixerReportServer", &spec.mixer_report_server),
    ] {
        address_of(key, address, at);
    }
}

fn some_port(key: &str, number: i32, at: &At<'_>) {
    if number != 0 {
        port(u32::try_from(number).unwrap_or(0), &at.key(key));
    }
}

/// `HOST:PORT`, when it is given.
fn address_of(key: &str, address: &str, at: &At<'_>) {
    if !address.is_empty() {
        host::report(
            host::host_port(&address.replacen("$(HOST_IP)", "127.0.0.1", 1)),
            &at.key(key),
        );
    }
}

fn timeouts(spec: &MeshConfig, at: &At<'_>) {
    some_duration("connectTimeout", spec.connect_timeout, at);
    at.some("connectTimeout", spec.connect_timeout.as_ref(), |timeout, at| {
        at.require(*timeout <= Duration::from_secs(3600), "must be at most an hour");
    });
    some_duration("dnsRefreshRate", spec.dns_refresh_rate, at);
    some_duration("hboneIdleTimeout", spec.hbone_idle_timeout, at);
    some_duration("reportBatchMaxTime", spec.report_batch_max_time, at);
    // Zero means no limit.
    some_duration(
        "protocolDetectionTimeout",
        spec.protocol_detection_timeout.filter(|t| !t.is_zero()),
        at,
    );
}

fn trust_domains(spec: &MeshConfig, at: &At<'_>) {
    let check = |domain: &String, at: &At<'_>| {
        let inner = domain.strip_suffix('.').unwrap_or(domain);
        if !inner.split('.').all(syntax::is_host_label) {
            at.error(format!(
                "{domain:?} is not a trust domain: labels of letters, digits and hyphens with dots between"
            ));
        } else {
            super::spiffe::trust_domain(domain, at);
        }
    };
    if !spec.trust_domain.is_empty() {
        check(&spec.trust_domain, &at.key("trustDomain"));
    }
    at.each("trustDomainAliases", &spec.trust_domain_aliases, check);
}

/// Retries that a proxy makes towards its own workload.
fn inbound_retry(retry: &HttpRetry, at: &At<'_>) {
    http_route::retry(retry, at);
    if retry.attempts == 0 && retry.backoff.is_some() {
        at.key("backoff")
            .error_help("attempts is 0, which turns retries off", "set attempts");
    }
    for (key, given) in [
        ("perTryTimeout", retry.per_try_timeout.is_some()),
        ("retryRemoteLocalities", retry.retry_remote_localities.is_some()),
        (
            "retryIgnorePreviousHosts",
            retry.retry_ignore_previous_hosts.is_some(),
        ),
    ] {
        if given {
            at.key(key).warning("has no effect on the way in");
        }
    }
}

/// ProxyConfig, of the mesh or of a workload's annotation.
fn proxy_config(config: &ProxyConfig, at: &At<'_>) {
    some_port("proxyAdminPort", config.proxy_admin_port, at);
    some_port("statusPort", config.status_port, at);
    at.some("drainDuration", config.drain_duration.as_ref(), |drain, at| {
        super::common::duration(*drain, at);
        at.require(drain.0.subsec_nanos() == 0, "must be in whole seconds");
    });
    for (key, address) in [
        ("discoveryAddress", &config.discovery_address),
        ("statsdUdpAddress", &config.statsd_udp_address),
        ("zipkinAddress", &config.zipkin_address),
        (
            "envoyMetricsServiceAddress",
            &config.envoy_metrics_service_address,
        ),
    ] {
        address_of(key, address, at);
    }
    let remote = |service: &RemoteService, at: &At<'_>| {
        address_of("address", &service.address, at);
        at.some("tlsSettings", service.tls_settings.as_ref(), |tls, at| {
            client_tls::check(tls, "", at)
        });
    };
    at.some(
        "envoyMetricsService",
        config.envoy_metrics_service.as_ref(),
        remote,
    );
    at.some(
        "envoyAccessLogService",
        config.envoy_access_log_service.as_ref(),
        remote,
    );
    at.some("tracing", config.tracing.as_ref(), tracing);
    at.some("readinessProbe", config.readiness_probe.as_ref(), workload::probe);
    if config.concurrency.is_some_and(|threads| threads < 0) {
        at.key("concurrency")
            .error("is negative; 0 means one thread for each CPU");
    }
    at.some(
        "privateKeyProvider",
        config.private_key_provider.as_ref(),
        |provider, at| {
            at.require(
                provider.cryptomb.is_some() || provider.qat.is_some(),
                "cryptomb or qat is needed",
            );
            for (key, method) in [("cryptomb", &provider.cryptomb), ("qat", &provider.qat)] {
                at.some(key, method.as_ref(), |method, at| {
                    let polls = method.poll_delay.is_some_and(|delay| !delay.is_zero());
                    at.key("pollDelay")
                        .require(polls, "must be given, and more than 0");
                });
            }
        },
    );
    at.some(
        "connectionSettings",
        config.connection_settings.as_ref(),
        connection_settings,
    );
}

fn tracing(tracing: &Tracing, at: &At<'_>) {
    for (key, tracer) in [("zipkin", &tracing.zipkin), ("datadog", &tracing.datadog)] {
        at.some(key, tracer.as_ref(), |tracer, at| {
            address_of("address", &tracer.address, at)
        });
    }
    at.some("lightstep", tracing.lightstep.as_ref(), |tracer, at| {
        host::report(host::host_port(&tracer.address), &at.key("address"));
        at.key("accessToken")
            .require(!tracer.access_token.is_empty(), "this field is required");
    });
    if !(0.0..=100.0).contains(&tracing.sampling) {
        at.key("sampling")
            .error(format!("{} is not from 0 to 100", tracing.sampling));
    }
    at.some("tlsSettings", tracing.tls_settings.as_ref(), |tls, at| {
        client_tls::check(tls, "", at)
    });
}

fn connection_settings(settings: &ConnectionSettings, at: &At<'_>) {
    for (key, value, least) in [
        (
            "listenerPerConnectionBufferLimitBytes",
            settings.listener_per_connection_buffer_limit_bytes,
            0,
        ),
        (
            "clusterPerConnectionBufferLimitBytes",
            settings.cluster_per_connection_buffer_limit_bytes,
            0,
        ),
        (
            "httpMaxConcurrentStreams",
            settings.http_max_concurrent_streams,
            1,
        ),
        (
            "http2InitialStreamWindowSize",
            settings.http2_initial_stream_window_size,
            65535,
        ),
        (
            "http2InitialConnectionWindowSize",
            settings.http2_initial_connection_window_size,
            65535,
        ),
        ("listenerConnectionLimit", settings.listener_connection_limit, 1),
        (
            "globalDownstreamConnectionLimit",
            settings.global_downstream_connection_limit,
            1,
        ),
    ] {
        at.some(key, value.as_ref(), |value, at| {
            if *value < least {
                at.error(format!("{value} is less than {least}"));
            }
        });
    }
}

/// Checks MeshNetworks.
pub(super) fn networks(spec: &MeshNetworks, at: &At<'_>) {
    for (name, network) in &spec.networks {
        let at = at.key("networks");
        let at = at.key(name);
        at.each("endpoints", &network.endpoints, |endpoints, at| {
            at.some("fromCidr", endpoints.from_cidr.as_ref(), |range, at| {
                at.require(
                    syntax::is_ip_or_range(range),
                    "must be an IP address or a range such as 10.0.0.0/8",
                );
            });
            at.some(
                "fromRegistry",
                endpoints.from_registry.as_ref(),
                |registry, at| {
                    at.require(
                        syntax::is_host_label(registry),
                        "must be a registry's name: letters, digits and hyphens",
                    );
                },
            );
        });
        at.each("gateways", &network.gateways, |gateway, at| {
            at.some(
                "registryServiceName",
                gateway.registry_service_name.as_ref(),
                |name, at| {
                    host::report(host::dns_name(name), at);
                },
            );
            at.some("address", gateway.address.as_ref(), |address, at| {
                let fine = syntax::ip(address).is_some() || host::dns_name(address).is_none();
                at.require(fine, "must be an IP address or a DNS name");
            });
            port(gateway.port, &at.key("port"));
        });
    }
}
