//! ProxyConfig (`PROXY_CONFIG`, what MeshConfig's `defaultConfig`, ProxyConfig objects and the pod's annotation say together) as
//! far as it is the agent's. Pure. Fields that are Pilot's, the injector's or obsolete are passed over here; those that nobody
//! follows are named by [`Settings::unsupported`].

use std::collections::BTreeMap;
use std::time::Duration;

use config::Spec;
use config::mesh::ProxyConfig;
use serde_json::Value;

use crate::bootstrap::StatsOptions;

/// Envoy's worker threads when nothing says how many.
const THREADS: u32 = 2;
/// Most worker threads.
const MAX_THREADS: u32 = 1024;
/// Istio's terminationDrainDuration.
const TERMINATION_DRAIN: Duration = Duration::from_secs(5);

/// ProxyConfig breaks a rule of MeshConfig's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("PROXY_CONFIG: {0}")]
pub struct SettingsError(String);

/// What the agent does because of ProxyConfig.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Worker threads: 0 is one for each processor; `None` leaves it to the pod's limit.
    pub concurrency: Option<u32>,
    /// How long Envoy drains a listener.
    pub drain: Option<Duration>,
    /// Shortest time from SIGTERM to Envoy's end.
    pub termination_drain: Duration,
    /// Port of Envoy's admin interface.
    pub admin_port: Option<u16>,
    /// The agent's port.
    pub status_port: Option<u16>,
    /// Statistics to keep, and their tags.
    pub stats: StatsOptions,
    /// Envoy's runtime flags.
    pub runtime: BTreeMap<String, String>,
    /// Envoy's name for itself in traces and logs.
    pub service_cluster: Option<String>,
    /// Fields that are set and that nobody follows.
    pub unsupported: Vec<&'static str>,
}

impl Default for Settings {
    fn default() -> Self {
        of(ProxyConfig::default())
    }
}

impl Settings {
    /// Reads the variable; an empty one says nothing.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn read(text: &str) -> Result<Self, SettingsError> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let value: Value =
            serde_json::from_str(text).map_err(|error| SettingsError(format!("not JSON: {error}")))?;
        let mesh = serde_json::json!({"defaultConfig": value}).to_string();
        let parsed = config::parse_mesh_config("PROXY_CONFIG", mesh.as_bytes(), "");
        if let Some(error) = parsed.findings.iter().find(|finding| finding.is_error()) {
            return Err(SettingsError(format!("{}: {}", error.path, error.message)));
        }
        let mesh = parsed.objects.into_iter().find_map(|object| match object.spec {
            Spec::MeshConfig(mesh) => mesh.default_config.clone(),
            _ => None,
        });
        Ok(of(mesh.unwrap_or_default()))
    }

    /// Envoy's worker threads. `given` is the flag's value, `limit` the pod's processors, `machine` those of the machine.
    #[must_use]
    pub fn threads(&self, given: Option<u32>, limit: Option<u32>, machine: u32) -> u32 {
        let own = match self.concurrency {
            Some(0) => Some(machine),
            own => own,
        };
        let threads = given
            .or(own)
            .or(limit.filter(|limit| *limit > 0))
            .unwrap_or(THREADS);
        threads.clamp(1, MAX_THREADS)
    }
}

fn of(config: ProxyConfig) -> Settings {
    let port = |port: i32| u16::try_from(port).ok().filter(|port| *port != 0);
    let unsupported = unsupported(&config);
    let matcher = config.proxy_stats_matcher.unwrap_or_default();
    Settings {
        concurrency: config.concurrency.and_then(|threads| u32::try_from(threads).ok()),
        drain: config.drain_duration.map(Into::into),
        termination_drain: config
            .termination_drain_duration
            .map_or(TERMINATION_DRAIN, Into::into),
        admin_port: port(config.proxy_admin_port),
        status_port: port(config.status_port),
        stats: StatsOptions {
            prefixes: matcher.inclusion_prefixes,
            suffixes: matcher.inclusion_suffixes,
            regexps: matcher.inclusion_regexps,
            extra_tags: config.extra_stat_tags,
        },
        runtime: config.runtime_values,
        service_cluster: config.service_cluster.filter(|name| !name.is_empty()),
        unsupported,
    }
}

/// Fields of Envoy's bootstrap that are not written.
fn unsupported(config: &ProxyConfig) -> Vec<&'static str> {
    let set = [
        ("statsdUdpAddress", !config.statsd_udp_address.is_empty()),
        (
            "envoyMetricsServiceAddress",
            !config.envoy_metrics_service_address.is_empty(),
        ),
        ("envoyMetricsService", config.envoy_metrics_service.is_some()),
        ("envoyAccessLogService", config.envoy_access_log_service.is_some()),
        ("customConfigFile", !config.custom_config_file.is_empty()),
        (
            "proxyBootstrapTemplatePath",
            !config.proxy_bootstrap_template_path.is_empty(),
        ),
        ("readinessProbe", config.readiness_probe.is_some()),
        ("caCertificatesPem", !config.ca_certificates_pem.is_empty()),
        ("privateKeyProvider", config.private_key_provider.is_some()),
        ("fileFlushInterval", config.file_flush_interval.is_some()),
        ("fileFlushMinSizeKb", config.file_flush_min_size_kb != 0),
        ("statsCompression", config.stats_compression.is_some()),
        ("proxyHeaders", config.proxy_headers.is_some()),
        ("connectionSettings", config.connection_settings.is_some()),
    ];
    set.iter()
        .filter(|(_, set)| *set)
        .map(|(name, _)| *name)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agents_fields_are_followed_and_others_named() {
        let text = r#"{"concurrency": 3, "drainDuration": "20s", "terminationDrainDuration": "7s", "proxyAdminPort": 15100,
            "proxyStatsMatcher": {"inclusionPrefixes": ["cluster."]}, "runtimeValues": {"a.b": "1"},
            "statsdUdpAddress": "127.0.0.1:8125", "holdApplicationUntilProxyStarts": true}"#;
        let settings = Settings::read(text).unwrap();
        assert_eq!(settings.drain, Some(Duration::from_secs(20)));
        assert_eq!(settings.termination_drain, Duration::from_secs(7));
        assert_eq!((settings.admin_port, settings.status_port), (Some(15100), None));
        assert_eq!(settings.stats.prefixes, ["cluster."]);
        assert_eq!(settings.runtime.get("a.b").unwrap(), "1");
        assert_eq!(settings.unsupported, ["statsdUdpAddress"]);
        assert_eq!(Settings::read("").unwrap(), Settings::default());
        let error = Settings::read(r#"{"concurrency": "many"}"#)
            .unwrap_err()
            .to_string();
        assert!(error.contains("defaultConfig.concurrency"), "{error}");
    }

    #[test]
    fn threads_are_the_flags_then_proxy_configs_then_the_pods() {
        let check = |text: &str, given, limit, expected| {
            assert_eq!(
                Settings::read(text).unwrap().threads(given, limit, 8),
                expected,
                "{text}"
            );
        };
        check("", None, None, 2);
        check("", None, Some(3), 3);
        check(r#"{"concurrency": 4}"#, None, Some(3), 4);
        check(r#"{"concurrency": 0}"#, None, Some(3), 8);
        check(r#"{"concurrency": 4}"#, Some(1), None, 1);
    }
}
