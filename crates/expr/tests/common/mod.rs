//! How often properties are tried.
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    reason = "tests take their settings from the environment, and may fail loudly"
)]

use proptest::test_runner::Config;

/// As often as `ARGOSY_RANDOM_REQUESTS` says, as `make soak` sets it, or as is usual.
pub(crate) fn random() -> Config {
    let more = std::env::var("ARGOSY_RANDOM_REQUESTS").ok();
    let usual = Config::default().cases;
    let cases = more.map_or(usual, |text| text.parse().expect("ARGOSY_RANDOM_REQUESTS"));
    Config {
        failure_persistence: None,
        ..Config::with_cases(cases)
    }
}
