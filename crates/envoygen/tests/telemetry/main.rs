//! The Telemetry API: what proxies log, count and trace, on a real Envoy.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests may fail loudly, and this one starts Envoys"
)]

#[path = "../support/mod.rs"]
mod support;

mod backends;
mod counts;
mod providers;
