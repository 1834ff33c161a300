//! Telemetries and the providers that they name, or do not name.

use config::telemetry::ProviderRef;
use config::{Kind, Object, Spec};

use crate::analyzer::Check;
use crate::{Analyzer, Code, Report, Set};

/// Whether access logging has a provider.
pub(crate) const PROVIDERS: Analyzer = Analyzer::new(
    "telemetry.ProviderAnalyzer",
    "Access logging without a provider",
    &[Code::InvalidTelemetryProvider],
    &[Kind::Telemetry, Kind::MeshConfig],
    Check::Each(&[Kind::Telemetry], providers),
);

/// Whether the providers that are named exist.
pub(crate) const UNKNOWN: Analyzer = Analyzer::new(
    "telemetry.UnknownProviderAnalyzer",
    "Telemetries and defaults that name a provider that there is not",
    &[Code::UnknownTelemetryProvider],
    &[Kind::Telemetry, Kind::MeshConfig],
    Check::Each(&[Kind::Telemetry, Kind::MeshConfig], unknown),
);

/// Providers that are there without being told (Istio, "MeshConfig.ExtensionProvider").
const BUILT_IN: [&str; 2] = ["envoy", "prometheus"];

/// Whether traces go to Lightstep, which OpenTelemetry replaces.
pub(crate) const LIGHTSTEP: Analyzer = Analyzer::new(
    "telemetry.LightstepAnalyzer",
    "Traces that go to Lightstep",
    &[Code::Deprecated],
    &[Kind::Telemetry, Kind::MeshConfig],
    Check::Each(&[Kind::Telemetry], lightstep),
);

fn providers(set: &Set<'_>, object: &Object, report: &mut Report) {
    let Spec::Telemetry(telemetry) = &object.spec else {
        return;
    };
    let defaults = set.mesh().default_providers.as_ref();
    if defaults.is_some_and(|defaults| !defaults.access_logging.is_empty()) {
        return;
    }
    let without = telemetry
        .access_logging
        .iter()
        .position(|logging| logging.disabled != Some(true) && logging.providers.is_empty());
    if let Some(index) = without {
        let path = format!("spec.accessLogging[{index}].providers");
        let meta = &object.meta;
        let code = Code::InvalidTelemetryProvider;
        report.say(code, object, path, &[&meta.name, &meta.namespace]);
    }
}

fn lightstep(set: &Set<'_>, object: &Object, report: &mut Report) {
    let Spec::Telemetry(telemetry) = &object.spec else {
        return;
    };
    let providers = set.mesh().extension_providers.iter();
    let old: Vec<&str> = providers
        .filter(|provider| provider.lightstep.is_some())
        .map(|provider| provider.name.as_str())
        .collect();
    let used = telemetry.tracing.iter().flat_map(|tracing| &tracing.providers);
    for provider in used.filter(|provider| old.contains(&provider.name.as_str())) {
        let what = format!(
            "provider {} is Lightstep's; OpenTelemetry replaces it",
            provider.name
        );
        report.say(Code::Deprecated, object, "spec.tracing", &[&what]);
    }
}

fn unknown(set: &Set<'_>, object: &Object, report: &mut Report) {
    let known = |name: &str| {
        let mut given = set.mesh().extension_providers.iter();
        BUILT_IN.contains(&name) || given.any(|provider| provider.name == name)
    };
    for (path, name) in named(&object.spec) {
        if !known(name) {
            report.say(Code::UnknownTelemetryProvider, object, path, &[&name]);
        }
    }
}

/// The providers that an object names, each with its path.
fn named(spec: &Spec) -> Vec<(String, &str)> {
    match spec {
        Spec::Telemetry(telemetry) => {
            let tracing = telemetry.tracing.iter().map(|one| &one.providers);
            let metrics = telemetry.metrics.iter().map(|one| &one.providers);
            let logs = telemetry.access_logging.iter().map(|one| &one.providers);
            let all = listed("spec.tracing", tracing).chain(listed("spec.metrics", metrics));
            all.chain(listed("spec.accessLogging", logs)).collect()
        }
        Spec::MeshConfig(mesh) => {
            let defaults = mesh.default_providers.iter();
            let lists = defaults.flat_map(|defaults| {
                [
                    ("tracing", &defaults.tracing),
                    ("metrics", &defaults.metrics),
                    ("accessLogging", &defaults.access_logging),
                ]
            });
            let path = |field, index| format!("spec.defaultProviders.{field}[{index}]");
            lists
                .flat_map(|(field, names)| {
                    let names = names.iter().enumerate();
                    names.map(move |(index, name)| (path(field, index), name.as_str()))
                })
                .collect()
        }
        _ => Vec::new(),
    }
}

/// The providers of each entry of a list.
fn listed<'a>(
    field: &'static str,
    entries: impl Iterator<Item = &'a Vec<ProviderRef>>,
) -> impl Iterator<Item = (String, &'a str)> {
    entries.enumerate().flat_map(move |(entry, providers)| {
        let path = move |index| format!("{field}[{entry}].providers[{index}].name");
        let providers = providers.iter().enumerate();
        providers.map(move |(index, provider)| (path(index), provider.name.as_str()))
    })
}
