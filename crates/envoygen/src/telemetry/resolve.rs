//! What the Telemetry objects of a workload ask for together, the later of them counting more (Istio, "Telemetry": providers of
//! a lower level replace those above, overrides of metrics add up, the rest of tracing is taken field by field).

use std::collections::{BTreeMap, BTreeSet};

use config::mesh::MeshConfig;
use config::telemetry::{
    AccessLogging, CustomTag, IstioMetric, MetricSelector, Mode, ModeSelector, ProviderRef, TagOperation,
    Telemetry,
};

use super::Side;

/// A log that is wanted.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Log<'a> {
    pub(super) provider: &'a str,
    /// CEL expression that chooses.
    pub(super) filter: Option<&'a str>,
}

/// The provider that MeshConfig has without being told: Istio's metrics on the proxy's own page.
const PROMETHEUS: &str = "prometheus";

/// The logs that are wanted, by provider; `None` where nobody says anything, so that `accessLogFile` counts.
pub(super) fn logs<'a>(specs: &[&'a Telemetry], mesh: &'a MeshConfig, side: Side) -> Option<Vec<Log<'a>>> {
    let defaults: Vec<&str> = mesh
        .default_providers
        .iter()
        .flat_map(|d| &d.access_logging)
        .map(String::as_str)
        .collect();
    let levels: Vec<&[AccessLogging]> = specs
        .iter()
        .map(|spec| spec.access_logging.as_slice())
        .filter(|level| !level.is_empty())
        .collect();
    if levels.is_empty() {
        let plain = |provider| Log {
            provider,
            filter: None,
        };
        return (!defaults.is_empty()).then(|| defaults.into_iter().map(plain).collect());
    }
    let mut in_scope: BTreeSet<&str> = defaults.iter().copied().collect();
    let mut filters: BTreeMap<&str, Option<&str>> = BTreeMap::new();
    for level in &levels {
        let own: Vec<&AccessLogging> = level
            .iter()
            .filter(|l| concerns(l.r#match.as_ref(), side))
            .collect();
        let mut named = BTreeSet::new();
        for logging in own {
            let filter = logging.filter.as_ref().map(|f| f.expression.as_str());
            for name in names(&logging.providers) {
                named.insert(name);
                filters.insert(name, filter);
            }
        }
        if !named.is_empty() {
            in_scope = named;
        }
    }
    let mut parents = defaults;
    let mut wanted: BTreeMap<&str, bool> = BTreeMap::new();
    for logging in levels.into_iter().flatten() {
        if !logging.providers.is_empty() {
            parents = names(&logging.providers).collect();
        }
        if concerns(logging.r#match.as_ref(), side) {
            let on = logging.disabled != Some(true);
            wanted.extend(
                parents
                    .iter()
                    .filter(|name| in_scope.contains(*name))
                    .map(|name| (*name, on)),
            );
        }
    }
    let on = wanted.into_iter().filter(|(_, on)| *on);
    let log = |(provider, _)| Log {
        provider,
        filter: filters.get(provider).copied().flatten(),
    };
    Some(on.map(log).collect())
}

/// The metrics that are wanted, and what is changed of each.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Metrics {
    pub(super) changes: BTreeMap<&'static str, Change>,
}

/// What is changed of one metric.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Change {
    pub(super) disabled: bool,
    /// By tag: a CEL expression, or none for a tag that is left out.
    pub(super) tags: BTreeMap<String, Option<String>>,
}

/// The metrics for Prometheus, if any are wanted, and the names of providers that cannot give metrics.
pub(super) fn metrics(specs: &[&Telemetry], mesh: &MeshConfig, side: Side) -> (Option<Metrics>, Vec<String>) {
    let is_prometheus = |name: &str| {
        let known = mesh.extension_providers.iter().find(|p| p.name == name);
        known.map_or(name == PROMETHEUS, |p| p.prometheus.is_some())
    };
    let defaults: Vec<&str> = match &mesh.default_providers {
        Some(given) if !given.metrics.is_empty() => given.metrics.iter().map(String::as_str).collect(),
        _ => vec![PROMETHEUS],
    };
    let levels: Vec<_> = specs.iter().flat_map(|spec| &spec.metrics).collect();
    let last = levels.iter().rev().find(|level| !level.providers.is_empty());
    let in_scope: Vec<&str> =
        last.map_or_else(|| defaults.clone(), |level| names(&level.providers).collect());
    let unserved = in_scope
        .iter()
        .filter(|name| !is_prometheus(name))
        .map(|name| (*name).to_owned())
        .collect();
    let Some(own) = in_scope.iter().find(|name| is_prometheus(name)) else {
        return (None, unserved);
    };
    let (mut all_off, mut out, mut parents) = (false, Metrics::default(), defaults);
    for level in levels {
        if !level.providers.is_empty() {
            parents = names(&level.providers).collect();
        }
        if !parents.contains(own) {
            continue;
        }
        for change in level
            .overrides
            .iter()
            .filter(|c| is_for(c.r#match.as_ref(), side))
        {
            let metrics = chosen(change.r#match.as_ref());
            if metrics.len() == METRICS.len() && change.disabled == Some(true) {
                all_off = true;
                continue;
            }
            all_off = false;
            for metric in metrics {
                let slot = out.changes.entry(metric).or_default();
                slot.disabled = change.disabled.unwrap_or(slot.disabled);
                slot.tags.extend(change.tag_overrides.iter().map(|(tag, change)| {
                    let value = (change.operation == TagOperation::Upsert).then(|| change.value.clone());
                    (tag.clone(), value)
                }));
            }
        }
    }
    ((!all_off).then_some(out), unserved)
}

/// Istio's metrics by the names that they have here, in the order of its API.
const METRICS: [(&str, IstioMetric); 10] = [
    ("requests_total", IstioMetric::RequestCount),
    ("request_duration_milliseconds", IstioMetric::RequestDuration),
    ("request_bytes", IstioMetric::RequestSize),
    ("response_bytes", IstioMetric::ResponseSize),
    ("tcp_connections_opened_total", IstioMetric::TcpOpenedConnections),
    ("tcp_connections_closed_total", IstioMetric::TcpClosedConnections),
    ("tcp_sent_bytes_total", IstioMetric::TcpSentBytes),
    ("tcp_received_bytes_total", IstioMetric::TcpReceivedBytes),
    ("request_messages_total", IstioMetric::GrpcRequestMessages),
    ("response_messages_total", IstioMetric::GrpcResponseMessages),
];

/// The metrics that an override is about; a custom one is not among Istio's.
fn chosen(selector: Option<&MetricSelector>) -> Vec<&'static str> {
    let all = METRICS.iter().map(|(name, _)| *name);
    match selector {
        None => all.collect(),
        Some(s) => match (&s.metric, &s.custom_metric) {
            (_, Some(custom)) => all
                .filter(|name| custom.trim_start_matches("istio_") == *name)
                .collect(),
            (None | Some(IstioMetric::AllMetrics), None) => all.collect(),
            (Some(one), None) => METRICS
                .iter()
                .filter(|(_, metric)| metric == one)
                .map(|(name, _)| *name)
                .collect(),
        },
    }
}

/// How requests are traced.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tracing<'a> {
    pub(super) provider: Option<&'a str>,
    pub(super) disabled: bool,
    /// Percent; none where nobody says.
    pub(super) sampling: Option<f64>,
    pub(super) tags: &'a BTreeMap<String, CustomTag>,
    pub(super) by_request_id: bool,
    pub(super) istio_tags: bool,
    pub(super) no_propagation: bool,
}

static NO_TAGS: BTreeMap<String, CustomTag> = BTreeMap::new();

/// The tracer that MeshConfig's `defaultConfig` describes, where `enableTracing` asks for it.
pub(super) const PROXY_CONFIG: &str = "defaultConfig.tracing";

/// How requests are traced; `None` where nobody says anything.
pub(super) fn tracing<'a>(specs: &[&'a Telemetry], mesh: &'a MeshConfig, side: Side) -> Option<Tracing<'a>> {
    let named = mesh.default_providers.as_ref().and_then(|d| d.tracing.first());
    let default = named
        .map(String::as_str)
        .or(mesh.enable_tracing.then_some(PROXY_CONFIG));
    let levels: Vec<_> = specs.iter().flat_map(|spec| &spec.tracing).collect();
    if levels.is_empty() && default.is_none() {
        return None;
    }
    let mut out = Tracing {
        provider: default,
        disabled: false,
        sampling: None,
        tags: &NO_TAGS,
        by_request_id: true,
        istio_tags: true,
        no_propagation: false,
    };
    for level in levels
        .into_iter()
        .filter(|level| concerns(level.r#match.as_ref(), side))
    {
        // Envoy has one tracer for each listener; of several the first counts (Istio).
        out.provider = names(&level.providers).next().or(out.provider);
        out.disabled = level.disable_span_reporting.unwrap_or(out.disabled);
        out.sampling = level.random_sampling_percentage.or(out.sampling);
        if !level.custom_tags.is_empty() {
            out.tags = &level.custom_tags;
        }
        out.by_request_id = level
            .use_request_id_for_trace_sampling
            .unwrap_or(out.by_request_id);
        out.istio_tags = level.enable_istio_tags.unwrap_or(out.istio_tags);
        out.no_propagation = level.disable_context_propagation.unwrap_or(out.no_propagation);
    }
    Some(out)
}

fn names(providers: &[ProviderRef]) -> impl Iterator<Item = &str> {
    providers.iter().map(|provider| provider.name.as_str())
}

fn concerns(selector: Option<&ModeSelector>, side: Side) -> bool {
    selector.is_none_or(|selector| is_side(selector.mode, side))
}

fn is_for(selector: Option<&MetricSelector>, side: Side) -> bool {
    selector.is_none_or(|selector| is_side(selector.mode, side))
}

fn is_side(mode: Mode, side: Side) -> bool {
    match mode {
        Mode::ClientAndServer => true,
        Mode::Client => side == Side::Client,
        Mode::Server => side == Side::Server,
    }
}

#[cfg(test)]
mod tests {
    use config::Spec;

    use super::*;

    /// Telemetry specs given as YAML in flow style, the one that counts least first.
    fn parse(specs: &[&str]) -> Vec<Telemetry> {
        let read = |spec: &&str| {
            let text = format!(
                "{{apiVersion: telemetry.istio.io/v1, kind: Telemetry, metadata: {{name: x, namespace: ns}}, spec: {spec}}}"
            );
            let parsed = config::parse("t.yaml", text.as_bytes(), "ns");
            match parsed.objects.into_iter().next().map(|object| object.spec) {
                Some(Spec::Telemetry(spec)) => (*spec).clone(),
                other => panic!("{other:?} {:?}", parsed.findings),
            }
        };
        specs.iter().map(read).collect()
    }

    fn mesh(default_logs: &[&str]) -> MeshConfig {
        let default_providers = Some(config::mesh::DefaultProviders {
            access_logging: default_logs.iter().map(|name| (*name).to_owned()).collect(),
            ..Default::default()
        });
        MeshConfig {
            default_providers,
            ..Default::default()
        }
    }

    /// Checks which logs a client has: providers with their filters.
    fn check_logs(defaults: &[&str], specs: &[&str], expected: Option<&[(&str, Option<&str>)]>) {
        let (specs, mesh) = (parse(specs), mesh(defaults));
        let refs: Vec<&Telemetry> = specs.iter().collect();
        let found = logs(&refs, &mesh, Side::Client);
        let found = found.map(|logs| {
            logs.into_iter()
                .map(|log| (log.provider, log.filter))
                .collect::<Vec<_>>()
        });
        assert_eq!(found.as_deref(), expected, "{specs:?}");
    }

    #[test]
    fn logs_are_inherited() {
        check_logs(&[], &[], None);
        check_logs(&["a"], &[], Some(&[("a", None)]));
        check_logs(&["a"], &["{accessLogging: [{disabled: true}]}"], Some(&[]));
        let own = "{accessLogging: [{providers: [{name: b}], filter: {expression: 'response.code >= 400'}}]}";
        check_logs(&["a"], &[own], Some(&[("b", Some("response.code >= 400"))]));
        check_logs(
            &["a"],
            &[own, "{accessLogging: [{providers: [{name: c}]}]}"],
            Some(&[("c", None)]),
        );
        check_logs(&["a"], &[own, "{accessLogging: [{disabled: true}]}"], Some(&[]));
        check_logs(
            &["a"],
            &["{accessLogging: [{match: {mode: SERVER}, disabled: true}]}"],
            Some(&[]),
        );
        check_logs(
            &["a"],
            &["{accessLogging: [{match: {mode: SERVER}, disabled: true}, {match: {mode: CLIENT}}]}"],
            Some(&[("a", None)]),
        );
    }

    /// Checks the changes of a server's metrics; none if there are no metrics.
    fn check_metrics(specs: &[&str], expected: Option<&[(&str, bool, &str)]>) {
        let specs = parse(specs);
        let refs: Vec<&Telemetry> = specs.iter().collect();
        let (found, _) = metrics(&refs, &MeshConfig::default(), Side::Server);
        let found: Option<Vec<_>> = found.map(|metrics| {
            let shown = |(name, change): (&&'static str, &Change)| {
                (*name, change.disabled, format!("{:?}", change.tags))
            };
            metrics.changes.iter().map(shown).collect()
        });
        let expected: Option<Vec<_>> =
            expected.map(|all| all.iter().map(|(n, d, t)| (*n, *d, (*t).to_owned())).collect());
        assert_eq!(found, expected, "{specs:?}");
    }

    #[test]
    fn metrics_are_on_and_overrides_add_up() {
        check_metrics(&[], Some(&[]));
        let off = "{metrics: [{providers: [{name: prometheus}], overrides: [{match: {metric: ALL_METRICS}, disabled: true}]}]}";
        check_metrics(&[off], None);
        check_metrics(
            &["{metrics: [{overrides: [{match: {mode: CLIENT}, disabled: true}]}]}"],
            Some(&[]),
        );
        let tag = "{metrics: [{overrides: [{match: {metric: REQUEST_COUNT, mode: SERVER}, tagOverrides: {x: {value: request.host}, y: {operation: REMOVE}}}]}]}";
        let expected: &[_] = &[(
            "requests_total",
            false,
            r#"{"x": Some("request.host"), "y": None}"#,
        )];
        check_metrics(&[tag], Some(expected));
        check_metrics(&[off, tag], Some(expected));
        let less = "{metrics: [{overrides: [{match: {metric: REQUEST_COUNT}, disabled: true}]}]}";
        check_metrics(
            &[tag, less],
            Some(&[(
                "requests_total",
                true,
                r#"{"x": Some("request.host"), "y": None}"#,
            )]),
        );
        check_metrics(&["{metrics: [{providers: [{name: stackdriver}]}]}"], None);
    }

    #[test]
    fn tracing_is_taken_field_by_field() {
        let specs = parse(&[
            "{tracing: [{providers: [{name: zipkin}], randomSamplingPercentage: 10}]}",
            "{tracing: [{match: {mode: CLIENT}, disableSpanReporting: true}, {customTags: {a: {literal: {value: b}}}}]}",
        ]);
        let refs: Vec<&Telemetry> = specs.iter().collect();
        let mesh = MeshConfig::default();
        let seen = |side| {
            let found = tracing(&refs, &mesh, side).unwrap();
            (found.provider, found.sampling, found.disabled, found.tags.len())
        };
        assert_eq!(seen(Side::Client), (Some("zipkin"), Some(10.0), true, 1));
        assert_eq!(seen(Side::Server), (Some("zipkin"), Some(10.0), false, 1));
        assert_eq!(tracing(&[], &mesh, Side::Client), None);
    }
}
