//! What a pod's annotations ask for, read and checked once. Unknown annotations are other people's.

use std::collections::BTreeMap;

use config::mesh::{InboundInterceptionMode, ProxyConfig};
use k8s_openapi::api::core::v1::{Volume, VolumeMount};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::names;
use crate::settings::Settings;

type Annotations = BTreeMap<String, String>;

/// How traffic comes to the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Interception {
    /// By NAT: the proxy is the connections' source.
    Redirect,
    /// Transparently: the application sees its callers' addresses.
    Tproxy,
    /// Not at all: the application names the proxy.
    None,
}

impl Interception {
    /// As ProxyConfig writes it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Redirect => "REDIRECT",
            Self::Tproxy => "TPROXY",
            Self::None => "NONE",
        }
    }
}

/// An annotation whose value means nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("annotation {name}: {reason}")]
pub struct WishError {
    /// The annotation.
    pub name: String,
    /// The rule that its value breaks.
    pub reason: String,
}

pub(crate) fn list(errors: &[WishError]) -> String {
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    texts.join("; ")
}

/// All that a pod asks for beside the templates, over the settings.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Wishes {
    /// The mesh's ProxyConfig with the pod's over it, as JSON for the agent.
    pub(crate) proxy_config: Value,
    /// The same, read.
    pub(crate) proxy: ProxyConfig,
    pub(crate) interception: Interception,
    /// 0 is none.
    pub(crate) status_port: u16,
    pub(crate) readiness: crate::settings::Readiness,
    pub(crate) traffic: crate::settings::Traffic,
    pub(crate) volumes: Vec<Volume>,
    pub(crate) mounts: Vec<VolumeMount>,
    pub(crate) hold: bool,
    pub(crate) native: bool,
    pub(crate) rewrite_probes: bool,
    pub(crate) merge_metrics: bool,
}

/// Collects what is wrong, so that all of it is told at once.
struct Reader<'a> {
    annotations: &'a Annotations,
    errors: Vec<WishError>,
}

impl Reader<'_> {
    fn wrong(&mut self, name: &str, reason: String) {
        self.errors.push(WishError {
            name: name.to_owned(),
            reason,
        });
    }

    /// The value by `read`, or `default` when there is none or it is wrong.
    fn read<T>(&mut self, name: &str, default: T, read: impl FnOnce(&str) -> Result<T, String>) -> T {
        match self.annotations.get(name).map(|value| read(value)) {
            None => default,
            Some(Ok(value)) => value,
            Some(Err(reason)) => {
                self.wrong(name, reason);
                default
            }
        }
    }

    /// The text if `check` finds nothing wrong with it.
    fn text(&mut self, name: &str, default: &str, check: impl FnOnce(&str) -> Result<(), String>) -> String {
        self.read(name, default.to_owned(), |value| {
            check(value).map(|()| value.to_owned())
        })
    }
}

/// Annotations that go into the proxy's containers as they are, each with its rule.
fn passed_on(reader: &mut Reader<'_>) {
    const RULED: [&str; 12] = [
        names::CPU,
        names::CPU_LIMIT,
        names::MEMORY,
        names::MEMORY_LIMIT,
        names::LOG_LEVEL,
        names::COMPONENT_LOG_LEVEL,
        names::PROXY_IMAGE,
        names::PROXY_IMAGE_TYPE,
        names::EXCLUDE_INTERFACES,
        names::VIRTUAL_INTERFACES,
        names::REROUTE_INTERFACES,
        names::STATS_REGEXPS,
    ];
    for name in RULED {
        reader.read(name, (), |value| analysis::annotation_value(name, value));
    }
    reader.read(names::AGENT_LOG_LEVEL, (), |value| {
        let none = runtime::logging::LogHandle::detached();
        none.set_level(value).map_err(|error| error.to_string())
    });
}

impl Wishes {
    /// Reads a pod's annotations.
    pub(crate) fn read(annotations: &Annotations, settings: &Settings) -> Result<Self, Vec<WishError>> {
        let mut reader = Reader {
            annotations,
            errors: Vec::new(),
        };
        passed_on(&mut reader);
        let (proxy_config, proxy) = proxy_config(&mut reader, settings);
        let interception = reader.read(
            names::INTERCEPTION,
            interception(&proxy_config, &proxy, settings),
            |value| {
                serde_json::from_value(Value::String(value.to_owned()))
                    .map_err(|_| format!("{value:?} is none of REDIRECT, TPROXY and NONE"))
            },
        );
        let status_port = match u16::try_from(proxy.status_port) {
            Ok(0) | Err(_) => settings.status_port,
            Ok(port) => port,
        };
        let wishes = Self {
            interception,
            status_port: reader.read(names::STATUS_PORT, status_port, port),
            readiness: readiness(&mut reader, settings),
            traffic: traffic(&mut reader, settings),
            volumes: reader.read(names::USER_VOLUME, Vec::new(), named),
            mounts: reader.read(names::USER_VOLUME_MOUNT, Vec::new(), named),
            hold: proxy
                .hold_application_until_proxy_starts
                .unwrap_or(settings.hold_application_until_proxy_starts),
            native: reader.read(names::NATIVE, settings.native_sidecars, boolean),
            rewrite_probes: reader.read(names::REWRITE_PROBES, settings.rewrite_app_probes, boolean),
            merge_metrics: reader.read(names::MERGE_METRICS, settings.merge_metrics, boolean),
            proxy_config,
            proxy,
        };
        if reader.errors.is_empty() {
            Ok(wishes)
        } else {
            Err(reader.errors)
        }
    }
}

/// ProxyConfig's default is REDIRECT, so only what is written there counts before the settings.
fn interception(written: &Value, proxy: &ProxyConfig, settings: &Settings) -> Interception {
    match (&proxy.interception_mode, settings.interception_mode) {
        (InboundInterceptionMode::Redirect, Some(mode)) if written.get("interceptionMode").is_none() => mode,
        (InboundInterceptionMode::Redirect, _) => Interception::Redirect,
        (InboundInterceptionMode::Tproxy, _) => Interception::Tproxy,
        (InboundInterceptionMode::None, _) => Interception::None,
    }
}

fn readiness(reader: &mut Reader<'_>, settings: &Settings) -> crate::settings::Readiness {
    let own = &settings.readiness;
    crate::settings::Readiness {
        initial_delay_seconds: reader.read(names::READINESS_DELAY, own.initial_delay_seconds, seconds),
        period_seconds: reader.read(names::READINESS_PERIOD, own.period_seconds, seconds),
        failure_threshold: reader.read(names::READINESS_FAILURES, own.failure_threshold, seconds),
    }
}

fn traffic(reader: &mut Reader<'_>, settings: &Settings) -> crate::settings::Traffic {
    let own = &settings.traffic;
    crate::settings::Traffic {
        include_ip_ranges: reader.text(names::INCLUDE_RANGES, &own.include_ip_ranges, or_all(ranges)),
        exclude_ip_ranges: reader.text(names::EXCLUDE_RANGES, &own.exclude_ip_ranges, ranges),
        include_inbound_ports: reader.text(names::INCLUDE_INBOUND, &own.include_inbound_ports, or_all(ports)),
        exclude_inbound_ports: reader.text(names::EXCLUDE_INBOUND, &own.exclude_inbound_ports, ports),
        include_outbound_ports: reader.text(
            names::INCLUDE_OUTBOUND,
            &own.include_outbound_ports,
            or_all(ports),
        ),
        exclude_outbound_ports: reader.text(names::EXCLUDE_OUTBOUND, &own.exclude_outbound_ports, ports),
    }
}

/// The mesh's ProxyConfig with the pod's laid over it: objects are merged, all else is replaced.
fn proxy_config(reader: &mut Reader<'_>, settings: &Settings) -> (Value, ProxyConfig) {
    let mut merged = settings.default_config.clone();
    let own = reader.read(names::PROXY_CONFIG, Value::Null, yaml);
    if let Value::Object(own) = own {
        json_patch::merge(&mut merged, &Value::Object(own));
    }
    match typed(&merged) {
        Ok(proxy) => (merged, proxy),
        Err(reason) => {
            reader.wrong(names::PROXY_CONFIG, reason);
            (merged, ProxyConfig::default())
        }
    }
}

/// What of a pod's own ProxyConfig nobody follows, each with a way out: what has no effect anywhere, and what is the mesh's alone.
pub(crate) fn unfollowed(text: &str) -> Vec<String> {
    let Ok(own) = yaml(text) else {
        return Vec::new();
    };
    let tracing = own
        .get("tracing")
        .map(|_| "tracing: is the mesh's, not one pod's; set it in MeshConfig's defaultConfig or in a Telemetry of the workload".to_owned());
    let parsed = as_mesh(&own);
    let told = parsed.findings.iter().filter(|finding| !finding.is_error());
    let named = told.map(|finding| {
        let path = finding.path.to_string();
        format!("{}: {}", field(&path), finding.message)
    });
    let all = tracing.into_iter().chain(named);
    all.map(|what| format!("annotation {}: {what}", names::PROXY_CONFIG))
        .collect()
}

/// A field's path within ProxyConfig.
fn field(path: &str) -> &str {
    path.trim_start_matches("spec.")
        .trim_start_matches("defaultConfig.")
}

/// A mapping of YAML or JSON; an empty text is an empty one.
fn yaml(text: &str) -> Result<Value, String> {
    let value: Value = serde_saphyr::from_str(text).map_err(|error| format!("not YAML: {error}"))?;
    match value {
        Value::Object(_) => Ok(value),
        Value::Null => Ok(Value::Object(Map::new())),
        _ => Err("not a mapping of ProxyConfig's fields".to_owned()),
    }
}

/// A ProxyConfig read as MeshConfig's own.
fn as_mesh(config: &Value) -> config::Parsed {
    let text = serde_json::json!({"defaultConfig": config}).to_string();
    config::parse_mesh_config("annotation", text.as_bytes(), "")
}

/// ProxyConfig by the rules of MeshConfig, which names what is wrong with it.
fn typed(config: &Value) -> Result<ProxyConfig, String> {
    let parsed = as_mesh(config);
    if let Some(error) = parsed.findings.iter().find(|finding| finding.is_error()) {
        let path = error.path.to_string();
        return Err(format!("{}: {}", field(&path), error.message));
    }
    let mesh = parsed.objects.into_iter().find_map(|object| match object.spec {
        config::Spec::MeshConfig(mesh) => Some(mesh),
        _ => None,
    });
    Ok(mesh.and_then(|mesh| mesh.default_config).unwrap_or_default())
}

/// `{"NAME": {…}}` as a list of what the names are for.
fn named<T: serde::de::DeserializeOwned>(text: &str) -> Result<Vec<T>, String> {
    let by_name: BTreeMap<String, Map<String, Value>> =
        serde_json::from_str(text).map_err(|error| format!("not a JSON object of objects: {error}"))?;
    let read = |(name, mut fields): (String, Map<String, Value>)| {
        fields.insert("name".to_owned(), Value::String(name.clone()));
        serde_json::from_value(Value::Object(fields)).map_err(|error| format!("{name}: {error}"))
    };
    by_name.into_iter().map(read).collect()
}

fn port(value: &str) -> Result<u16, String> {
    value
        .trim()
        .parse()
        .map_err(|_| format!("{value:?} is no port; write 0 to 65535"))
}

fn seconds(value: &str) -> Result<i32, String> {
    let number = value.parse::<i32>().ok().filter(|number| *number >= 0);
    number.ok_or_else(|| format!("{value:?} is not a whole number from 0 on"))
}

/// As Go's strconv.ParseBool, by which Istio reads these.
fn boolean(value: &str) -> Result<bool, String> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("{value:?} is neither true nor false")),
    }
}

fn ports(list: &str) -> Result<(), String> {
    each(list, |item| port(item).map(drop))
}

fn ranges(list: &str) -> Result<(), String> {
    each(list, |item| {
        let range = item.parse::<ipnet::IpNet>();
        range
            .map(drop)
            .map_err(|_| format!("{item:?} is no range such as 10.0.0.0/8"))
    })
}

fn or_all(check: impl Fn(&str) -> Result<(), String>) -> impl Fn(&str) -> Result<(), String> {
    move |list| if list == "*" { Ok(()) } else { check(list) }
}

/// A list with commas; an empty one is nothing.
fn each(list: &str, check: impl Fn(&str) -> Result<(), String>) -> Result<(), String> {
    match list.trim() {
        "" => Ok(()),
        list => list.split(',').try_for_each(check),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(pairs: &[(&str, &str)], settings: Value) -> Result<Wishes, Vec<WishError>> {
        let annotations = pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        Wishes::read(&annotations, &serde_json::from_value(settings).unwrap())
    }

    #[test]
    fn interception_is_the_annotations_then_proxy_configs_then_the_settings() {
        let check = |pairs: &[(&str, &str)], settings: Value, expected| {
            assert_eq!(read(pairs, settings).unwrap().interception, expected, "{pairs:?}");
        };
        let tproxy = || json!({"interceptionMode": "TPROXY"});
        check(&[], json!({}), Interception::Redirect);
        check(&[], tproxy(), Interception::Tproxy);
        check(
            &[(names::PROXY_CONFIG, "interceptionMode: REDIRECT")],
            tproxy(),
            Interception::Redirect,
        );
        check(
            &[(names::PROXY_CONFIG, "interceptionMode: TPROXY")],
            json!({}),
            Interception::Tproxy,
        );
        let both = [
            (names::PROXY_CONFIG, "interceptionMode: TPROXY"),
            (names::INTERCEPTION, "NONE"),
        ];
        check(&both, json!({}), Interception::None);
    }

    #[test]
    fn the_pods_proxy_config_lies_over_the_meshs() {
        let settings = json!({"defaultConfig": {"concurrency": 4, "proxyMetadata": {"A": "1", "B": "1"}}});
        let pairs = [(
            names::PROXY_CONFIG,
            "proxyMetadata:\n  B: \"2\"\nholdApplicationUntilProxyStarts: true\n",
        )];
        let wishes = read(&pairs, settings).unwrap();
        assert_eq!(wishes.proxy_config["concurrency"], 4);
        assert_eq!(wishes.proxy_config["proxyMetadata"], json!({"A": "1", "B": "2"}));
        assert!(wishes.hold);
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once_by_name() {
        let pairs = [
            (names::INTERCEPTION, "redirect"),
            (names::INCLUDE_RANGES, "10.0.0.0/8,10.0.0.1/33"),
            (names::EXCLUDE_INBOUND, "80,http"),
            (names::STATUS_PORT, "70000"),
            (names::READINESS_PERIOD, "-1"),
            (names::PROXY_CONFIG, "concurrency: many"),
            (names::USER_VOLUME, "[]"),
            (names::MERGE_METRICS, "maybe"),
        ];
        let errors = read(&pairs, json!({})).unwrap_err();
        let mut named: Vec<&str> = errors.iter().map(|error| error.name.as_str()).collect();
        named.sort_unstable();
        let mut expected: Vec<&str> = pairs.iter().map(|(name, _)| *name).collect();
        expected.sort_unstable();
        assert_eq!(named, expected);
        assert!(
            list(&errors).contains("\"10.0.0.1/33\" is no range"),
            "{}",
            list(&errors)
        );
    }

    #[test]
    fn what_is_passed_on_is_read_before() {
        let check = |name: &str, value: &str, words: &str| match read(&[(name, value)], json!({})) {
            Ok(_) => assert_eq!(words, "", "{name}: {value:?} is taken"),
            Err(errors) => {
                let text = list(&errors);
                assert!(
                    text.starts_with(&format!("annotation {name}: "))
                        && text.contains(words)
                        && !words.is_empty(),
                    "{name}: {value:?}: {text}"
                );
            }
        };
        for name in [names::CPU, names::CPU_LIMIT, names::MEMORY, names::MEMORY_LIMIT] {
            check(name, "100m", "");
            check(name, "much", "\"much\" is not a quantity such as 100m or 128Mi");
            check(name, "", "is not a quantity");
        }
        check(names::LOG_LEVEL, "debug", "");
        check(names::LOG_LEVEL, "loud", "none of trace, debug, info, warning");
        check(names::COMPONENT_LOG_LEVEL, "upstream:debug", "");
        check(
            names::COMPONENT_LOG_LEVEL,
            "upstream=debug",
            "such as upstream:debug",
        );
        check(names::AGENT_LOG_LEVEL, "info,xds=debug", "");
        check(
            names::AGENT_LOG_LEVEL,
            "loud",
            "use error, warn, info, debug, trace",
        );
        check(
            names::AGENT_LOG_LEVEL,
            "default:info",
            "use error, warn, info, debug, trace",
        );
        check(names::PROXY_IMAGE, "proxy:1.0", "");
        check(names::PROXY_IMAGE, "proxy 1.0", "is not an image");
        check(names::PROXY_IMAGE_TYPE, "debug", "");
        check(names::PROXY_IMAGE_TYPE, "de/bug", "is not the end of a tag");
        for name in [
            names::EXCLUDE_INTERFACES,
            names::VIRTUAL_INTERFACES,
            names::REROUTE_INTERFACES,
        ] {
            check(name, "eth1,tap+", "");
            check(name, "eth1;reboot", "is not the name of a network interface");
        }
        check(names::STATS_REGEXPS, "http.*", "");
        check(names::STATS_REGEXPS, "http(", "\"http(\": ");
    }

    #[test]
    fn volumes_and_mounts_are_named_by_their_keys() {
        let pairs = [
            (
                names::USER_VOLUME,
                r#"{"certs": {"secret": {"secretName": "certs"}}}"#,
            ),
            (
                names::USER_VOLUME_MOUNT,
                r#"{"certs": {"mountPath": "/etc/certs", "readOnly": true}}"#,
            ),
        ];
        let wishes = read(&pairs, json!({})).unwrap();
        assert_eq!(wishes.volumes.first().unwrap().name, "certs");
        assert_eq!(wishes.mounts.first().unwrap().mount_path, "/etc/certs");
    }
}
