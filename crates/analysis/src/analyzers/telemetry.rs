//! Telemetries and the providers that they name, or do not name.

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
