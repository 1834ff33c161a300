//! Rules that a proxy decides by itself, on a real Envoy: what Mixer would decide for random rules and requests, and no call.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::disallowed_methods,
    reason = "tests may fail loudly, and this one starts Envoys"
)]

#[path = "../support/mod.rs"]
mod support;

mod asked;
mod buckets;
mod ended;
mod gateways;
mod headers;
mod mesh;
mod quotas;
mod refusals;
mod reports;
mod rules;
