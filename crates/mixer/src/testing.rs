//! The sample mesh as a state of the feed, for tests.

use std::sync::Arc;

use config::Object;
use feed::State;
use proptest::test_runner::Config;

pub(crate) const SAMPLE_MIXER: &str = include_str!("../../cli/src/sample/mixer.yaml");
pub(crate) const SAMPLE_SERVICES: &str = include_str!("../../cli/src/sample/services.yaml");
pub(crate) const SAMPLE_WORKLOADS: &str = include_str!("../../cli/src/sample/workloads.yaml");

/// The whole sample, as far as Mixer reads it, and beside it rules in CEL and for the engines, an HTTPAPISpec, and a gateway.
pub(crate) const RICH: [&str; 4] = [
    SAMPLE_MIXER,
    SAMPLE_SERVICES,
    SAMPLE_WORKLOADS,
    include_str!("../tests/data/rich.yaml"),
];

/// The objects of these texts. Panics when one is wrong.
pub(crate) fn state(texts: &[&str]) -> Arc<State> {
    let objects = texts.iter().flat_map(|text| {
        let parsed = config::parse("test.yaml", text.as_bytes(), "default");
        let errors: Vec<_> = parsed
            .findings
            .iter()
            .filter(|f| f.is_error())
            .map(ToString::to_string)
            .collect();
        assert!(errors.is_empty(), "{errors:?}");
        parsed.objects
    });
    let keyed = objects.map(|object: Object| (object.key(), Arc::new(object)));
    Arc::new(State {
        objects: keyed.collect(),
    })
}

/// How many random messages a property is tried with: `ARGOSY_RANDOM_REQUESTS`, as `make soak` sets it, or as many as given.
pub(crate) fn random(cases: u32) -> Config {
    let more = std::env::var("ARGOSY_RANDOM_REQUESTS")
        .ok()
        .and_then(|text| text.parse().ok());
    Config {
        failure_persistence: None,
        ..Config::with_cases(more.unwrap_or(cases))
    }
}
